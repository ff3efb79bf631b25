# Sourced by ./test: the book of what was run and how it ended.
# Needs: say.sh. Counts ctest tests and stages; the last line of ./test is made of these counts.

passed=0
failed=0
stage_rows=()        # "name<TAB>outcome<TAB>seconds<TAB>note"
skipped_lines=()     # single tests that said they skip, and why
declare -A stage_outcome=()

# stage_end NAME OUTCOME SECONDS NOTE: outcome is passed, failed or skipped. A skipped stage counts as neither.
stage_end() {
  stage_outcome[$1]=$2
  stage_rows+=("$1"$'\t'"$2"$'\t'"$3"$'\t'"$4")
  case "$2" in
    passed) passed=$((passed + 1)) ;;
    failed) failed=$((failed + 1)) ;;
  esac
  printf '%-7s %-7s %7s s  %s\n' "$1" "$2" "$3" "$4"
}

# ctest_count LOG FROM_LINE: adds what one ctest run reported to the counts and to counted_note; collects the names
# of failed tests and, from the output of the tests, those that were skipped inside with their reasons.
counted_total=0
counted_failed=0
counted_names=
ctest_count() {
  local log=$1 from=$2 line total=0 bad=0
  line=$(tail -n "+$from" "$log" | grep -aE '^[0-9]+% tests passed, [0-9]+ tests? failed out of [0-9]+' | tail -n 1)
  if [[ $line =~ ^[0-9]+%\ tests\ passed,\ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+) ]]; then
    bad=${BASH_REMATCH[1]}
    total=${BASH_REMATCH[2]}
  fi
  counted_total=$((counted_total + total))
  counted_failed=$((counted_failed + bad))
  passed=$((passed + total - bad))
  failed=$((failed + bad))
  line=$(tail -n "+$from" "$log" | sed -n '/^The following tests FAILED:/,/^[^[:space:]]/s/^[[:space:]]*[0-9]* - \([^ ]*\) .*/\1/p' | tr '\n' ' ')
  counted_names+=$line
}

# skips_collect FOLDER STAGE: GoogleTest and ctest both let a program pass whose tests were skipped; say which.
skips_collect() {
  local log=$1/Testing/Temporary/LastTest.log line
  [ -f "$log" ] || return 0
  while IFS= read -r line; do
    skipped_lines+=("$2: $line")
  done < <(awk '
    /^\[ RUN      \]/ { reason = ""; next }
    /^\[  SKIPPED \] .*\([0-9]+ ms\)/ {
      name = $0; sub(/^\[  SKIPPED \] /, "", name); sub(/ \([0-9]+ ms\).*/, "", name)
      print name (reason == "" ? "" : ": " reason); reason = ""; next }
    /: Skipped$/ { wait = 1; next }
    wait { reason = $0; wait = 0 }' "$log")
}

# Prints the table and the last line; returns 1 if anything failed.
stages_report() {
  local row name outcome seconds note
  printf '\n%-8s %-8s %9s  %s\n' stage outcome seconds note
  for row in "${stage_rows[@]}"; do
    IFS=$'\t' read -r name outcome seconds note <<<"$row"
    printf '%-8s %-8s %9s  %s\n' "$name" "$outcome" "$seconds" "$note"
  done
  if [ ${#skipped_lines[@]} -gt 0 ]; then
    printf '\nSkipped on this machine:\n'
    printf '  %s\n' "${skipped_lines[@]}" | sort -u
  fi
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}

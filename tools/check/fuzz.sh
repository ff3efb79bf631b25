#!/bin/bash
# fuzz.sh FOLDER SECONDS LOGS fuzz/NAME...: runs libFuzzer programs of the build folder FOLDER, two at a time.
#
# NAME_fuzz must find nothing in SECONDS. NAME_fuzz_canary is the same fuzzer over code with a planted bug, and must
# find it: a fuzzer that can't find its canary would find nothing else either, so a fuzzer without one fails.
# Seeds are read from a folder corpus/NAME_fuzz beside the fuzzer's source, words of the input's language from
# NAME_fuzz.dict there; what a run learns stays in FOLDER/corpus.
# Prints one line a program, "ok ..." or "not ok ...".
set -u
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
folder=$1
seconds=$2
logs=$3
shift 3
# The time in which a canary must be found. They are found in a few seconds; a slow machine may take longer.
canary_seconds=120

# fuzz_one fuzz/NAME
fuzz_one() {
  local name=${1##*/} log status fuzzer learned finds seeds executed crash
  fuzzer=${name%_canary}
  log=$logs/$name.log
  learned=$folder/corpus/$name
  finds=$folder/finds/$name
  rm -rf "$finds"
  mkdir -p "$learned" "$finds"
  mapfile -t seeds < <(find "$root/bailey" "$root/bench" "$root/tools" -type d -path "*/corpus/$fuzzer" 2>/dev/null)
  local words dictionary=()
  words=$(find "$root/bailey" "$root/bench" "$root/tools" -name "$fuzzer.dict" -print -quit 2>/dev/null)
  [ -z "$words" ] || dictionary=("-dict=$words")
  local limit=$seconds
  [ "$name" = "$fuzzer" ] || limit=$canary_seconds
  "$folder/fuzz/$name" -max_total_time="$limit" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    ${dictionary[@]+"${dictionary[@]}"} -artifact_prefix="$finds/" "$learned" ${seeds[@]+"${seeds[@]}"} >"$log" 2>&1
  status=$?
  crash=$(find "$finds" -name 'crash-*' -print -quit)
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  if [ "$name" != "$fuzzer" ]; then
    # A canary starts from the seeds alone each time: an input found once must not make the next run's proof for it.
    rm -rf "$learned"
    if [ $status != 0 ] && [ -n "$crash" ]; then
      echo "ok canary $name: found"
    else
      echo "not ok canary $name: its bug was not found in $limit s (status $status); $log"
    fi
  elif [ $status != 0 ]; then
    echo "not ok fuzzer $name: status $status; input in $(find "$finds" -type f -print -quit); $log"
  elif [ "${executed:-0}" -lt 100 ]; then
    echo "not ok fuzzer $name: executed only ${executed:-0} inputs in $limit s; $log"
  elif [ ! -x "$folder/fuzz/${name}_canary" ]; then
    echo "not ok fuzzer $name: has no canary; add a program ${name}_canary with a planted bug"
  else
    echo "ok fuzzer $name: $executed inputs in $limit s"
  fi
}

results=$(mktemp "$logs/fuzz-results.XXXXXX")
for program in "$@"; do
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
  fuzz_one "$program" >>"$results" &
done
wait
cat "$results"
total=$(wc -l <"$results")
good=$(grep -c '^ok ' "$results")
rm -f "$results"
[ "$total" = $# ] && [ "$good" = $# ]

# Sourced by ./run and ./test: runs one long command with its output in a log, and builds presets.
# Needs: root, say.sh.

work_group=          # process group of the command that runs now; empty: none
work_line=           # 1: a progress line stands on the terminal

# A user without a usable home (as in a container) still gets a compiler cache.
if [ -z "${CCACHE_DIR:-}" ] && [ ! -w "${HOME:-/nonexistent}" ]; then
  export CCACHE_DIR="$root/build/.ccache"
fi

work_clear_line() {
  [ -z "$work_line" ] || printf '\r\033[K' >&2
  work_line=
}

# Ends the command that runs, and all that it started in its process group.
work_stop() {
  local patience=50
  [ -n "$work_group" ] || return 0
  kill -TERM -- "-$work_group" 2>/dev/null
  while kill -0 -- "-$work_group" 2>/dev/null && [ $patience -gt 0 ]; do
    patience=$((patience - 1))
    sleep 0.1
  done
  kill -KILL -- "-$work_group" 2>/dev/null
  work_group=
}

work_interrupted() {
  trap '' INT TERM HUP
  work_clear_line
  work_stop
  say "${0##*/}: interrupted; all that it had started was stopped."
  exit 130
}
trap work_interrupted INT TERM HUP

# work_run LABEL LOG COMMAND...: appends the output to LOG, shows LABEL and ninja's or ctest's counter on a
# terminal, returns the command's status. The command is a process group of its own, so that an interrupt at any
# moment reaches all of it, also when only this script gets the signal.
work_run() {
  local label=$1 log=$2 status last
  shift 2
  set -m
  "$@" >>"$log" 2>&1 </dev/null 9>&- &
  work_group=$!
  set +m
  if [ -t 2 ]; then
    while kill -0 "$work_group" 2>/dev/null; do
      last=$(tail -c 2000 "$log" | grep -aoE '^\[[0-9]+/[0-9]+\]|^ *[0-9]+/[0-9]+ Test' | tail -n 1)
      printf '\r\033[K%s %s' "$label" "${last% Test}" >&2
      work_line=1
      sleep 0.3
    done
  fi
  wait "$work_group"
  status=$?
  work_clear_line
  # What the command left behind in its group (a test's helper that hung) ends with it.
  if kill -0 -- "-$work_group" 2>/dev/null; then work_stop; fi
  work_group=
  return $status
}

# The folder in which a preset builds.
preset_folder() {
  case "$1" in
    release) printf '%s/build' "$root" ;;
    *) printf '%s/build-%s' "$root" "$1" ;;
  esac
}

# preset_configure PRESET LOG [-D...]: a folder that came from another place (a copied checkout) is configured anew.
preset_configure() {
  local preset=$1 log=$2 folder fresh=() home
  shift 2
  folder=$(preset_folder "$preset")
  if [ -e "$folder" ] && [ ! -w "$folder" ]; then
    say "$folder belongs to $(stat -c %U "$folder"), and $(id -un) can't write there. Remove it as its owner, or use a checkout of your own."
    return 1
  fi
  if [ -f "$folder/CMakeCache.txt" ]; then
    home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$folder/CMakeCache.txt")
    [ "$home" = "$root" ] || fresh=(--fresh)
  fi
  work_run "configuring $preset" "$log" cmake -S "$root" ${fresh[@]+"${fresh[@]}"} --preset "$preset" "$@"
}

# preset_build PRESET LOG [TARGET...]
preset_build() {
  local preset=$1 log=$2
  shift 2
  work_run "building $preset" "$log" ninja -C "$(preset_folder "$preset")" -j "$(nproc)" "$@"
}

#!/bin/bash
# Fails when a C or C++ file of the tree isn't formatted as .clang-format says, and names the command that does it.
set -u
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
cd "$root" || exit 1
mapfile -d '' -t files < <(
  for room in bailey bench tools adapters attack lab docs packaging; do
    [ ! -d "$room" ] || find "$room" -type f \( -name '*.h' -o -name '*.cc' -o -name '*.c' \) -print0
  done
)
if [ ${#files[@]} = 0 ]; then
  echo "format: found no C or C++ file under $root"
  exit 1
fi
bad=()
for file in "${files[@]}"; do
  clang-format-19 --dry-run -Werror "$file" 2>/dev/null || bad+=("$file")
done
if [ ${#bad[@]} -gt 0 ]; then
  echo "Not formatted. Run: clang-format-19 -i ${bad[*]}"
  exit 1
fi
echo "${#files[@]} files are formatted"

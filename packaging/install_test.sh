#!/bin/sh
# Installs a build into a folder of its own and compiles the examples of a page against it, as a user would: through
# find_package and through pkg-config, in C++ and in C, and with headers alone. Then looks at what the library exports.
#
#   install_test.sh BUILD_DIR PAGE
set -eu
build=$1
page=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log" 2>&1 || {
  cat "$work/install.log"
  exit 1
}

# The fenced block right after `<!-- example: NAME -->`.
extract() {
  awk -v mark="<!-- example: $1 -->" '
    $0 == mark { armed = 1; next }
    armed && !inside && /^```/ { inside = 1; next }
    armed && !inside { armed = 0 }
    inside && /^```/ { exit }
    inside { print }' "$page" >"$work/$1"
  [ -s "$work/$1" ] || {
    echo "$page has no block marked <!-- example: $1 -->"
    exit 1
  }
}
extract put.cpp
extract put.c
extract frames.cpp

# Runs without a broker: it must say so, and end by itself.
run() {
  if said=$(BAILEY_SOCKET=$work/nobody/broker.sock LD_LIBRARY_PATH=$prefix_lib "$1" 2>&1); then
    echo "$1 succeeded without a broker"
    exit 1
  elif [ $? -gt 128 ]; then
    echo "$1 died by a signal: $said"
    exit 1
  fi
  case $said in
  *"broker away"*) ;;
  *)
    echo "$1 did not say that the broker is away, but: $said"
    exit 1
    ;;
  esac
}
library=$(find "$prefix" -name 'libbailey.so.0')
[ -n "$library" ] || {
  echo "libbailey.so.0 is not installed"
  exit 1
}
prefix_lib=$(dirname "$library")

echo "through pkg-config"
PKG_CONFIG_PATH=$prefix_lib/pkgconfig
export PKG_CONFIG_PATH
# The test installs elsewhere than was configured: bailey.pc finds itself.
flags=$(pkg-config --cflags --libs bailey)
# shellcheck disable=SC2086
c++ -std=c++23 -Wall -Wextra -Werror "$work/put.cpp" $flags -o "$work/put-cpp"
# shellcheck disable=SC2086
cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/put.c" $flags -o "$work/put-c"
# shellcheck disable=SC2086
c++ -std=c++23 -Wall -Wextra -Werror "$work/frames.cpp" $flags -o "$work/frames"
run "$work/frames"
run "$work/put-cpp"
run "$work/put-c"

echo "through find_package"
mkdir "$work/cpp" "$work/c"
cat >"$work/cpp/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES CXX)
find_package(bailey 0.1 REQUIRED)
add_executable(put ../put.cpp)
target_link_libraries(put bailey::bailey)
END
cat >"$work/c/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES C)
find_package(bailey 0.1 REQUIRED)
add_executable(put ../put.c)
target_link_libraries(put bailey::bailey)
END
for language in cpp c; do
  {
    cmake -S "$work/$language" -B "$work/$language/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release &&
      cmake --build "$work/$language/build"
  } >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
  }
  run "$work/$language/build/put"
done

echo "each header alone"
(cd "$prefix/include" && find . -name '*.h') | while read -r header; do
  echo "#include <$header>" >"$work/alone.cpp"
  c++ -std=c++23 -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" "$work/alone.cpp"
done
echo "#include <bailey/session/bailey.h>" >"$work/alone.c"
cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" "$work/alone.c"

echo "what the library exports"
nm -D --defined-only "$library" | c++filt >"$work/exports"
if foreign=$(grep -E 'google::|fmt::|spdlog::|bailey::(protocol|crypto|wire)' "$work/exports" | grep -v 'bailey::session'); then
  echo "the library exports what is not ours to give:"
  echo "$foreign"
  exit 1
fi
grep -q 'bailey_put' "$work/exports"
grep -q 'bailey::session::Session::connect' "$work/exports"
echo "ok"

# Sourced by ./test: which tests run under which sanitizer. The one place to add a name; CMake's test names.
#
# asan (with undefined): everything that reads bytes which another party can write.
# tsan: tests whose threads share one buffer. Tests that fork add nothing there: TSan does not see across processes.

asan_tests=(
  base_test policy_test crypto_test capability_test codec_test kinds_test heap_test table_test hostile_test
  attack_test
)
tsan_tests=(
  table_tsan_test
)

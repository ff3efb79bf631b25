# Sourced by ./test: which tests run under which sanitizer. The one place to add a name; CMake's test names.
#
# asan (with undefined): everything that reads bytes which another party can write.
# tsan: tests whose threads share one buffer. Tests that fork add nothing there: TSan does not see across processes.

asan_tests=(
  base_test medium_test policy_test crypto_test protocol_test pool_test kinds_test
  table_test heap_test hostile_test lincheck_test
)
tsan_tests=(
  table_tsan_test
)

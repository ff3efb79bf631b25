// An ordinary program that has in its code what the scanner looks for: strict_ordinary WHAT.
//
//   mended      calls a function over a distance whose bytes are those of WRPKRU; status 42
//   threads     works in threads with the least of stacks and leaves them
//   late        loads a library after the start (dlopen); status 0 where that failed
#include <dlfcn.h>
#include <pthread.h>

#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstring>

// From the end of the call back to `bailey_far`: 0xffef010f.
asm(R"(
  .text
  .balign 16
  .type bailey_far, @function
bailey_far:
  movl $42, %eax
  ret
  .skip 0x10feec - 6, 0x90
  .globl bailey_far_call
  .type bailey_far_call, @function
bailey_far_call:
  .byte 0xe8
  .long bailey_far - . - 4
  ret
)");
extern "C" int bailey_far_call();

int main(int count, char** arguments) {
  if (count != 2) return 2;
  if (std::strcmp(arguments[1], "mended") == 0) return bailey_far_call();
  if (std::strcmp(arguments[1], "threads") == 0) {
    pthread_t threads[4];
    pthread_attr_t with_little;
    if (::pthread_attr_init(&with_little) != 0 ||
        ::pthread_attr_setstacksize(&with_little, static_cast<std::size_t>(PTHREAD_STACK_MIN)) != 0)
      return 1;
    for (pthread_t& one : threads)
      if (::pthread_create(&one, &with_little, [](void* nothing) { return nothing; }, nullptr) != 0) return 1;
    for (pthread_t& one : threads) ::pthread_join(one, nullptr);
    return 0;
  }
  if (std::strcmp(arguments[1], "late") == 0) {
    void* library = ::dlopen("libm.so.6", RTLD_NOW);
    std::puts(library == nullptr ? ::dlerror() : "loaded");
    return library == nullptr ? 0 : 1;
  }
  return 2;
}

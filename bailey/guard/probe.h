// Touching memory that may be closed: for tests, and for the attack suite.
#pragma once

#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "bailey/guard/gate.h"
#include "bailey/guard/keys.h"

namespace bailey::guard {

// What the kernel said of one access; 0: it went through.
class Probe {
 public:
  static int load(const void* at) {
    return touch([at] { static_cast<void>(*static_cast<const volatile std::byte*>(at)); });
  }
  static int store(void* at) {
    return touch([at] { *static_cast<volatile std::byte*>(at) = std::byte{1}; });
  }

 private:
  template <class Access>
  static int touch(Access&& access) {
    struct sigaction ours{}, before{};
    ours.sa_sigaction = &Probe::on_fault;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGSEGV, &ours, &before);
    sigjmp_buf* const outer = back_;
    sigjmp_buf back;
    volatile int code = 0;
    if (sigsetjmp(back, 1) == 0) {
      back_ = &back;
      access();
    } else {
      code = code_;
    }
    back_ = outer;
    ::sigaction(SIGSEGV, &before, nullptr);
    return code;
  }
  static void on_fault(int, siginfo_t* info, void*) {
    code_ = info->si_code;
    siglongjmp(*back_, 1);
  }
  static inline thread_local sigjmp_buf* back_ = nullptr;
  static inline thread_local int code_ = 0;
};

// A key of that name and a page of a file that carries it; the page's first byte is `content`.
struct Room {
  explicit Room(const std::string& name, char content = 'x') {
    Fd file(::memfd_create("room", MFD_CLOEXEC));
    if (!file || ::ftruncate(file.get(), 4096) != 0 || ::pwrite(file.get(), &content, 1, 0) != 1)
      std::abort();
    auto named = Key::named(name);
    if (!named) std::abort();
    key = *named;
    auto mapped = map_guarded(key, file.get(), 4096, Access::read_write);
    if (!mapped) std::abort();
    pages = std::move(*mapped);
    pin = std::make_unique<Pin>(key);
  }
  volatile char& byte() const { return *reinterpret_cast<volatile char*>(pages.data()); }

  std::shared_ptr<Key> key;
  Mapping pages;
  std::unique_ptr<Pin> pin;
};

// The flags that the kernel keeps for the mapping at an address: " dd " is not dumped, " lo " locked.
inline std::string mapping_flags(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool within = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &from, &to) == 2) {
      auto at = reinterpret_cast<unsigned long>(address);
      within = from <= at && at < to;
    } else if (within && line.starts_with("VmFlags:")) {
      return line + " ";
    }
  }
  return {};
}

// Where the program itself writes PKRU.
inline std::vector<const unsigned char*> writes_of_pkru() {
  std::vector<const unsigned char*> writes;
  ::dl_iterate_phdr(
      [](dl_phdr_info* about, std::size_t, void* found) {
        if (about->dlpi_name[0] != '\0') return 0;  // the program itself
        for (int i = 0; i < about->dlpi_phnum; ++i) {
          const auto& part = about->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
          const auto* from = reinterpret_cast<const unsigned char*>(about->dlpi_addr + part.p_vaddr);
          for (std::size_t at = 0; at + 3 <= part.p_memsz; ++at)
            if (from[at] == 0x0f && from[at + 1] == 0x01 && from[at + 2] == 0xef)
              static_cast<std::vector<const unsigned char*>*>(found)->push_back(from + at);
        }
        return 0;
      },
      &writes);
  return writes;
}

// The status with which a forked child that does this ends; EXPECT_DEATH without the second start.
template <class Act>
int in_child(Act&& act) {
  pid_t child = ::fork();
  if (child == 0) {
    act();
    ::_exit(0);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return -1;
  return status;
}

}  // namespace bailey::guard

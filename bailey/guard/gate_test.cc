// Gates on a processor that has protection keys; elsewhere what says that it has none.
#include "bailey/guard/gate.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

#include "bailey/guard/test_support.h"

namespace bailey::guard {
namespace {

TEST(Gate, OutsideOfItALoadAndAStoreAreFaultsOfTheKey) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room room("a");
  EXPECT_EQ(Probe::load(room.pages.data()), SEGV_PKUERR);
  EXPECT_EQ(Probe::store(room.pages.data()), SEGV_PKUERR);
  {
    Gate gate(*room.pin);
    ASSERT_TRUE(gate.opened());
    EXPECT_EQ(room.byte(), 'x');
    room.byte() = 'y';
    EXPECT_EQ(room.byte(), 'y');
  }
  EXPECT_EQ(Probe::load(room.pages.data()), SEGV_PKUERR);
  EXPECT_EQ(Probe::store(room.pages.data()), SEGV_PKUERR);
}

TEST(Gate, ClosesOnEveryPathOut) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room room("a");
  auto early = [&] {
    Gate gate(*room.pin);
    if (room.byte() == 'x') return 1;
    return 2;
  };
  EXPECT_EQ(early(), 1);
  EXPECT_EQ(Probe::load(room.pages.data()), SEGV_PKUERR);
  try {
    Gate gate(*room.pin);
    if (room.byte() == 'x') throw std::runtime_error("out");
  } catch (const std::runtime_error&) {
    EXPECT_EQ(Probe::load(room.pages.data()), SEGV_PKUERR);
  }
  EXPECT_EQ(Probe::load(room.pages.data()), SEGV_PKUERR);
}

TEST(Gate, NestsForOneKeyAndForTwo) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room a("a"), b("b");
  Pin other_of_a(a.key);
  Gate outer(*a.pin);
  {
    Gate of_b(*b.pin);
    EXPECT_EQ(b.byte(), 'x');
    {
      Gate inner(other_of_a);
      EXPECT_EQ(a.byte(), 'x');
      EXPECT_EQ(b.byte(), 'x');
    }
    EXPECT_EQ(a.byte(), 'x');
    EXPECT_EQ(b.byte(), 'x');
  }
  EXPECT_EQ(a.byte(), 'x');
  // A jump back out of the handler's frame closes all: the last look.
  EXPECT_EQ(Probe::load(b.pages.data()), SEGV_PKUERR);
}

TEST(Gate, ClosedWithinItAllIsClosedAndAGateOpens) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room a("a"), b("b");
  Gate outer(*b.pin);
  Gate gate(*a.pin);
  {
    Closed closed;
    EXPECT_EQ(Probe::load(a.pages.data()), SEGV_PKUERR);
    EXPECT_EQ(Probe::load(b.pages.data()), SEGV_PKUERR);
    {
      Gate again(*a.pin);
      EXPECT_EQ(a.byte(), 'x');
    }
    EXPECT_EQ(Probe::load(a.pages.data()), SEGV_PKUERR);
  }
  EXPECT_EQ(a.byte(), 'x');
  EXPECT_EQ(b.byte(), 'x');
}

// The kernel enters a handler with all keys closed, and gives the thread its own back.
Room* of_handler = nullptr;
volatile int seen_by_handler = -1;
TEST(Gate, ASignalHandlerHasNothingOpenAndTheThreadHasItAgainAfterwards) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room room("a");
  of_handler = &room;
  struct sigaction ours{}, before{};
  ours.sa_handler = [](int) { seen_by_handler = Probe::load(of_handler->pages.data()); };
  ::sigaction(SIGUSR1, &ours, &before);
  {
    Gate gate(*room.pin);
    EXPECT_EQ(room.byte(), 'x');
    ::raise(SIGUSR1);
    EXPECT_EQ(seen_by_handler, SEGV_PKUERR);
    EXPECT_EQ(room.byte(), 'x');
  }
  ::sigaction(SIGUSR1, &before, nullptr);
}

// Not stopped by the kernel: clone() copies the register. This library starts no thread in a gate.
TEST(Gate, AThreadBornInItHasItOpenUntilItsFirstGateIsClosed) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room a("a"), b("b");
  int born = -1, after = -1;
  std::thread thread;
  {
    Gate gate(*a.pin);
    thread = std::thread([&] {
      born = Probe::load(a.pages.data());
      { Gate own(*b.pin); }
      after = Probe::load(a.pages.data());
    });
    thread.join();
  }
  EXPECT_EQ(born, 0);
  EXPECT_EQ(after, SEGV_PKUERR);
}

TEST(Gate, AThreadBornOutsideHasNothingOpen) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room room("a");
  int seen = -1;
  std::atomic<bool> go = false;
  std::thread thread([&] {
    while (!go) std::this_thread::yield();
    seen = Probe::load(room.pages.data());
  });
  {
    Gate gate(*room.pin);
    go = true;
    thread.join();
    EXPECT_EQ(room.byte(), 'x');
  }
  EXPECT_EQ(seen, SEGV_PKUERR);
}

[[gnu::noinline]] void jump_out(Pin& pin, jmp_buf& back) {
  Gate gate(pin);
  longjmp(back, 1);
}
TEST(Gate, AJumpOutOfItEndsTheProcessAtTheNext) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  int status = in_child([] {
    Room room("child");
    jmp_buf back;
    if (setjmp(back) == 0) jump_out(*room.pin, back);
    jump_out(*room.pin, back);
  });
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
}

// Every WRPKRU of the program, entered with a register that opens all: what is read back is not what was
// meant.
TEST(Gate, AJumpToWhereItWritesEndsTheProcess) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  const auto writes = writes_of_pkru();
  ASSERT_FALSE(writes.empty());
  for (const unsigned char* write : writes) {
    int status = in_child([write] {
      Room room("child");
      { Gate gate(*room.pin); }
      asm volatile("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; jmp *%0" : : "b"(write) : "memory");
    });
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
    EXPECT_EQ(WTERMSIG(status), SIGABRT);
  }
}

}  // namespace
}  // namespace bailey::guard

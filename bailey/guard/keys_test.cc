// Keys on a processor that has them: more regions than hardware keys, moves, forks. Elsewhere: the refusal.
#include "bailey/guard/keys.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "bailey/guard/gate.h"
#include "bailey/guard/test_support.h"
#include "bailey/guard/window.h"

namespace bailey::guard {
namespace {

constexpr int regions = 40;  // far more than there are hardware keys

std::deque<Room> rooms(int count) {
  std::deque<Room> made;
  for (int i = 0; i < count; ++i)
    made.emplace_back("region " + std::to_string(i), static_cast<char>('A' + i));
  return made;
}

// A processor that has protection keys says so to the kernel, and so to whoever reads /proc/cpuinfo.
TEST(Keys, AreThereOrTheReasonIsSaid) {
  auto there = available();
  auto named = Key::named("a");
  EXPECT_EQ(there.has_value(), named.has_value());
  auto about = read_file("/proc/cpuinfo", 16 << 20);
  ASSERT_TRUE(about);
  bool ospke = about->find(" ospke") != std::string::npos;
#ifndef __SANITIZE_THREAD__
  EXPECT_EQ(there.has_value(), ospke) << (there ? "" : there.error().message);
#endif
  if (there) return;
  EXPECT_EQ(there.error().code, Code::unsupported);
  EXPECT_EQ(named.error().message, there.error().message);
  if (!ospke) {
    EXPECT_NE(there.error().message.find("protection keys"), std::string::npos);
  }
}

TEST(Keys, OneNameIsOneKeyAsLongAsSomebodyHasIt) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  auto a = Key::named("a"), again = Key::named("a"), b = Key::named("b");
  EXPECT_EQ(*a, *again);
  EXPECT_NE(*a, *b);
}

TEST(Keys, MoreRegionsThanHardwareKeysAreEachOpenInTheirOwnGateAlone) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  auto all = rooms(regions);
  for (int round = 0; round < 3; ++round)
    for (int i = 0; i < regions; ++i) {
      {
        Gate gate(*all[i].pin);
        ASSERT_TRUE(gate.opened());
        ASSERT_EQ(all[i].byte(), static_cast<char>('A' + i));
      }
      Gate gate(*all[i].pin);
      ASSERT_TRUE(gate.opened());
      for (int other : {0, (i + 1) % regions, (i + regions - 1) % regions, (i + 15) % regions}) {
        if (other == i) continue;
        Gate again(*all[i].pin);  // the fault's jump closes all
        ASSERT_EQ(Probe::load(all[other].pages.data()), SEGV_PKUERR) << i << " opens " << other;
      }
    }
}

// Opens gates of all, one in the other, until one is refused. How many were opened.
int open_all(std::deque<Room>& all, std::size_t next, const std::function<void(const Error&)>& at_the_end) {
  if (next == all.size()) return 0;
  Gate gate(*all[next].pin);
  if (!gate.opened()) {
    at_the_end(gate.refused().error());
    return 0;
  }
  EXPECT_EQ(all[next].byte(), static_cast<char>('A' + next));
  return 1 + open_all(all, next + 1, at_the_end);
}

TEST(Keys, OneGateMoreThanThereAreHardwareKeysIsRefusedAndTheOthersStand) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  auto all = rooms(20);
  int refusals = 0;
  int opened = open_all(all, 0, [&](const Error& error) {
    ++refusals;
    EXPECT_EQ(error.code, Code::busy);
    EXPECT_NE(error.message.find("no more protection keys"), std::string::npos) << error.message;
    for (int i = 0; i < 10; ++i) EXPECT_EQ(all[i].byte(), static_cast<char>('A' + i));
  });
  EXPECT_EQ(opened, 14);
  EXPECT_EQ(refusals, 1);
  Gate gate(*all[19].pin);
  EXPECT_TRUE(gate.opened());
}

TEST(Keys, MoveOnlyWhileNoThreadHasTheirGateOpen) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  auto all = rooms(regions);
  std::atomic<bool> stop = false, wrong = false;
  std::atomic<long> looks = 0;
  std::vector<std::thread> threads;
  // One stands in its gate all the time, two go in and out, of keys that the others take from them.
  threads.emplace_back([&] {
    Gate gate(*all[0].pin);
    while (!stop) {
      wrong = wrong || all[0].byte() != 'A';
      ++looks;
    }
  });
  for (int seed : {1, 2})
    threads.emplace_back([&, seed] {
      unsigned random = static_cast<unsigned>(seed) * 2654435761u;
      std::deque<Pin> own;
      for (Room& room : all) own.emplace_back(room.key);
      while (!stop) {
        unsigned i = (random = random * 1664525u + 1013904223u) >> 16;
        Gate gate(own[i % regions]);
        wrong = wrong || !gate.opened() || all[i % regions].byte() != static_cast<char>('A' + i % regions);
        ++looks;
      }
    });
  while (looks < 20000) std::this_thread::yield();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(wrong);
}

TEST(Keys, ThatNobodyHasIsNotReusedWhileAPageCarriesIt) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  auto kept = std::make_unique<Room>("kept", 'k');
  {
    Gate gate(*kept->pin);
    EXPECT_EQ(kept->byte(), 'k');
  }
  Mapping pages = std::move(kept->pages);
  kept.reset();
  auto all = rooms(20);
  for (Room& room : all) {
    Gate gate(*room.pin);
    ASSERT_TRUE(gate.opened());
    EXPECT_EQ(Probe::load(pages.data()), SEGV_PKUERR);
  }
}

TEST(Keys, WhatIsUnmappedIsNobodysAndTheNextThereIsClosed) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  std::byte* at = nullptr;
  {
    Room room("a");
    at = room.pages.data();
    Gate gate(*room.pin);
    EXPECT_EQ(room.byte(), 'x');
    room.pages.reset();
    EXPECT_EQ(Probe::load(at), SEGV_ACCERR);
  }
  Room next("b");
  EXPECT_EQ(next.pages.data(), at);
  EXPECT_EQ(Probe::load(at), SEGV_PKUERR);
}

TEST(Keys, AForkedChildHasNoneOfThePagesAndMapsItsOwn) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room room("a");
  {
    Gate gate(*room.pin);
    EXPECT_EQ(room.byte(), 'x');
  }
  int status = in_child([&] {
    if (Probe::load(room.pages.data()) != SEGV_ACCERR) ::_exit(1);
    room.pages.reset();
    auto all = rooms(20);
    for (Room& own : all) {
      Gate gate(*own.pin);
      if (!gate.opened()) ::_exit(2);
      if (own.byte() == '\0') ::_exit(3);
    }
    // The addresses are reserved all the same.
    if (::mmap(reinterpret_cast<void*>(window_base + window_bytes / 2), 4096, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED)
      ::_exit(4);
  });
  EXPECT_EQ(status, 0);
  Gate gate(*room.pin);
  EXPECT_EQ(room.byte(), 'x');
}

TEST(Keys, AFileThatCannotBeMappedIsRefusedAndItsPlaceIsFree) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  auto key = Key::named("a");
  ASSERT_TRUE(key);
  Fd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FALSE(map_guarded(*key, folder.get(), 4096, Access::read_only));
  EXPECT_FALSE(map_guarded(*key, folder.get(), 0, Access::read_only));
  Room room("b");
  Gate gate(*room.pin);
  EXPECT_EQ(room.byte(), 'x');
}

}  // namespace
}  // namespace bailey::guard

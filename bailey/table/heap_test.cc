#include "bailey/table/heap.h"

#include <gtest/gtest.h>

#include <set>

#include "bailey/base/fd.h"
#include "bailey/pool/plain.h"

namespace bailey::table {
namespace {

TEST(Classes, TheSmallestThatFits) {
  for (std::uint64_t bytes = 1; bytes <= block_bytes_max; ++bytes) {
    unsigned cls = class_of(bytes);
    ASSERT_GE(class_bytes[cls], bytes);
    if (cls > 1) {
      ASSERT_LT(class_bytes[cls - 1], bytes);
    }
  }
  EXPECT_EQ(class_of(block_bytes_max + 1), BAILEY_CLASS_RUN);
}

TEST(Classes, ExactlyTheMultiplesStartABlock) {
  for (unsigned cls = 1; cls <= class_count; ++cls)
    for (std::uint32_t at = 0; at < BAILEY_PAGE_BYTES; at += 16)
      ASSERT_EQ(starts_block(cls, at),
                at % class_bytes[cls] == 0 && at + class_bytes[cls] <= BAILEY_PAGE_BYTES);
}

std::optional<OwnBlock> take(Heap& heap, std::uint64_t bytes) {
  OwnBlock block;
  return heap.allocate(bytes, block) ? std::optional(block) : std::nullopt;
}

struct HeapTest : testing::Test {
  HeapTest() {
    pool::PlainOptions options;
    options.index_bytes = 4096;
    memory = std::move(*Mapping::anonymous(pool::PlainPool::bytes_for(options, 4)));
    pool.emplace(std::move(*pool::PlainPool::format(memory.span(), options)));
    view = std::move(*pool->view(true));
  }
  // What the writer does between allocate and release.
  static void complete(const OwnBlock& block, std::uint64_t version) {
    medium::store_release(reinterpret_cast<Word*>(block.record), record_word(version));
  }
  Mapping memory;
  std::optional<pool::PlainPool> pool;
  std::unique_ptr<pool::View> view;
};

TEST_F(HeapTest, BlocksDoNotOverlap) {
  Heap heap(*view, false);
  ASSERT_TRUE(heap.grow(1));
  std::set<std::byte*> ends;
  std::vector<std::pair<std::byte*, std::byte*>> spans;
  for (std::uint64_t bytes = 40; bytes < 60'000; bytes = bytes * 3 / 2) {
    auto block = take(heap, bytes);
    if (!block) {
      ASSERT_TRUE(heap.grow(bytes));
      block = take(heap, bytes);
    }
    ASSERT_TRUE(block);
    for (auto [from, to] : spans) ASSERT_TRUE(block->record >= to || block->record + block->bytes <= from);
    spans.emplace_back(block->record, block->record + block->bytes);
  }
}

TEST_F(HeapTest, AnAnnouncedBlockStaysInLimbo) {
  Heap heap(*view, true);
  ASSERT_TRUE(heap.grow(1));
  auto block = take(heap, 100);
  complete(*block, 1);
  heap.release(block->place);
  heap.drain({block->place});
  EXPECT_EQ(heap.limbo(), 1u);
  heap.drain({});
  EXPECT_EQ(heap.limbo(), 0u);
  EXPECT_EQ(take(heap, 100)->place, block->place);
}

TEST_F(HeapTest, AReleasedRecordIsBusy) {
  Heap heap(*view, true);
  ASSERT_TRUE(heap.grow(1));
  auto block = take(heap, 100);
  complete(*block, 1);
  heap.release(block->place);
  EXPECT_TRUE(busy(*reinterpret_cast<Word*>(block->record)));
}

TEST_F(HeapTest, EmptyPagesServeOtherClassesWithABusyWordAtEveryPlace) {
  Heap heap(*view, false);
  ASSERT_TRUE(heap.grow(1));
  std::vector<OwnBlock> blocks;
  while (auto block = take(heap, 64)) {
    std::fill_n(block->record, block->bytes,
                std::byte{0x42});  // even: looks like complete record words everywhere
    complete(*block, 1);
    blocks.push_back(*block);
  }
  EXPECT_FALSE(take(heap, 300));
  for (auto& block : blocks) heap.release(block.place);
  EXPECT_GT(heap.trim(), 10u);
  auto other = take(heap, 300);
  ASSERT_TRUE(other);
  heap.for_each_complete([](Word place) { FAIL() << place; });
  EXPECT_FALSE(heap.owns(other->place + 1));
  EXPECT_TRUE(heap.owns(other->place));
}

TEST_F(HeapTest, APagesCounterGrowsWithEachClass) {
  Heap heap(*view, false);
  ASSERT_TRUE(heap.grow(1));
  auto counter = [&] {
    return medium::load_acquire(page_words(view->extent(1))) >> BAILEY_PAGE_WORD_COUNTER_SHIFT;
  };
  auto run = take(heap, 65536 * 10);
  ASSERT_TRUE(run);
  Word first = counter();
  complete(*run, 1);
  heap.release(run->place);
  auto again = take(heap, 65536 * 10);
  EXPECT_GT(counter(), first);
  EXPECT_TRUE(again);
}

TEST_F(HeapTest, TheSparsestPageIsEmptiedAndTrimmed) {
  Heap heap(*view, false);
  ASSERT_TRUE(heap.grow(1));
  std::vector<OwnBlock> blocks;
  while (auto block = take(heap, 1000)) {
    complete(*block, 1);
    blocks.push_back(*block);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (i % 4 != 0) heap.release(blocks[i].place);
  EXPECT_EQ(heap.trim(), 0u);
  auto live = heap.sparsest_pages(1);
  ASSERT_TRUE(live);
  for (Word place : *live) {
    auto to = take(heap, 1000);
    ASSERT_TRUE(to);
    complete(*to, 2);
    heap.release(place);
  }
  EXPECT_GE(heap.trim(), 1u);
  EXPECT_TRUE(take(heap, 300));
}

TEST_F(HeapTest, AnEmptySegmentCanBeGivenBackButNotTheDesks) {
  Heap heap(*view, false);
  ASSERT_TRUE(heap.grow(1));
  ASSERT_TRUE(heap.grow(1));
  auto empty = heap.empty_segments();
  ASSERT_EQ(empty.size(), 1u);
  ASSERT_TRUE(view->retire(empty[0]));
  heap.forget(empty[0]);
  EXPECT_EQ(heap.segments(), 1u);
  EXPECT_EQ(pool->segments_in_use(), 1u);
}

}  // namespace
}  // namespace bailey::table

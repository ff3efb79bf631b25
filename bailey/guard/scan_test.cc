#include "bailey/guard/scan.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "bailey/guard/pkru.h"

namespace bailey::guard {
namespace {

using Bytes = std::vector<unsigned char>;

std::vector<Found> all(const Bytes& code) {
  std::vector<Found> found;
  for (Found one = next_switch(code.data(), code.size(), 0); one.what != Switch::none;
       one = next_switch(code.data(), code.size(), one.at + 1))
    found.push_back(one);
  return found;
}

constexpr std::size_t page = 4096;

TEST(Scan, FindsBothAtEveryOffsetAcrossPageBorders) {
  for (const auto& [bytes, what] : {std::pair{Bytes{0x0f, 0x01, 0xef}, Switch::wrpkru},
                                    std::pair{Bytes{0x0f, 0xae, 0x2f}, Switch::xrstor}})
    for (std::size_t at :
         {std::size_t{0}, std::size_t{1}, page - 3, page - 2, page - 1, page, 2 * page - 3}) {
      Bytes code(2 * page, 0x90);
      std::memcpy(code.data() + at, bytes.data(), bytes.size());
      const auto found = all(code);
      ASSERT_EQ(found.size(), 1u) << at;
      EXPECT_EQ(found[0].at, at);
      EXPECT_EQ(found[0].what, what);
      EXPECT_EQ(found[0].known, Known::no);
    }
}

TEST(Scan, SaysNothingOfWhatDoesNotEndWithinTheBytes) {
  EXPECT_TRUE(all({}).empty());
  EXPECT_TRUE(all({0x0f}).empty());
  EXPECT_TRUE(all({0x0f, 0x01}).empty());
  EXPECT_EQ(next_switch(nullptr, 0, 7).what, Switch::none);
}

TEST(Scan, TakesEachFormOfXrstorAndNothingBesideIt) {
  for (unsigned modrm = 0; modrm < 256; ++modrm) {
    const bool xrstor = (modrm >> 3 & 7) == 5 && modrm < 0xc0;  // from 0xe8 on it is LFENCE
    EXPECT_EQ(all({0x0f, 0xae, static_cast<unsigned char>(modrm)}).size(), xrstor ? 1u : 0u) << modrm;
    EXPECT_EQ(all({0x0f, 0x01, static_cast<unsigned char>(modrm)}).size(), modrm == 0xef ? 1u : 0u) << modrm;
  }
}

// The rule once more, as the manual of the processor has it, over bytes that hit often.
TEST(Scan, AgreesWithTheRuleOnRandomBytes) {
  std::mt19937 random(7);
  const std::array<unsigned char, 8> likely{0x0f, 0x01, 0xef, 0xae, 0x2f, 0x6c, 0xee, 0x31};
  for (int round = 0; round < 200; ++round) {
    Bytes code(300);
    for (unsigned char& byte : code) byte = likely[random() % likely.size()];
    std::vector<std::size_t> expected, got;
    for (std::size_t i = 0; i + 2 < code.size(); ++i)
      if (code[i] == 0x0f &&
          ((code[i + 1] == 0x01 && code[i + 2] == 0xef) ||
           (code[i + 1] == 0xae && (code[i + 2] & 0x38) == 0x28 && (code[i + 2] & 0xc0) != 0xc0)))
        expected.push_back(i);
    for (const Found& found : all(code)) got.push_back(found.at);
    ASSERT_EQ(got, expected);
  }
}

TEST(Scan, KnowsTheGateByItsMark) {
  // The function as it is compiled here: up to its return, within these bytes.
  static void (*volatile gate)(std::uint32_t) = &write_pkru;
  const auto* begin = reinterpret_cast<const unsigned char*>(gate);
  Bytes code(begin, begin + 48);
  auto found = all(code);
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].what, Switch::wrpkru);
  EXPECT_EQ(found[0].known, Known::gate);
  // With another byte of the mark, and where the bytes end before it does.
  const std::size_t mark_end = found[0].at + 11;
  for (std::size_t i = found[0].at + 3; i < mark_end; ++i) {
    Bytes spoiled = code;
    spoiled[i] ^= 1;
    EXPECT_EQ(all(spoiled)[0].known, Known::no) << i;
  }
  code.resize(mark_end - 1);
  EXPECT_EQ(all(code)[0].known, Known::no);
}

TEST(Scan, KnowsThoseOfGlibcAndTakesThemAway) {
  const Bytes pkey_set{0x09, 0xf0, 0x0f, 0x01, 0xef, 0x31, 0xc0, 0xc3};
  const Bytes lazy{0xb8, 0xee, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x6c, 0x24, 0x40};
  for (const auto& [code, known] :
       {std::pair{pkey_set, Known::pkey_set}, std::pair{lazy, Known::lazy_bound}}) {
    auto found = all(code);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].known, known);
    Bytes disarmed = code;
    disarm(disarmed.data(), found[0]);
    EXPECT_TRUE(all(disarmed).empty());
    EXPECT_EQ(disarmed[found[0].at], 0x0f);
    EXPECT_EQ(disarmed[found[0].at + 1], 0x0b);
    for (std::size_t i = 0; i < code.size(); ++i) {
      if (i >= found[0].at && i < found[0].at + 2) continue;
      Bytes other = code;
      other[i] ^= 1;
      for (const Found& one : all(other)) EXPECT_EQ(one.known, Known::no) << i;
    }
  }
}

}  // namespace
}  // namespace bailey::guard

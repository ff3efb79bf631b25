#include "bailey/policy/size.h"

#include <gtest/gtest.h>

namespace bailey::policy {
namespace {

TEST(Size, ReadsEveryUnit) {
  EXPECT_EQ(*parse_size("4096"), 4096u);
  EXPECT_EQ(*parse_size("0"), 0u);
  EXPECT_EQ(*parse_size("7B"), 7u);
  EXPECT_EQ(*parse_size("3KiB"), 3072u);
  EXPECT_EQ(*parse_size("256MiB"), 256u << 20);
  EXPECT_EQ(*parse_size("4GiB"), std::uint64_t{4} << 30);
  EXPECT_EQ(*parse_size("2TiB"), std::uint64_t{2} << 40);
  EXPECT_EQ(*parse_size("18446744073709551615"), UINT64_MAX);
}

TEST(Size, RefusesWithWhatWasMeant) {
  struct Case {
    const char* text;
    const char* message;
    const char* remedy;
  };
  const char* form = "write a whole number and one of B, KiB, MiB, GiB, TiB, such as \"256MiB\"";
  const Case cases[] = {
      {"", "the size is empty", form},
      {"MiB", "\"MiB\" is not a size", form},
      {"-4MiB", "the size \"-4MiB\" is negative", form},
      {"+4MiB", "\"+4MiB\" is not a size", form},
      {"256MB", "the size \"256MB\" has no known unit", "did you mean \"256MiB\"?"},
      {"256 MiB", "the size \"256 MiB\" has no known unit", "did you mean \"256MiB\"?"},
      {"1g", "the size \"1g\" has no known unit", "did you mean \"1GiB\"?"},
      {"5PiB", "the size \"5PiB\" has no known unit", form},
      {"1.5GiB", "the size \"1.5GiB\" has a fraction",
       "use a smaller unit, such as \"1536MiB\" for one and a half GiB"},
      {"18446744073709551616", "the size \"18446744073709551616\" is more than 64 bits can count",
       "the largest size is below 16777216TiB"},
      {"16777216TiB", "the size \"16777216TiB\" is more than 64 bits can count",
       "the largest size is below 16777216TiB"},
      {"99999999999999999999999999999GiB",
       "the size \"99999999999999999999999999999GiB\" is more than 64 bits can count",
       "the largest size is below 16777216TiB"},
  };
  for (const Case& one : cases) {
    auto size = parse_size(one.text);
    ASSERT_FALSE(size) << one.text;
    EXPECT_EQ(size.error().code, Code::invalid_argument);
    EXPECT_EQ(size.error().message, one.message);
    EXPECT_EQ(size.error().remedy, one.remedy) << one.text;
  }
}

TEST(Size, TextReadsBackAsTheSameNumber) {
  EXPECT_EQ(size_text(std::uint64_t{256} << 20), "256MiB");
  EXPECT_EQ(size_text(1000), "1000B");
  EXPECT_EQ(size_text(0), "0B");
  for (unsigned shift = 0; shift < 64; ++shift)
    for (std::uint64_t delta : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX}) {
      std::uint64_t bytes = (std::uint64_t{1} << shift) + delta;
      EXPECT_EQ(*parse_size(size_text(bytes)), bytes);
    }
}

TEST(Size, IsRoundedDownForPeople) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(17), "17 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(std::uint64_t{256} << 20), "256 MiB");
  EXPECT_EQ(format_size((std::uint64_t{3} << 29) - 1), "1.4 GiB");
  EXPECT_EQ(format_size(UINT64_MAX), "16777215.9 TiB");
}

}  // namespace
}  // namespace bailey::policy

#include "bailey/policy/suggest.h"

#include <gtest/gtest.h>

#include <vector>

namespace bailey::policy {
namespace {

TEST(Suggest, CountsSingleMistakes) {
  EXPECT_EQ(edit_distance("size", "size"), 0u);
  EXPECT_EQ(edit_distance("size", "SIZE"), 0u);
  EXPECT_EQ(edit_distance("sise", "size"), 1u);
  EXPECT_EQ(edit_distance("szie", "size"), 1u);
  EXPECT_EQ(edit_distance("siz", "size"), 1u);
  EXPECT_EQ(edit_distance("sizee", "size"), 1u);
  EXPECT_EQ(edit_distance("", "size"), 4u);
  EXPECT_EQ(edit_distance(std::string(65, 'a'), "a"), 65u);
}

TEST(Suggest, FindsTheNearestAndNothingFar) {
  const std::vector<std::string> known = {"kind", "size", "mode", "records", "quota", "protect"};
  EXPECT_EQ(suggestion("sise", known), "did you mean \"size\"?");
  EXPECT_EQ(suggestion("protection", known), "did you mean \"protect\"?");
  EXPECT_EQ(suggestion("colour", known),
            "known: \"kind\", \"size\", \"mode\", \"records\", \"quota\", \"protect\"");
  EXPECT_EQ(nearest("x", std::vector<std::string>{"y"}), "");
  EXPECT_EQ(suggestion("colour", std::vector<std::string>(13, "other")), "");
  EXPECT_EQ(suggestion("a", std::vector<std::string>{}), "");
}

TEST(Suggest, ShowsNoControlCharacters) {
  EXPECT_EQ(suggestion("ab", std::vector<std::string>{"a\x1b"}), "did you mean \"a\\x1b\"?");
}

}  // namespace
}  // namespace bailey::policy

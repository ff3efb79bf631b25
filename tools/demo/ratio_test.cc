#include "tools/demo/ratio.h"

#include <gtest/gtest.h>

namespace bailey::demo {
namespace {

TEST(Ratio, SaysBothEndsWhereTheRoundsDontAgree) {
  EXPECT_EQ((Ratio{0.97, 0.89, 1.02}.in_words()), "between 11 % slower and 2 % quicker");
  EXPECT_EQ((Ratio{1.2, 0.95, 3.4}.in_words()), "between 5 % slower and 240 % quicker");
}

TEST(Ratio, SaysOneSideWhereTheyDo) {
  EXPECT_EQ((Ratio{0.95, 0.91, 0.98}.in_words()), "2 to 9 % slower");
  EXPECT_EQ((Ratio{0.95, 0.951, 0.952}.in_words()), "5 % slower");
  EXPECT_EQ((Ratio{1.1, 1.05, 1.3}.in_words()), "5 to 30 % quicker");
  EXPECT_EQ((Ratio{2.5, 2.1, 3.4}.in_words()), "2.1 to 3.4 times as quick");
  EXPECT_EQ((Ratio{1.9, 1.5, 2.5}.in_words()), "50 to 150 % quicker");
}

TEST(Ratio, SaysNoDifferenceThatRoundsToNothing) {
  EXPECT_EQ((Ratio{1.0, 0.998, 1.003}.in_words()), "as quick");
  EXPECT_EQ((Ratio{1.0, 0.93, 1.003}.in_words()), "0 to 7 % slower");
  EXPECT_EQ((Ratio{1.0, 0.998, 1.04}.in_words()), "0 to 4 % quicker");
}

TEST(Ratio, HasItsFigures) { EXPECT_EQ((Ratio{0.95, 0.91, 0.98}.in_figures()), "0.95 (0.91 to 0.98)"); }

}  // namespace
}  // namespace bailey::demo

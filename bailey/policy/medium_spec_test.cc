#include "bailey/policy/medium_spec.h"

#include <gtest/gtest.h>

namespace bailey::policy {
namespace {

TEST(Medium, ReadsEveryKindAndOption) {
  auto memory = parse_medium("memory:4GiB?numa=1&delay_ns=150&flush=clwb");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->kind, MediumKind::memory);
  EXPECT_EQ(memory->bytes, std::uint64_t{4} << 30);
  EXPECT_EQ(memory->numa, 1u);
  EXPECT_EQ(memory->delay_ns, 150u);
  EXPECT_EQ(memory->flush, Flush::clwb);
  auto file = parse_medium("file:/var/lib/pool?flush=clflushopt");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->kind, MediumKind::file);
  EXPECT_EQ(file->path, "/var/lib/pool");
  EXPECT_EQ(file->bytes, 0u);
  EXPECT_EQ(file->flush, Flush::clflushopt);
  EXPECT_EQ(parse_medium("hugepages:2GiB")->kind, MediumKind::hugepages);
}

TEST(Medium, TextReadsBackAsTheSame) {
  for (const char* text : {"memory:4GiB?numa=1&delay_ns=150&flush=clwb", "memory:4194304",
                           "file:/p?delay_ns=1", "hugepages:6MiB?numa=0"}) {
    auto spec = parse_medium(text);
    ASSERT_TRUE(spec) << text;
    EXPECT_EQ(*parse_medium(spec->to_string()), *spec) << text;
  }
  EXPECT_EQ(parse_medium("memory:4194304")->to_string(), "memory:4MiB");
}

TEST(Medium, RefusesWithWhatWasMeant) {
  struct Case {
    const char* text;
    const char* message;
    const char* remedy;
  };
  const char* kinds = "known: \"memory\", \"file\", \"hugepages\"";
  const Case cases[] = {
      {"", "the medium \"\" has no known kind", kinds},
      {"4GiB", "the medium \"4GiB\" has no kind", "did you mean \"memory:4GiB\"?"},
      {"memroy:4GiB", "the medium \"memroy:4GiB\" has no known kind", "did you mean \"memory\"?"},
      {"dax:/dev/dax0.0", "the medium \"dax:/dev/dax0.0\" has no known kind", kinds},
      {"memory", "the medium \"memory\" does not say how much", "such as \"memory:4GiB\""},
      {"file", "the medium \"file\" does not say which path", "such as \"file:/var/lib/bailey/pool\""},
      {"memory:-1", "the size \"-1\" is negative",
       "write a whole number and one of B, KiB, MiB, GiB, TiB, such as \"256MiB\""},
      {"memory:4GB", "the size \"4GB\" has no known unit", "did you mean \"4GiB\"?"},
      {"memory:1MiB", "a pool of 1MiB is too small", "the least is 4MiB"},
      {"hugepages:5MiB", "5MiB is no whole number of huge pages", "a huge page has 2MiB"},
      {"file:pool", "the medium's path \"pool\" is not absolute",
       "write file:/ and the whole path, since the broker's folder is not yours"},
      {"file:/a\nb", "the medium's path has a control character", ""},
      {"memory:4GiB?", "the medium has an unknown option \"\"", "known: \"numa\", \"delay_ns\", \"flush\""},
      {"memory:4GiB?nume=1", "the medium has an unknown option \"nume\"", "did you mean \"numa\"?"},
      {"memory:4GiB?numa=1024", "the medium's option numa=\"1024\" is not a whole number up to 1023", ""},
      {"memory:4GiB?numa=-1", "the medium's option numa=\"-1\" is not a whole number up to 1023", ""},
      {"memory:4GiB?delay_ns=1s", "the medium's option delay_ns=\"1s\" is not a whole number up to 1000000",
       ""},
      {"memory:4GiB?numa=1&numa=1", "the medium has the option \"numa\" twice", "keep one of them"},
      {"memory:4GiB?flush=clwd", "the medium's option flush=\"clwd\" is unknown", "did you mean \"clwb\"?"},
  };
  for (const Case& one : cases) {
    auto spec = parse_medium(one.text);
    ASSERT_FALSE(spec) << one.text;
    EXPECT_EQ(spec.error().message, one.message);
    EXPECT_EQ(spec.error().remedy, one.remedy) << one.text;
  }
}

}  // namespace
}  // namespace bailey::policy

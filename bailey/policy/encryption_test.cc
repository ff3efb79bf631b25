// What a policy says of encrypted regions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bailey/policy/diff.h"
#include "bailey/policy/posture.h"
#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using namespace testing;
using ::testing::Contains;
using ::testing::HasSubstr;

ParseContext with_encryption() {
  ParseContext context = fixed_context();
  context.enforced = {"none", "process", "encrypted", "signed"};
  return context;
}
std::string with(const std::string& lines) { return pool + alice + orders + lines + grant; }
Result<Policy> read(const std::string& lines) { return parse(with(lines), "f", "/keys", with_encryption()); }
constexpr const char* encrypted = "protect = [\"process\", \"encrypted\"]\n";

TEST(Encryption, TheCipherIsAesUnlessThePolicySaysOtherwise) {
  EXPECT_EQ(read("")->regions[0].cipher, "");
  EXPECT_EQ(read(encrypted)->regions[0].cipher, "aes-256-gcm");
  EXPECT_EQ(read(std::string(encrypted) + "cipher = \"xchacha20\"\n")->regions[0].cipher, "xchacha20");
  EXPECT_THAT(read(std::string(encrypted) + "cipher = \"aes\"\n").error().message,
              HasSubstr("unknown cipher"));
  EXPECT_THAT(read("cipher = \"xchacha20\"\n").error().message, HasSubstr("not encrypted"));
}

TEST(Encryption, ACipherIsFixedWhenTheRegionIsMade) {
  const Policy before = *read(encrypted), after = *read(std::string(encrypted) + "cipher = \"xchacha20\"\n");
  EXPECT_FALSE(diff(before, after, {}).allowed());
  EXPECT_TRUE(diff(before, after, {.drop = true}).allowed());
  EXPECT_FALSE(diff(*read(""), before, {}).allowed());
}

// As a function of the medium: those that there are give readers descriptors for reading alone.
TEST(Encryption, AReaderThatCouldForgeIsRefused) {
  for (MediumKind kind : {MediumKind::memory, MediumKind::file, MediumKind::hugepages})
    EXPECT_FALSE(readers_can_write(kind));
  const auto all_write = static_cast<MediumKind>(99);
  ASSERT_TRUE(readers_can_write(all_write));
  Region region = read(encrypted)->regions[0];
  EXPECT_TRUE(reader_could_forge(region, all_write));
  EXPECT_FALSE(reader_could_forge(region, MediumKind::memory));
  EXPECT_FALSE(reader_could_forge(read("")->regions[0], all_write));
  region.readers_may_forge = true;
  EXPECT_FALSE(reader_could_forge(region, all_write));
  region.readers_may_forge = false;
  region.protect.push_back({"signed", false, true});
  EXPECT_FALSE(reader_could_forge(region, all_write));
  EXPECT_TRUE(read(std::string(encrypted) + "readers_may_forge = true\n")->regions[0].readers_may_forge);
}

TEST(Encryption, ThePostureSaysWhatItHoldsAndWhatNot) {
  const Policy policy = *read(encrypted);
  const auto text = lines(posture_of(policy, policy.regions[0], {}));
  EXPECT_THAT(text, Contains(HasSubstr("who has not the region's key reads no key and no value")));
  EXPECT_THAT(text, Contains(HasSubstr("whoever reads the region holds its key")));
  EXPECT_THAT(text, ::testing::Not(Contains(HasSubstr("Nothing is encrypted"))));
}

constexpr const char* with_signatures = "protect = [\"process\", \"encrypted\", \"signed\"]\n";

// Records of a region that was not signed have no signatures, and readers would refuse them all.
TEST(Signing, IsOnTopOfEncryptionAndFixedWhenTheRegionIsMade) {
  EXPECT_TRUE(read(with_signatures)->regions[0].has("signed"));
  EXPECT_THAT(read("protect = [\"process\", \"signed\"]\n").error().message,
              HasSubstr("has \"signed\" without \"encrypted\""));
  EXPECT_FALSE(diff(*read(encrypted), *read(with_signatures), {}).allowed());
  EXPECT_FALSE(diff(*read(with_signatures), *read(encrypted), {}).allowed());
  EXPECT_TRUE(diff(*read(encrypted), *read(with_signatures), {.drop = true}).allowed());
  EXPECT_FALSE(reader_could_forge(read(with_signatures)->regions[0], static_cast<MediumKind>(99)));
}

TEST(Signing, ThePostureSaysWhatItHoldsAndWhatNot) {
  const Policy policy = *read(with_signatures);
  const auto text = lines(posture_of(policy, policy.regions[0], {}));
  EXPECT_THAT(text, Contains(HasSubstr("by client    signed: a record is its writer's")));
  EXPECT_THAT(text, Contains(HasSubstr("writes any key of it, in its own name")));
  const Policy plain = *read(encrypted);
  EXPECT_THAT(lines(posture_of(plain, plain.regions[0], {})), ::testing::Not(Contains(HasSubstr("signed"))));
}

}  // namespace
}  // namespace bailey::policy

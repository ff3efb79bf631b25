#include "bailey/crypto/key_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "bailey/crypto/base64.h"

namespace bailey::crypto {
namespace {

class KeyFile : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bailey-key-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name) const { return folder_ + "/" + name; }
  std::string write(const char* name, std::string_view content, mode_t mode = 0600) const {
    std::ofstream(path(name)) << content;
    chmod(path(name).c_str(), mode);
    return path(name);
  }
  std::string text(const std::string& file) const {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string folder_;
};

TEST_F(KeyFile, APairComesBack) {
  auto key = write_new_pair(path("k"));
  ASSERT_TRUE(key) << key.error().to_string();
  auto secret = read_secret_key(path("k"));
  ASSERT_TRUE(secret) << secret.error().to_string();
  EXPECT_EQ(secret->public_key(), *key);
  EXPECT_EQ(*read_public_key(path("k.pub")), *key);
  EXPECT_EQ(text(path("k.pub")), public_key_text(*key) + "\n");
  EXPECT_EQ(text(path("k.pub")).size(), 45u);
}

TEST_F(KeyFile, TheSecretIsForItsOwnerAloneWhateverTheUmask) {
  mode_t before = umask(0);
  ASSERT_TRUE(write_new_pair(path("open")));
  umask(0277);
  ASSERT_TRUE(write_new_pair(path("tight")));
  umask(before);
  for (const char* name : {"open", "tight"}) {
    struct stat about;
    ASSERT_EQ(stat(path(name).c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 07777, 0600u);
  }
}

TEST_F(KeyFile, NothingIsEverOverwrittenAndNothingIsLeft) {
  auto first = write_new_pair(path("k"));
  ASSERT_TRUE(first);
  EXPECT_EQ(write_new_pair(path("k")).error().code, Code::exists);
  EXPECT_EQ(read_secret_key(path("k"))->public_key(), *first);
  write("half.pub", "in the way");
  EXPECT_EQ(write_new_pair(path("half")).error().code, Code::exists);
  EXPECT_FALSE(std::filesystem::exists(path("half"))) << "a secret without its public half was left";
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    EXPECT_FALSE(entry.path().string().ends_with(".new")) << entry.path();
}

TEST_F(KeyFile, ModesThatLetOthersInAreRefused) {
  ASSERT_TRUE(write_new_pair(path("k")));
  for (mode_t mode : {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0777}) {
    chmod(path("k").c_str(), mode);
    auto read = read_secret_key(path("k"));
    ASSERT_FALSE(read) << mode;
    EXPECT_EQ(read.error().code, Code::denied);
    EXPECT_NE(read.error().message.find(path("k")), std::string::npos);
  }
  for (mode_t mode : {0600, 0400}) {
    chmod(path("k").c_str(), mode);
    EXPECT_TRUE(read_secret_key(path("k"))) << mode;
  }
}

TEST_F(KeyFile, SomebodyElsesFileIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "giving a file away needs root";
  ASSERT_TRUE(write_new_pair(path("k")));
  ASSERT_EQ(chown(path("k").c_str(), 4242, 4242), 0);
  auto read = read_secret_key(path("k"));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::denied);
}

TEST_F(KeyFile, LinksPipesAndFoldersAreRefused) {
  ASSERT_TRUE(write_new_pair(path("k")));
  ASSERT_EQ(symlink(path("k").c_str(), path("link").c_str()), 0);
  EXPECT_EQ(read_secret_key(path("link")).error().code, Code::denied);
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_secret_key(path("pipe")).error().code, Code::corrupt);
  EXPECT_EQ(read_secret_key(folder_).error().code, Code::corrupt);
  EXPECT_EQ(read_secret_key(path("none")).error().os, ENOENT);
}

TEST_F(KeyFile, DamagedSecretsAreRefusedAndNotQuoted) {
  ASSERT_TRUE(write_new_pair(path("k")));
  const std::string good = text(path("k"));
  const std::pair<std::string, const char*> damages[] = {
      {"", "empty"},
      {good.substr(0, good.size() - 2), "one character short"},
      {good.substr(20), "without its label"},
      {"bailey-secret-key-2" + good.substr(19), "another version"},
      {good + "\n", "a second line"},
      {good + good, "twice"},
      {" " + good, "begins with a space"},
      {good.substr(0, 30) + "!" + good.substr(31), "a character outside of base64"},
      {std::string(300, 'a'), "longer than a key file"},
      {std::string(64, '\0'), "zeros"}};
  int number = 0;
  for (const auto& [content, why] : damages) {
    auto read = read_secret_key(write(("damage" + std::to_string(number++)).c_str(), content));
    ASSERT_FALSE(read) << why;
    EXPECT_EQ(read.error().code, Code::corrupt) << why;
    EXPECT_EQ(read.error().to_string().find(good.substr(24, 12)), std::string::npos) << why;
  }
}

TEST_F(KeyFile, DamagedPublicKeysAreRefused) {
  auto key = write_new_pair(path("k"));
  ASSERT_TRUE(key);
  const std::string line = public_key_text(*key);
  EXPECT_EQ(*parse_public_key(line), *key);
  for (const std::string& damaged :
       {std::string(), line.substr(1), line + "=", line + "\n", " " + line, "key:" + line,
        std::string(44, 'A'), base64(as_bytes(std::string(31, 'x'))),
        base64(as_bytes(std::string(33, 'x')))}) {
    EXPECT_FALSE(parse_public_key(damaged)) << damaged;
    EXPECT_EQ(read_public_key(write("damaged.pub", damaged + "\n\n")).error().code, Code::corrupt) << damaged;
  }
}

}  // namespace
}  // namespace bailey::crypto

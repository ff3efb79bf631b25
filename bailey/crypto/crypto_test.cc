#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "bailey/crypto/base64.h"
#include "bailey/crypto/kdf.h"
#include "bailey/crypto/mac.h"
#include "bailey/crypto/secret.h"
#include "bailey/crypto/sign.h"
#include "bailey/guard/test_support.h"

namespace bailey::crypto {
namespace {

std::string unhex(std::string_view hex) {
  std::string out;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(at, 2)), nullptr, 16)));
  return out;
}
template <class Array>
std::string hex(const Array& bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (std::uint8_t byte : bytes) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}
SecretKey key_of(std::string_view seed_hex) {
  std::string seed = unhex(seed_hex);
  return *SecretKey::from_seed(
      std::span<const std::uint8_t, seed_bytes>(reinterpret_cast<const std::uint8_t*>(seed.data()), 32));
}

struct Vector {
  const char* seed;
  const char* key;
  const char* message;
  const char* signature;
};
// RFC 8032, section 7.1: tests 1, 2, 3.
constexpr Vector rfc_8032[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
     "d25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
     "387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
     "4a7c15e9716ed28dc027beceea1ec40a"},
};

TEST(Sign, AgreesWithTheVectorsOfRfc8032) {
  for (const Vector& vector : rfc_8032) {
    SecretKey key = key_of(vector.seed);
    std::string message = unhex(vector.message);
    EXPECT_EQ(hex(key.public_key()), vector.key);
    Signature signature = key.sign(as_bytes(message));
    EXPECT_EQ(hex(signature), vector.signature);
    EXPECT_TRUE(verify(key.public_key(), as_bytes(message), signature));
  }
}

TEST(Sign, AnyChangedBitIsRefused) {
  SecretKey key = key_of(rfc_8032[2].seed);
  std::string message = unhex(rfc_8032[2].message);
  const Signature right = key.sign(as_bytes(message));
  for (std::size_t bit = 0; bit < right.size() * 8; ++bit) {
    Signature wrong = right;
    wrong[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    EXPECT_FALSE(verify(key.public_key(), as_bytes(message), wrong)) << "bit " << bit;
  }
  EXPECT_FALSE(verify(key.public_key(), as_bytes(message + "x"), right));
  EXPECT_FALSE(verify(key_of(rfc_8032[0].seed).public_key(), as_bytes(message), right));
}

TEST(Sign, ASecondFormOfASignatureIsRefused) {
  // s + L verifies as s does where nobody looks at its range.
  static constexpr std::uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
                                             0xa2, 0xde, 0xf9, 0xde, 0x14, 0,    0,    0,    0,    0,    0,
                                             0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};
  SecretKey key = key_of(rfc_8032[0].seed);
  Signature malleated = key.sign({});
  unsigned carry = 0;
  for (std::size_t at = 0; at < 32; ++at) {
    carry += malleated[32 + at] + order[at];
    malleated[32 + at] = static_cast<std::uint8_t>(carry);
    carry >>= 8;
  }
  ASSERT_EQ(carry, 0u);
  EXPECT_FALSE(verify(key.public_key(), {}, malleated));
}

TEST(Sign, AKeyOfSmallOrderVerifiesNothing) {
  // With the neutral element as the key and as R, s = 0 fulfils the equation for every message.
  PublicKey neutral{1};
  Signature zero{1};
  EXPECT_FALSE(verify(neutral, as_bytes("anything"), zero));
}

TEST(Sign, GeneratedKeysDifferAndComeBackFromTheirSeed) {
  auto one = SecretKey::generate();
  auto two = SecretKey::generate();
  ASSERT_TRUE(one && two);
  EXPECT_NE(one->public_key(), two->public_key());
  auto seed = one->seed();
  ASSERT_TRUE(seed);
  auto* raw = reinterpret_cast<const std::uint8_t*>(seed->span().data());
  auto again = SecretKey::from_seed(std::span<const std::uint8_t, seed_bytes>(raw, seed_bytes));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->public_key(), one->public_key());
}

TEST(Mac, AgreesWithTheVectorsOfRfc4231) {
  EXPECT_EQ(hex(mac(as_bytes(std::string(20, '\x0b')), as_bytes("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex(mac(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(mac(as_bytes(std::string(131, '\xaa')),
                    as_bytes("Test Using Larger Than Block-Size Key - Hash Key First"))),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Mac, OnlyTheRightOneIsAccepted) {
  Mac right = mac(as_bytes("key"), as_bytes("message"));
  EXPECT_TRUE(mac_is_right(right, as_bytes("key"), as_bytes("message")));
  EXPECT_FALSE(mac_is_right(right, as_bytes("kez"), as_bytes("message")));
  EXPECT_FALSE(mac_is_right(right, as_bytes("key"), as_bytes("messagf")));
  right[31] ^= 1;
  EXPECT_FALSE(mac_is_right(right, as_bytes("key"), as_bytes("message")));
}

TEST(Base64, AgreesWithTheVectorsOfRfc4648) {
  const std::pair<const char*, const char*> vectors[] = {
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
  for (auto [plain, text] : vectors) {
    EXPECT_EQ(base64(as_bytes(plain)), text);
    auto back = from_base64(text, 16);
    ASSERT_TRUE(back) << text;
    EXPECT_EQ(*back, plain);
  }
}

TEST(Base64, EveryByteComesBack) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  for (std::size_t length = 0; length <= all.size(); ++length)
    EXPECT_EQ(*from_base64(base64(as_bytes(all.substr(0, length))), 256), all.substr(0, length));
}

TEST(Base64, RefusesWhatItWouldNotHaveWritten) {
  const std::pair<const char*, const char*> refused[] = {{"Zg", "padding is missing"},
                                                         {"Zg=", "half of the padding is missing"},
                                                         {"Zh==", "stray bits after the end"},
                                                         {"Zm9 ", "white space"},
                                                         {"Zm9\n", "an end of line"},
                                                         {"Zm9-", "a character of the other alphabet"},
                                                         {"Zg==Zg==", "something after the padding"},
                                                         {"====", "padding alone"},
                                                         {"Z===", "a lone character"}};
  for (auto [text, why] : refused) EXPECT_FALSE(from_base64(text, 16)) << why;
  EXPECT_FALSE(from_base64("Zm9v", 2)) << "one byte more than taken";
  EXPECT_TRUE(from_base64("Zm9v", 3));
}

TEST(Secret, ComparesContentAndLength) {
  EXPECT_TRUE(equal_secret(as_bytes("abc"), as_bytes("abc")));
  EXPECT_FALSE(equal_secret(as_bytes("abc"), as_bytes("abd")));
  EXPECT_FALSE(equal_secret(as_bytes("abc"), as_bytes("abcd")));
  EXPECT_TRUE(equal_secret({}, {}));
}

TEST(Secret, WipeLeavesZeros) {
  std::string text = "the combination is 12345";
  wipe({reinterpret_cast<std::byte*>(text.data()), text.size()});
  EXPECT_EQ(text, std::string(text.size(), '\0'));
}

// Sanitizers turn mlock() into nothing.
bool locking_works() {
  static const bool works = [] {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && mlock(page, 4096) == 0 &&
           guard::mapping_flags(page).find(" lo ") != std::string::npos;
  }();
  return works;
}

TEST(Secret, IsLockedAndNotDumped) {
  if (!locking_works()) GTEST_SKIP() << "memory can't be locked here: a sanitizer, or no limit for it";
  auto secret = Secret::of_bytes(32);
  ASSERT_TRUE(secret);
  std::string flags = guard::mapping_flags(secret->span().data());
  EXPECT_NE(flags.find(" lo "), std::string::npos) << flags;
  EXPECT_NE(flags.find(" dd "), std::string::npos) << flags;
}

TEST(Secret, ReadingPastItsEndIsADeath) {
  auto secret = Secret::of_bytes(32);
  ASSERT_TRUE(secret);
  pid_t child = fork();
  if (child == 0) {
    // The guard page begins right after the last byte.
    volatile const std::byte* past = secret->span().data() + 32;
    static_cast<void>(*past);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  // By SIGSEGV; a sanitizer catches that and exits with its own code.
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Secret, MemoryThatCannotBeLockedIsRefused) {
  if (!locking_works()) GTEST_SKIP() << "memory can't be locked here: a sanitizer, or no limit for it";
  pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(2);
    rlimit none{0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0) _exit(3);
    auto secret = Secret::of_bytes(32);
    _exit(!secret && secret.error().code == Code::no_space ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

std::string_view text_of(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.span().data()), secret.span().size()};
}

// RFC 5869, section 2.3: the first block is HMAC(key, info | 1).
TEST(Derive, IsTheFirstBlockOfHkdfExpand) {
  const std::string key = unhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  const std::string context = "\x01\x02\x03";
  const std::string info = std::string("bailey test 1") + '\0' + context + '\1';
  const Mac wanted = mac(std::as_bytes(std::span(key)), std::as_bytes(std::span(info)));
  auto derived = derive(std::as_bytes(std::span(key)), "bailey test 1", std::as_bytes(std::span(context)));
  ASSERT_TRUE(derived);
  EXPECT_EQ(text_of(*derived), std::string_view(reinterpret_cast<const char*>(wanted.data()), wanted.size()));
}

TEST(Derive, LabelsContextsAndKeysGiveDifferentKeys) {
  const std::string key(32, 'k'), other(32, 'o'), context = "c";
  auto of = [](const std::string& from, std::string_view label, const std::string& with) {
    return std::string(
        text_of(*derive(std::as_bytes(std::span(from)), label, std::as_bytes(std::span(with)))));
  };
  const std::string one = of(key, "bailey a 1", context);
  EXPECT_EQ(one, of(key, "bailey a 1", context));
  EXPECT_NE(one, of(key, "bailey b 1", context));
  EXPECT_NE(one, of(key, "bailey a 1", "d"));
  EXPECT_NE(one, of(other, "bailey a 1", context));
}

}  // namespace
}  // namespace bailey::crypto

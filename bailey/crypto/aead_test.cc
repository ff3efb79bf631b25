#include "bailey/crypto/aead.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include <cstring>
#include <optional>
#include <string>

#include "bailey/crypto/key_chain.h"
#include "bailey/crypto/key_hash.h"

namespace bailey::crypto {
namespace {

std::string hex(Bytes bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (std::byte byte : bytes) {
    out += digits[std::to_integer<unsigned>(byte) >> 4];
    out += digits[std::to_integer<unsigned>(byte) & 15];
  }
  return out;
}
MutableBytes mutable_bytes(std::string& text) { return std::as_writable_bytes(std::span(text)); }
// 0, 1, 2 ...
std::string counted(std::size_t bytes) {
  std::string out(bytes, 0);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(i);
  return out;
}

constexpr std::string_view fox = "the quick brown fox jumps over the lazy dog";
constexpr Nonce nonce{0x0000002a'00000007, 0x01020304};

class BothCiphers : public testing::TestWithParam<Cipher> {
 protected:
  void SetUp() override {
    if (auto fine = check_cipher(GetParam()); !fine) GTEST_SKIP() << fine.error().to_string();
    aead.emplace(*Aead::create(GetParam(), as_bytes(counted(32))));
    text = fox;
    seal(text, nonce, "orders:7", tag);
  }
  void seal(std::string& with, const Nonce& as, std::string_view bound, Tag& by) const {
    aead->seal(as_bytes(with), mutable_bytes(with).data(), as, as_bytes(bound), by);
  }
  bool open(std::string& sealed, const Nonce& as, std::string_view bound, const Tag& by) const {
    return aead->open(as_bytes(sealed), mutable_bytes(sealed).data(), as, as_bytes(bound), by);
  }
  bool opens(std::string sealed, const Nonce& as, std::string_view bound, const Tag& by) const {
    return open(sealed, as, bound, by);
  }
  std::optional<Aead> aead;
  std::string text;
  Tag tag;
};
INSTANTIATE_TEST_SUITE_P(Aead, BothCiphers, testing::Values(Cipher::aes_256_gcm, Cipher::xchacha20_poly1305),
                         [](const auto& about) {
                           return about.param == Cipher::aes_256_gcm ? "Aes" : "XChaCha";
                         });

// What OpenSSL (through pyca/cryptography) makes of the same, for XChaCha20 over an HChaCha20 of RFC 8439's
// parts.
TEST_P(BothCiphers, IsWhatOthersMakeOfIt) {
  const bool aes = GetParam() == Cipher::aes_256_gcm;
  EXPECT_EQ(hex(as_bytes(text)),
            aes ? "434dc848ec3740886337a7ed25d36870cddd1b051f6f1f48a7efb9d3ace66eda04d50042b09f0bfaa14f6e"
                : "832ebba8f9f2e733295d78fd20447b8aaa6d4faf3ff6337c229887833f733c342205245ac77c39f1923f2d");
  EXPECT_EQ(hex(tag), aes ? "4f7c7d1bfcd629bf91b7e749ad148e4a" : "9153616394b04b480679201ad3ce8047");
  ASSERT_TRUE(open(text, nonce, "orders:7", tag));
  EXPECT_EQ(text, fox);
}

TEST_P(BothCiphers, OpensNothingOfWhichABitDiffers) {
  ASSERT_TRUE(opens(text, nonce, "orders:7", tag));
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    ASSERT_FALSE(opens(flipped, nonce, "orders:7", tag)) << bit;
  }
  for (std::size_t bit = 0; bit < tag_bytes * 8; ++bit) {
    Tag flipped = tag;
    flipped[bit / 8] ^= std::byte{1} << bit % 8;
    ASSERT_FALSE(opens(text, nonce, "orders:7", flipped)) << bit;
  }
  for (unsigned bit = 0; bit < 64; ++bit)
    ASSERT_FALSE(opens(text, {nonce.number ^ std::uint64_t{1} << bit, nonce.part}, "orders:7", tag)) << bit;
  for (unsigned bit = 0; bit < 32; ++bit)
    ASSERT_FALSE(opens(text, {nonce.number, nonce.part ^ 1u << bit}, "orders:7", tag)) << bit;
  EXPECT_FALSE(opens(text, nonce, "orders:8", tag));
  EXPECT_FALSE(opens(text, nonce, "orders:", tag));
  EXPECT_FALSE(opens(text.substr(0, text.size() - 1), nonce, "orders:7", tag));
  EXPECT_FALSE(opens(text + '\0', nonce, "orders:7", tag));
}

TEST_P(BothCiphers, AnotherKeyOpensNothing) {
  std::string key = counted(32);
  key[31] ^= 1;
  const Aead other = *Aead::create(GetParam(), as_bytes(key));
  EXPECT_FALSE(other.open(as_bytes(text), mutable_bytes(text).data(), nonce, as_bytes("orders:7"), tag));
}

TEST_P(BothCiphers, TextsOfEverySizeComeBack) {
  for (std::size_t bytes : {0, 1, 15, 16, 17, 127, 128, 129, 4096, 70'000}) {
    const std::string plain = counted(bytes);
    std::string sealed = plain;
    seal(sealed, {bytes, 0}, {}, tag);
    if (bytes > 8) {
      EXPECT_NE(sealed, plain);
    }
    ASSERT_TRUE(open(sealed, {bytes, 0}, {}, tag)) << bytes;
    EXPECT_EQ(sealed, plain);
  }
}

TEST_P(BothCiphers, WhatDoesNotOpenLeavesZeros) {
  std::string out(text.size(), 'x');
  Tag wrong = tag;
  wrong[0] ^= std::byte{1};
  EXPECT_FALSE(aead->open(as_bytes(text), mutable_bytes(out).data(), nonce, as_bytes("orders:7"), wrong));
  EXPECT_EQ(out, std::string(text.size(), '\0'));
}

// Two libraries that were written apart, at every length around the widths that they work in.
TEST(Aes, IsWhatLibsodiumMakesOfIt) {
  if (auto fine = check_cipher(Cipher::aes_256_gcm); !fine) GTEST_SKIP() << fine.error().to_string();
  ASSERT_GE(::sodium_init(), 0);
  const std::string key = counted(32), bound = counted(48);
  const Aead aead = *Aead::create(Cipher::aes_256_gcm, as_bytes(key));
  const auto raw = [](auto& of) { return reinterpret_cast<const unsigned char*>(of.data()); };
  for (std::size_t bytes = 0; bytes < 1100; ++bytes) {
    const std::string plain = counted(bytes);
    std::string ours(bytes, 0), theirs(bytes, 0);
    Tag our_tag, their_tag;
    aead.seal(as_bytes(plain), mutable_bytes(ours).data(), {bytes, 1}, as_bytes(bound), our_tag);
    unsigned char number[12]{};
    std::memcpy(number, &bytes, 8);
    number[8] = 1;
    ::crypto_aead_aes256gcm_encrypt_detached(
        reinterpret_cast<unsigned char*>(theirs.data()), reinterpret_cast<unsigned char*>(their_tag.data()),
        nullptr, raw(plain), bytes, raw(bound), bound.size(), nullptr, number, raw(key));
    ASSERT_EQ(hex(as_bytes(ours)), hex(as_bytes(theirs))) << bytes;
    ASSERT_EQ(our_tag, their_tag) << bytes;
  }
}

TEST(Cipher, HasTheNameThatPoliciesUse) {
  EXPECT_EQ(name(Cipher::aes_256_gcm), "aes-256-gcm");
  EXPECT_EQ(name(Cipher::xchacha20_poly1305), "xchacha20");
  EXPECT_TRUE(check_cipher(Cipher::xchacha20_poly1305));
}

// The vectors of the authors of SipHash, for keys and inputs of 0, 1, 2 ...
TEST(KeyHash, IsSipHashOf128Bits) {
  const std::string key = counted(16);
  auto of = [&](std::size_t bytes) {
    const KeyHash hash = key_hash(as_bytes(key).data(), counted(bytes));
    return hex(std::as_bytes(std::span(&hash, 1)));
  };
  EXPECT_EQ(of(0), "a3817f04ba25a8e66df67214c7550293");
  EXPECT_EQ(of(15), "5493e99933b0a8117e08ec0f97cfc3d9");
}

constexpr std::string_view secret = "ssssssssssssssssssssssssssssssss", context = "cccccccccccccccc";

// Computed with Python's hmac and hashlib.
TEST(KeyChain, IsAChainOfHashesFromItsEnd) {
  auto of = [](Generation generation) {
    return hex(key_of_generation(as_bytes(secret), as_bytes(context), generation)->span());
  };
  EXPECT_EQ(of(8192), "e4cdad4308463cdf08a141bdb36a120c00e0b5b383fedec2422fddce8bf9f8c3");
  EXPECT_EQ(of(8191), "ec3e26df43b5ab880148bad2510046c0370ee5de30fbc37ea39de76b299138fe");
  EXPECT_EQ(of(1), "57a2030af2d8648664bf188c57dddcf1c725106317a5f7fc055f0675e1c48408");
}

TEST(KeyChain, OneKeyGivesAllBeforeIt) {
  const Secret fifth = *key_of_generation(as_bytes(secret), as_bytes(context), 5);
  const KeyChain chain = *KeyChain::create(5, fifth.span());
  EXPECT_EQ(chain.newest(), 5);
  for (Generation generation = 1; generation <= 5; ++generation)
    EXPECT_EQ(hex(chain.key(generation)),
              hex(key_of_generation(as_bytes(secret), as_bytes(context), generation)->span()));
}

TEST(KeyChain, OtherSecretsAndContextsGiveOtherKeys) {
  const std::string one = hex(key_of_generation(as_bytes(secret), as_bytes(context), 5)->span());
  EXPECT_NE(one, hex(key_of_generation(as_bytes(secret), as_bytes("cccccccccccccccd"), 5)->span()));
  EXPECT_NE(
      one,
      hex(key_of_generation(as_bytes("sssssssssssssssssssssssssssssssr"), as_bytes(context), 5)->span()));
}

}  // namespace
}  // namespace bailey::crypto

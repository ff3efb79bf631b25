#include "bailey/guard/program_file.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace bailey::guard {
namespace {

std::string bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
Result<ProgramFile> read(const std::string& bytes) {
  return read_program_file(std::as_bytes(std::span(bytes)));
}

TEST(ProgramFile, OfThisTestNamesItsDynamicLinkerAndLibraries) {
  auto program = read(bytes_of("/proc/self/exe"));
  ASSERT_TRUE(program) << program.error().to_string();
  EXPECT_TRUE(program->interpreter.ends_with(".so.2")) << program->interpreter;
  EXPECT_TRUE(program->needs_library);
}

TEST(ProgramFile, WhatIsNoneIsCalledByName) {
  EXPECT_EQ(read("").error().code, Code::unsupported);
  EXPECT_EQ(read("#").error().code, Code::unsupported);
  EXPECT_NE(read("#!/bin/sh\n").error().message.find("script"), std::string::npos);
  std::string other = bytes_of("/proc/self/exe");
  other[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(read(other).error().code, Code::unsupported);
}

// Each cut and each changed header is read within its bytes: a sanitizer would tell.
TEST(ProgramFile, CutAndSpoiledFilesAreReadWithinTheirBytes) {
  const std::string whole = bytes_of("/proc/self/exe");
  for (std::size_t bytes : {1u, 2u, 15u, 63u, 64u, 65u, 119u, 120u, 500u, 1000u}) {
    auto program = read(std::string(whole, 0, bytes));
    EXPECT_FALSE(program && program->needs_library) << bytes;
  }
  std::mt19937_64 random(11);
  for (int round = 0; round < 20'000; ++round) {
    std::string spoiled(whole, 0, 4096);
    for (int i = 0; i < 4; ++i) spoiled[16 + random() % 1000] = static_cast<char>(random());
    (void)read(spoiled);
  }
  Elf64_Ehdr header;
  std::memcpy(&header, whole.data(), sizeof header);
  for (std::uint64_t offset : {whole.size() - 1, ~std::uint64_t{0}, ~std::uint64_t{0} - 55}) {
    header.e_phoff = offset;
    std::string spoiled = whole;
    std::memcpy(spoiled.data(), &header, sizeof header);
    EXPECT_EQ(read(spoiled).error().code, Code::corrupt);
  }
}

}  // namespace
}  // namespace bailey::guard

#include "state_file.h"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace lm::worker {
namespace {

class StateFile : public testing::Test {
 protected:
  StateFile() {
    std::string name = (std::filesystem::temp_directory_path() / "state-file-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~StateFile() override { std::filesystem::remove_all(folder_); }

  // As the engine writes it: a header with the number of tokens, the tokens, the rest.
  std::filesystem::path write(std::uint32_t tokens, std::size_t rest) {
    const auto file = folder_ / "a.slot";
    std::ofstream out(file, std::ios::binary);
    const auto put = [&](std::uint32_t word) { out.write(reinterpret_cast<const char*>(&word), 4); };
    put(0x67677371);
    put(2);
    put(tokens);
    for (std::uint32_t i = 0; i < tokens; ++i) put(i * 7);
    for (std::size_t i = 0; i < rest; ++i) out.put(static_cast<char>(i * 31));
    return file;
  }
  void change(const std::filesystem::path& file, std::streamoff at) {
    std::fstream io(file, std::ios::binary | std::ios::in | std::ios::out);
    io.seekg(at);
    const char old = static_cast<char>(io.get());
    io.seekp(at);
    io.put(static_cast<char>(old ^ 1));
  }

  std::filesystem::path folder_;
};

std::string reason(const Result<void>& result) {
  return result ? "good" : result.error().reason;
}

TEST_F(StateFile, IsGoodAsLongAsItIsWhatWasSaved) {
  const auto state = describe_state(write(100, 5000), 100);
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->size, Bytes(12 + 400 + 5000));
  EXPECT_EQ(reason(check_state(*state)), "good");
}

TEST_F(StateFile, OneChangedBitAnywhereIsSeen) {
  const auto file = write(100, 5000);
  const auto state = describe_state(file, 100);
  ASSERT_TRUE(state);
  for (const std::streamoff at : {0, 8, 12, 200, 411, 412, 3000, 5411}) {
    change(file, at);
    EXPECT_EQ(reason(check_state(*state)), "damaged_state") << at;
    change(file, at);
  }
  EXPECT_EQ(reason(check_state(*state)), "good");
}

TEST_F(StateFile, ACutOneAndALongerOneAreRefused) {
  const auto file = write(100, 5000);
  const auto state = describe_state(file, 100);
  ASSERT_TRUE(state);
  for (const std::uintmax_t size : {0u, 5u, 12u, 300u, 5411u, 5413u}) {
    std::filesystem::resize_file(file, size);
    EXPECT_EQ(reason(check_state(*state)), "damaged_state") << size;
  }
}

TEST_F(StateFile, WhatCannotBeAStateIsRefusedAtOnce) {
  const auto file = write(100, 0);
  std::filesystem::resize_file(file, 100);  // ends within its tokens
  ASSERT_FALSE(describe_state(file, 100));
  std::filesystem::resize_file(file, 4);
  ASSERT_FALSE(describe_state(file, 100));
  EXPECT_EQ(describe_state(folder_ / "none.slot", 1).error().reason, "io_error");
  std::filesystem::create_symlink(file, folder_ / "link.slot");
  EXPECT_EQ(describe_state(folder_ / "link.slot", 1).error().reason, "io_error");
  EXPECT_EQ(describe_state(folder_, 1).error().reason, "damaged_state");
}

TEST_F(StateFile, EqualTokensHaveEqualSums) {
  const auto one = describe_state(write(100, 10), 100);
  const auto other = describe_state(write(100, 500), 100);
  const auto third = describe_state(write(101, 500), 101);
  ASSERT_TRUE(one && other && third);
  EXPECT_EQ(one->token_sum, other->token_sum);
  EXPECT_NE(other->token_sum, third->token_sum);
  EXPECT_NE(one->sum, other->sum);
}

}  // namespace
}  // namespace lm::worker

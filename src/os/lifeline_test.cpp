#include "os/lifeline.h"

#include <array>
#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace lm::os {
namespace {

TEST(Lifeline, IsCutByTheEndOfItsOtherSideAndNotBefore) {
  boost::asio::io_context io;
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  UniqueFd ours(pipe[1]);
  int cuts = 0;
  auto held = Lifeline::hold(io.get_executor(), UniqueFd(pipe[0]), [&] { ++cuts; });
  ASSERT_TRUE(held) << held.error().message;
  io.poll();
  EXPECT_EQ(cuts, 0);
  ours.reset();
  io.restart();
  io.run();
  EXPECT_EQ(cuts, 1);
}

TEST(Lifeline, SaysNothingAfterItsOwnEnd) {
  boost::asio::io_context io;
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  UniqueFd ours(pipe[1]);
  int cuts = 0;
  {
    auto held = Lifeline::hold(io.get_executor(), UniqueFd(pipe[0]), [&] { ++cuts; });
  }
  ours.reset();
  io.run();
  EXPECT_EQ(cuts, 0);
}

TEST(Lifeline, IsNoFile) {
  boost::asio::io_context io;
  UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto held = Lifeline::hold(io.get_executor(), std::move(file), [] {});
  ASSERT_FALSE(held);
  EXPECT_EQ(held.error().reason, "bad_lifeline");
  EXPECT_FALSE(Lifeline::hold(io.get_executor(), UniqueFd(987), [] {}));
}

}  // namespace
}  // namespace lm::os

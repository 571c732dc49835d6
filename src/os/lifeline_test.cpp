#include "os/lifeline.h"

#include <array>
#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace lm::os {
namespace {

struct LifelineTest : ::testing::Test {
  LifelineTest() {
    std::array<int, 2> pipe{};
    EXPECT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    theirs.reset(pipe[0]);
    ours.reset(pipe[1]);
  }
  boost::asio::io_context io;
  UniqueFd theirs, ours;
  int cuts = 0;
};

TEST_F(LifelineTest, IsCutByTheEndOfItsOtherSideAndNotBefore) {
  auto held = Lifeline::hold(io.get_executor(), std::move(theirs), [&] { ++cuts; });
  ASSERT_TRUE(held) << held.error().message;
  io.poll();
  EXPECT_EQ(cuts, 0);
  ours.reset();
  io.restart();
  io.run();
  EXPECT_EQ(cuts, 1);
}

TEST_F(LifelineTest, SaysNothingAfterItsOwnEnd) {
  {
    auto held = Lifeline::hold(io.get_executor(), std::move(theirs), [&] { ++cuts; });
  }
  ours.reset();
  io.run();
  EXPECT_EQ(cuts, 0);
}

TEST_F(LifelineTest, IsNoFile) {
  UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto held = Lifeline::hold(io.get_executor(), std::move(file), [] {});
  ASSERT_FALSE(held);
  EXPECT_EQ(held.error().reason, "bad_lifeline");
  EXPECT_FALSE(Lifeline::hold(io.get_executor(), UniqueFd(987), [] {}));
}

}  // namespace
}  // namespace lm::os

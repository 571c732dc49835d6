#include "os/signals.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::os {
namespace {

using os::testing::run;

TEST(SignalEvents, ArriveAlsoWhenNobodyAwaitsAndWhileSomebodyDoes) {
  boost::asio::io_context io;
  SignalEvents signals(io.get_executor());
  ::raise(SIGTERM);
  EXPECT_EQ(run(io, signals.next()).value(), DaemonSignal::kTerminate);
  os::testing::when_idle(io, [] { ::raise(SIGHUP); });
  EXPECT_EQ(run(io, signals.next()).value(), DaemonSignal::kHangup);
  ::raise(SIGINT);
  EXPECT_EQ(run(io, signals.next()).value(), DaemonSignal::kInterrupt);
}

TEST(SignalEvents, CloseEndsTheWait) {
  boost::asio::io_context io;
  SignalEvents signals(io.get_executor());
  os::testing::when_idle(io, [&] { signals.close(); });
  EXPECT_EQ(run(io, signals.next()).error().code, ErrorCode::kCancelled);
  EXPECT_EQ(run(io, signals.next()).error().code, ErrorCode::kCancelled);
}

TEST(BrokenPipes, AreErrorsOfTheWrite) {
  ignore_broken_pipes();
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  ::close(pipe[0]);
  EXPECT_EQ(::write(pipe[1], "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  ::close(pipe[1]);
  ::signal(SIGPIPE, SIG_DFL);
}

}  // namespace
}  // namespace lm::os

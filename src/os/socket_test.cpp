#include "os/socket.h"

#include <chrono>
#include <fcntl.h>
#include <random>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::os {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
namespace asio = boost::asio;

class LineLinkTest : public ::testing::Test {
 protected:
  LineLinkTest() : pair(make_socket_pair().value()), link(io.get_executor(), std::move(pair.ours)) {}

  void say(std::string_view text) {
    ASSERT_EQ(::send(pair.childs.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  // What the other side finds, without waiting.
  std::string hear() {
    std::string text;
    std::array<char, 65536> chunk;
    ssize_t n = 0;
    while ((n = ::recv(pair.childs.get(), chunk.data(), chunk.size(), MSG_DONTWAIT)) > 0) {
      text.append(chunk.data(), static_cast<std::size_t>(n));
    }
    return text;
  }

  asio::io_context io;
  SocketPair pair;
  LineLink link;
};

TEST_F(LineLinkTest, DescriptorsAreCloseOnExecAndOnlyOursIsNonBlocking) {
  const auto fresh = make_socket_pair().value();
  EXPECT_NE(::fcntl(fresh.ours.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(fresh.childs.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(fresh.ours.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(fresh.childs.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(LineLinkTest, ReadsLinesAsTheyCome) {
  say("one\n\ntw");
  EXPECT_EQ(run(io, link.read_line()).value(), "one");
  EXPECT_EQ(run(io, link.read_line()).value(), "");
  os::testing::when_idle(io, [&] { say("o\n"); });
  EXPECT_EQ(run(io, link.read_line()).value(), "two");
}

TEST_F(LineLinkTest, AnySplittingGivesTheSameLines) {
  std::mt19937 random(20261120);
  std::vector<std::string> lines;
  std::string text;
  for (int i = 0; i < 400; ++i) {
    // Any byte but the newline, zero included.
    std::string line(std::uniform_int_distribution<std::size_t>(0, i % 50 == 0 ? 40'000 : 60)(random), ' ');
    for (char& c : line) c = static_cast<char>(std::uniform_int_distribution<int>(11, 265)(random));
    lines.push_back(line);
    text += line + "\n";
  }
  std::size_t at = 0;
  std::function<void()> more = [&] {
    if (at == text.size()) return;
    const auto size = std::min(std::uniform_int_distribution<std::size_t>(1, 3000)(random), text.size() - at);
    const auto sent = ::send(pair.childs.get(), text.data() + at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) at += static_cast<std::size_t>(sent);
    asio::post(io, more);
  };
  asio::post(io, more);
  const auto read_all = [](LineLink& from, std::size_t count) -> Task<std::vector<std::string>> {
    std::vector<std::string> read;
    while (read.size() < count) {
      auto line = co_await from.read_line();
      if (!line) break;
      read.push_back(std::move(*line));
    }
    co_return read;
  };
  EXPECT_EQ(run(io, read_all(link, lines.size())), lines);
}

TEST_F(LineLinkTest, TheEndIsAnErrorAfterTheLastWholeLine) {
  say("last\nunfinished");
  pair.childs.reset();
  EXPECT_EQ(run(io, link.read_line()).value(), "last");
  for (int i = 0; i < 2; ++i) {
    const auto end = run(io, link.read_line());
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, ErrorCode::kUnavailable);
    EXPECT_EQ(end.error().reason, "closed");
  }
  EXPECT_FALSE(link.write_line("nobody hears"));
}

TEST_F(LineLinkTest, AnEndlessLineIsRefusedAndNotKept) {
  const std::string junk(100'000, 'x');
  std::function<void()> more = [&] {
    const auto sent = ::send(pair.childs.get(), junk.data(), junk.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0 || errno == EAGAIN) asio::post(io, more);
  };
  asio::post(io, more);
  const auto refused = run(io, link.read_line(10'000));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().reason, "line_too_long");
  EXPECT_EQ(run(io, link.read_line()).error().reason, "line_too_long") << "it stays broken";
}

TEST_F(LineLinkTest, TheLimitIsExact) {
  say(std::string(10, 'x') + "\n" + std::string(11, 'y') + "\n");
  EXPECT_EQ(run(io, link.read_line(10)).value(), std::string(10, 'x'));
  EXPECT_EQ(run(io, link.read_line(10)).error().reason, "line_too_long");
}

TEST_F(LineLinkTest, ADeadlineLosesNothing) {
  say("half");
  const auto late = run(io, link.read_line(100, 1ms));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadlineExceeded);
  say(" done\n");
  EXPECT_EQ(run(io, link.read_line(100, 20s)).value(), "half done");
}

TEST_F(LineLinkTest, ACancelledReadLosesNothing) {
  asio::cancellation_signal cancel;
  std::optional<Result<std::string>> result;
  asio::co_spawn(
      io, link.read_line(),
      asio::bind_cancellation_slot(
          cancel.slot(), [&](std::exception_ptr, Result<std::string> line) { result = std::move(line); }));
  os::testing::when_idle(io, [&] { cancel.emit(asio::cancellation_type::terminal); });
  ASSERT_TRUE(os::testing::run_until(io, [&] { return result.has_value(); }));
  ASSERT_FALSE(*result);
  EXPECT_EQ(result->error().code, ErrorCode::kCancelled);
  say("still here\n");
  EXPECT_EQ(run(io, link.read_line()).value(), "still here");
}

TEST_F(LineLinkTest, CloseEndsAPendingRead) {
  os::testing::when_idle(io, [&] { link.close(); });
  EXPECT_EQ(run(io, link.read_line()).error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(link.write_line("x"));
  EXPECT_EQ(hear(), "");
}

TEST_F(LineLinkTest, WritesInOrderAtOnce) {
  ASSERT_TRUE(link.write_line("one"));
  ASSERT_TRUE(link.write_line(""));
  ASSERT_TRUE(link.write_line("three"));
  EXPECT_EQ(link.unsent(), 0U);
  EXPECT_EQ(hear(), "one\n\nthree\n");
  EXPECT_TRUE(run(io, link.flush()));
}

TEST_F(LineLinkTest, WhatIsNotReadIsQueuedInOrderUpToALimit) {
  std::string expected;
  Result<void> written;
  int count = 0;
  for (;; ++count) {
    const std::string line = std::to_string(count) + std::string(10'000, '.');
    written = link.write_line(line);
    if (!written) break;
    expected += line + "\n";
    ASSERT_LT(expected.size(), 16U << 20);
  }
  EXPECT_EQ(written.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(written.error().reason, "link_full");
  EXPECT_LE(link.unsent(), LineLink::kMostUnsent);
  EXPECT_GT(link.unsent(), LineLink::kMostUnsent / 2);
  EXPECT_EQ(run(io, link.flush(1ms)).error().code, ErrorCode::kDeadlineExceeded);
  // A read that meets its deadline must not stop the writing.
  EXPECT_EQ(run(io, link.read_line(100, 1ms)).error().code, ErrorCode::kDeadlineExceeded);

  std::string heard;
  ASSERT_TRUE(os::testing::run_until(io, [&] {
    heard += hear();
    return heard.size() >= expected.size();
  }));
  EXPECT_EQ(heard, expected);
  EXPECT_TRUE(run(io, link.flush(20s)));
  EXPECT_TRUE(link.write_line("and on"));
}

TEST_F(LineLinkTest, ALastWordIsReadAlsoAfterAFailedWrite) {
  say("insufficient_memory\n");
  pair.childs.reset();
  // The first write may still be taken by the kernel.
  const bool failed = !link.write_line("x") || !link.write_line("y");
  EXPECT_TRUE(failed);
  EXPECT_EQ(run(io, link.flush()).error().reason, "closed");
  EXPECT_EQ(run(io, link.read_line()).value(), "insufficient_memory");
  EXPECT_EQ(run(io, link.read_line()).error().reason, "closed");
}

}  // namespace
}  // namespace lm::os

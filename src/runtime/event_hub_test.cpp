#include "runtime/event_hub.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

struct EventHubTest : testing::Test {
  boost::asio::io_context context;
  EventHub hub{context.get_executor()};

  void publish(int n) {
    hub.publish(Progress{ModelId("m" + std::to_string(n)), InstanceId(), LoadStage::kWeights, 0});
  }

  // Runs a task to its end; everything it waits for must have happened.
  void run(std::function<Task<>()> body) {
    bool done = false;
    boost::asio::co_spawn(context, [&]() -> Task<> { co_await body(), done = true; }, boost::asio::detached);
    context.restart();
    context.run();
    ASSERT_TRUE(done);
  }
};

std::string name(const Happening& h) {
  return std::get<Progress>(h.news).model.str();
}

TEST_F(EventHubTest, AListenerHearsWhatComesAfterItCame) {
  publish(1);
  auto subscription = hub.subscribe();
  publish(2);
  publish(3);
  run([&]() -> Task<> {
    EXPECT_EQ(name(*co_await subscription.next(std::chrono::hours(1))), "m2");
    EXPECT_EQ(name(*co_await subscription.next(std::chrono::hours(1))), "m3");
    EXPECT_EQ(co_await subscription.next(Duration()), nullptr);
  });
}

TEST_F(EventHubTest, WhoWasAwayResumesByNumber) {
  for (int i = 1; i <= 5; ++i) publish(i);
  auto subscription = hub.subscribe(3);
  run([&]() -> Task<> {
    const auto next = co_await subscription.next(std::chrono::hours(1));
    EXPECT_EQ(next->id, 4U);
    EXPECT_EQ(name(*next), "m4");
  });
}

TEST_F(EventHubTest, ASlowListenerLosesTheOldestAndIsTold) {
  auto subscription = hub.subscribe();
  const int total = static_cast<int>(EventHub::kKept) + 10;
  for (int i = 1; i <= total; ++i) publish(i);
  run([&]() -> Task<> {
    const auto first = co_await subscription.next(std::chrono::hours(1));
    EXPECT_EQ(first->id, 11U);
    EXPECT_TRUE(subscription.take_missed());
    EXPECT_FALSE(subscription.take_missed());
  });
}

TEST_F(EventHubTest, AWaitingListenerWakes) {
  auto subscription = hub.subscribe();
  std::string heard;
  boost::asio::co_spawn(
      context, [&]() -> Task<> { heard = name(*co_await subscription.next(std::chrono::hours(1))); },
      boost::asio::detached);
  context.poll();
  EXPECT_EQ(heard, "");
  publish(7);
  context.restart();
  context.poll();
  EXPECT_EQ(heard, "m7");
}

TEST_F(EventHubTest, ANumberFromAnotherLifeStartsOver) {
  publish(1);
  auto subscription = hub.subscribe(999);
  publish(2);
  run([&]() -> Task<> { EXPECT_EQ(name(*co_await subscription.next(std::chrono::hours(1))), "m2"); });
}

}  // namespace
}  // namespace lm::runtime

#include "runtime/lease.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

struct LeasesTest : testing::Test {
  boost::asio::io_context context;
  std::vector<Event> posted;
  Leases leases{context.get_executor(), [this](Event e) { posted.push_back(std::move(e)); },
                [] { return TimePoint(); }};

  template <class T>
  int count() const {
    int n = 0;
    for (const Event& e : posted) n += std::holds_alternative<T>(e) ? 1 : 0;
    return n;
  }
  RequestId last_request() const { return std::get<RequestArrived>(posted.back()).request; }
  GrantLease grant_of(RequestId request) const {
    return {request, InstanceId(1), Generation(1), ModelId("m")};
  }
};

TEST_F(LeasesTest, AGrantedLeaseEndsOnce) {
  auto ticket = leases.ask({.model = ModelId("m")});
  leases.grant(grant_of(last_request()));
  ASSERT_TRUE(ticket.decided());
  {
    auto lease = ticket.take();
    ASSERT_TRUE(lease);
    EXPECT_EQ(lease->model().str(), "m");
    EXPECT_EQ(leases.held(), 1U);
    Lease moved = *std::move(lease);
    moved.release();
    moved.release();
  }
  EXPECT_EQ(count<LeaseReleased>(), 1);
  EXPECT_EQ(count<RequestCancelled>(), 0);
  EXPECT_EQ(leases.held(), 0U);
}

TEST_F(LeasesTest, WhatItHasToExpectIsTold) {
  auto ticket = leases.ask({.model = ModelId("m"), .weight = 2.5});
  EXPECT_EQ(std::get<RequestArrived>(posted.back()).weight, 2.5);
  EXPECT_EQ(ticket.request(), last_request());
  EXPECT_FALSE(ticket.expected());
  leases.tell(
      {last_request(), {.position = 3, .wait = std::chrono::seconds(7), .holder = {}, .held_for = {}}});
  leases.tell({RequestId(4711), {}});  // it has left
  ASSERT_TRUE(ticket.expected());
  EXPECT_EQ(ticket.expected()->position, 3);
  leases.grant(grant_of(ticket.request()));
  const auto lease = ticket.take();
  ASSERT_TRUE(lease && lease->expected());
  EXPECT_EQ(lease->expected()->wait, std::chrono::seconds(7));
}

TEST_F(LeasesTest, AWaitThatIsDroppedIsTakenBack) {
  {
    auto ticket = leases.ask({.model = ModelId("m")});
  }
  EXPECT_EQ(count<RequestCancelled>(), 1);
  EXPECT_EQ(count<LeaseReleased>(), 0);
}

TEST_F(LeasesTest, AGrantNobodyTakesIsReleased) {
  {
    auto ticket = leases.ask({.model = ModelId("m")});
    leases.grant(grant_of(last_request()));
  }
  EXPECT_EQ(count<LeaseReleased>(), 1);
  EXPECT_EQ(count<RequestCancelled>(), 0);
}

TEST_F(LeasesTest, AGrantThatComesTooLateIsHandedBack) {
  RequestId request;
  {
    auto ticket = leases.ask({.model = ModelId("m")});
    request = last_request();
  }
  leases.grant(grant_of(request));
  EXPECT_EQ(count<LeaseReleased>(), 1);
}

TEST_F(LeasesTest, ARejectionIsTheErrorAndNothingElse) {
  auto ticket = leases.ask({.model = ModelId("m")});
  leases.reject({last_request(), Error{.code = ErrorCode::kUnavailable,
                                       .message = "no",
                                       .reason = "model_held",
                                       .fields = {},
                                       .retry_after = {}}});
  const auto lease = ticket.take();
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().reason, "model_held");
  EXPECT_EQ(posted.size(), 1U);  // only the arrival
}

TEST_F(LeasesTest, ACutTellsWhy) {
  auto ticket = leases.ask({.model = ModelId("m")});
  const RequestId request = last_request();
  leases.grant(grant_of(request));
  auto lease = ticket.take();
  EXPECT_FALSE(lease->cut());
  leases.cut({InstanceId(1),
              {request},
              Error{.code = ErrorCode::kCancelled,
                    .message = "unloaded",
                    .reason = "model_unloaded",
                    .fields = {},
                    .retry_after = {}}});
  ASSERT_TRUE(lease->cut());
  EXPECT_EQ(lease->cut()->reason, "model_unloaded");
}

TEST_F(LeasesTest, AWaitWakesWhenDecided) {
  auto ticket = leases.ask({.model = ModelId("m")});
  const RequestId request = last_request();
  bool woke = false;
  boost::asio::co_spawn(
      context, [&]() -> Task<> { woke = co_await ticket.wait(std::chrono::hours(1)); },
      boost::asio::detached);
  context.poll();
  EXPECT_FALSE(woke);
  leases.grant(grant_of(request));
  context.restart();
  context.poll();
  EXPECT_TRUE(woke);
}

TEST_F(LeasesTest, APreemptedLeaseWaitsAgain) {
  auto ticket = leases.ask({.model = ModelId("m"), .preemptible = true});
  const RequestId request = last_request();
  EXPECT_TRUE(std::get<RequestArrived>(posted.back()).preemptible);
  leases.grant(grant_of(request));
  auto lease = ticket.take();
  int calls = 0;
  lease->on_preempt([&] { ++calls; });
  EXPECT_FALSE(lease->preempted());
  lease->began();
  lease->began();
  EXPECT_EQ(count<AnswerBegan>(), 1);
  leases.preempt({InstanceId(1), {request}});
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(lease->preempted());
  EXPECT_EQ(leases.held(), 0U);
  EXPECT_EQ(leases.preemptions(), 1U);
  EXPECT_EQ(count<RequestPreempted>(), 1);

  auto again = Leases::again(*std::move(lease));
  EXPECT_FALSE(again.decided());
  leases.grant({request, InstanceId(2), Generation(2), ModelId("m")});
  ASSERT_TRUE(again.decided());
  {
    const auto resumed = again.take();
    ASSERT_TRUE(resumed);
    EXPECT_FALSE(resumed->preempted());
    resumed->began();
    EXPECT_EQ(count<AnswerBegan>(), 2) << "each part begins";
    EXPECT_EQ(resumed->instance(), InstanceId(2));
    EXPECT_EQ(leases.held(), 1U);
  }
  EXPECT_EQ(count<LeaseReleased>(), 1);
  EXPECT_EQ(count<RequestCancelled>(), 0);
}

TEST_F(LeasesTest, APreemptedAnswerThatEndedAllTheSameTakesItsWaitBack) {
  const auto run = [this](bool granted_again) {
    auto ticket = leases.ask({.model = ModelId("m"), .preemptible = true});
    const RequestId request = last_request();
    leases.grant(grant_of(request));
    auto lease = ticket.take();
    leases.preempt({InstanceId(1), {request}});
    if (granted_again) leases.grant({request, InstanceId(2), Generation(2), ModelId("m")});
  };
  run(false);
  EXPECT_EQ(count<RequestCancelled>(), 1);
  EXPECT_EQ(count<LeaseReleased>(), 0);
  run(true);
  EXPECT_EQ(count<RequestCancelled>(), 1);
  EXPECT_EQ(count<LeaseReleased>(), 1);
  EXPECT_EQ(leases.held(), 0U);
}

TEST_F(LeasesTest, WhoWatchesTooLateIsCalledAtOnce) {
  auto ticket = leases.ask({.model = ModelId("m"), .preemptible = true});
  leases.grant(grant_of(last_request()));
  auto lease = ticket.take();
  leases.preempt({InstanceId(1), {std::get<RequestArrived>(posted.front()).request}});
  int calls = 0;
  lease->on_preempt([&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

// Between the grant and the moment in which whoever waits looks.
TEST_F(LeasesTest, AGrantThatIsPreemptedBeforeItIsTakenIsWaitedForAgain) {
  auto ticket = leases.ask({.model = ModelId("m"), .preemptible = true});
  const RequestId request = last_request();
  leases.grant(grant_of(request));
  leases.preempt({InstanceId(1), {request}});
  EXPECT_FALSE(ticket.decided());
  leases.grant({request, InstanceId(2), Generation(2), ModelId("m")});
  auto lease = ticket.take();
  ASSERT_TRUE(lease);
  EXPECT_FALSE(lease->preempted()) << "nothing had been given";
}

TEST_F(LeasesTest, APreemptedWaitCanBeRejected) {
  auto ticket = leases.ask({.model = ModelId("m"), .preemptible = true});
  const RequestId request = last_request();
  leases.grant(grant_of(request));
  auto lease = ticket.take();
  leases.preempt({InstanceId(1), {request}});
  auto again = Leases::again(*std::move(lease));
  leases.reject({request, Error{.code = ErrorCode::kUnavailable,
                                .message = "no",
                                .reason = "model_held",
                                .fields = {},
                                .retry_after = {}}});
  const auto result = again.take();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().reason, "model_held");
  EXPECT_EQ(count<LeaseReleased>() + count<RequestCancelled>(), 0);
}

}  // namespace
}  // namespace lm::runtime

#include "core/backlog.h"

#include <gtest/gtest.h>

namespace lm::core {
namespace {

const ModelId kA("a");
const ModelId kB("b");
constexpr auto kInteractive = PriorityClass::kInteractive;
constexpr auto kBatch = PriorityClass::kBatch;

TimePoint at(int s) {
  return TimePoint(std::chrono::seconds(s));
}

Waiter request(std::uint64_t id, const ModelId& model, int arrived, PriorityClass priority = kInteractive,
               int deadline = 1000) {
  return {.kind = Waiter::Kind::kRequest,
          .request = RequestId(id),
          .model = model,
          .priority = priority,
          .arrived = at(arrived),
          .waiting_since = at(arrived),
          .deadline = at(deadline)};
}
Waiter job(std::uint64_t id, const ModelId& model, int arrived) {
  return {.kind = Waiter::Kind::kJob,
          .job = JobId(id),
          .model = model,
          .arrived = at(arrived),
          .waiting_since = at(arrived),
          .deadline = at(1000)};
}
Waiter pin(const ModelId& model, int arrived) {
  return {.kind = Waiter::Kind::kPin,
          .model = model,
          .priority = kBatch,
          .arrived = at(arrived),
          .waiting_since = at(arrived),
          .deadline = at(1000)};
}

std::vector<std::uint64_t> ids(const std::vector<Waiter>& waiters) {
  std::vector<std::uint64_t> all;
  for (const Waiter& w : waiters) all.push_back(w.request.value());
  return all;
}

TEST(Backlog, InteractiveBeforeBatchFirstComeFirst) {
  Backlog backlog;
  backlog.add(request(1, kA, 1, kBatch));
  backlog.add(request(2, kA, 2));
  backlog.add(request(3, kA, 3, kBatch));
  backlog.add(request(4, kA, 4));
  EXPECT_EQ(ids(backlog.of(kA)), (std::vector<std::uint64_t>{2, 4, 1, 3}));
  EXPECT_EQ(backlog.head(kA, kInteractive)->request, RequestId(2));
  EXPECT_EQ(backlog.head(kA, kBatch)->request, RequestId(1));
  EXPECT_EQ(backlog.oldest(kA), at(1)) << "whatever its class";
}

TEST(Backlog, TakesOneOutAndKeepsTheOrder) {
  Backlog backlog;
  for (int i = 1; i <= 4; ++i) backlog.add(request(static_cast<std::uint64_t>(i), kA, i));
  EXPECT_EQ(backlog.take(RequestId(2))->arrived, at(2));
  EXPECT_FALSE(backlog.take(RequestId(2)));
  EXPECT_FALSE(backlog.take(RequestId(9)));
  EXPECT_EQ(ids(backlog.of(kA)), (std::vector<std::uint64_t>{1, 3, 4}));
  EXPECT_EQ(backlog.requests(), 3);
}

TEST(Backlog, CountsRequestsNotJobsAndPins) {
  Backlog backlog;
  backlog.add(request(1, kA, 1));
  backlog.add(job(1, kA, 2));
  backlog.add(pin(kA, 3));
  backlog.add(request(2, kB, 4));
  EXPECT_EQ(backlog.requests(), 2);
  EXPECT_EQ(backlog.requests(kA), 1);
  EXPECT_TRUE(backlog.has_pin(kA));
  EXPECT_TRUE(backlog.has_job(kA));
  EXPECT_FALSE(backlog.has_pin(kB));
  EXPECT_FALSE(backlog.has_job(kB));
  EXPECT_FALSE(backlog.take(RequestId(0))) << "a job is no request";
  EXPECT_TRUE(backlog.take(JobId(1)));
  EXPECT_FALSE(backlog.take(JobId(1)));
}

TEST(Backlog, AHeadIsARequest) {
  Backlog backlog;
  backlog.add(job(1, kA, 1));
  backlog.add(pin(kA, 1));
  EXPECT_EQ(backlog.head(kA, kInteractive), nullptr);
  EXPECT_EQ(backlog.head(kA, kBatch), nullptr);
  EXPECT_EQ(backlog.head(kB, kBatch), nullptr);
}

TEST(Backlog, TakesByKind) {
  Backlog backlog;
  const auto fill = [&] {
    backlog.take_all(kA);
    backlog.add(request(1, kA, 1));
    backlog.add(job(7, kA, 2));
    backlog.add(pin(kA, 3));
    backlog.add(request(2, kA, 4, kBatch));
  };
  fill();
  EXPECT_EQ(backlog.take_jobs_and_pins(kA).size(), 2U);
  EXPECT_EQ(ids(backlog.of(kA)), (std::vector<std::uint64_t>{1, 2}));
  fill();
  EXPECT_EQ(ids(backlog.take_requests(kA)), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(backlog.requests(), 0);
  EXPECT_TRUE(backlog.has_job(kA) && backlog.has_pin(kA));
  EXPECT_TRUE(backlog.take_requests(kB).empty());
  fill();
  EXPECT_EQ(backlog.take_requests_and_jobs(kA).size(), 3U);
  EXPECT_TRUE(backlog.has_pin(kA));
  EXPECT_EQ(backlog.requests(), 0);
  fill();
  backlog.take_pin(kA);
  EXPECT_FALSE(backlog.has_pin(kA));
  EXPECT_EQ(backlog.of(kA).size(), 3U);
  fill();
  EXPECT_EQ(backlog.take_all(kA).size(), 4U);
  EXPECT_FALSE(backlog.any(kA));
  EXPECT_TRUE(backlog.by_model().empty()) << "no empty queues are kept";
  EXPECT_TRUE(backlog.take_all(kB).empty());
  EXPECT_TRUE(backlog.take_jobs_and_pins(kB).empty());
  EXPECT_TRUE(backlog.take_requests_and_jobs(kB).empty());
  backlog.take_pin(kB);
}

TEST(Backlog, KnowsTheOldestRequestOfAll) {
  Backlog backlog;
  EXPECT_FALSE(backlog.oldest_request());
  EXPECT_FALSE(backlog.oldest(kA));
  backlog.add(pin(kA, 1));
  EXPECT_FALSE(backlog.oldest_request()) << "a pin is no request";
  backlog.add(request(1, kB, 9));
  backlog.add(request(2, kA, 5));
  EXPECT_EQ(backlog.oldest_request(), at(5));
}

TEST(Backlog, ExpiresAtTheDeadline) {
  Backlog backlog;
  EXPECT_FALSE(backlog.next_deadline());
  backlog.add(request(1, kA, 1, kInteractive, 30));
  backlog.add(request(2, kA, 1, kInteractive, 10));
  backlog.add(request(3, kB, 1, kBatch, 20));
  EXPECT_EQ(backlog.next_deadline(), at(10));
  EXPECT_TRUE(backlog.take_expired(at(9)).empty());
  EXPECT_EQ(ids(backlog.take_expired(at(20))), (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ(backlog.requests(), 1);
  EXPECT_EQ(backlog.next_deadline(), at(30));
  EXPECT_EQ(backlog.take_expired(at(30)).size(), 1U);
  EXPECT_FALSE(backlog.next_deadline());
}

}  // namespace
}  // namespace lm::core

#include "runtime/jobs.h"

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

TEST(Jobs, AFinishedOneIsKeptAnAbandonedOneIsNot) {
  boost::asio::io_context context;
  Jobs jobs(context.get_executor());
  const JobId done = jobs.open("load", ModelId("a"), TimePoint());
  const JobId left = jobs.open("load", ModelId("b"), TimePoint());
  jobs.finish({done, std::nullopt, {.changed = true}}, TimePoint(std::chrono::seconds(7)));
  jobs.abandon(left);
  jobs.abandon(done);  // too late: it has ended
  ASSERT_NE(jobs.find(done), nullptr);
  EXPECT_TRUE(jobs.find(done)->result.changed);
  EXPECT_EQ(jobs.find(done)->ended_at, TimePoint(std::chrono::seconds(7)));
  EXPECT_EQ(jobs.find(left), nullptr);
  jobs.finish({left, std::nullopt, {}}, TimePoint());  // crossed with the leaving: nobody is told
  EXPECT_EQ(jobs.find(left), nullptr);
}

TEST(Jobs, OnlyTheLastOutcomesAreKept) {
  boost::asio::io_context context;
  Jobs jobs(context.get_executor());
  std::vector<JobId> ids;
  for (std::size_t i = 0; i < Jobs::kKept + 5; ++i) {
    ids.push_back(jobs.open("load", ModelId("a"), TimePoint()));
    jobs.finish({ids.back(), std::nullopt, {}}, TimePoint());
  }
  EXPECT_EQ(jobs.find(ids.front()), nullptr);
  EXPECT_NE(jobs.find(ids[5]), nullptr);
}

}  // namespace
}  // namespace lm::runtime

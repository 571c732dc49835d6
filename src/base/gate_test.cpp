#include "base/gate.h"

#include <memory>
#include <stdexcept>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "base/latch.h"

namespace lm {
namespace {

namespace asio = boost::asio;

class GateTest : public ::testing::Test {
 protected:
  // Runs what is ready; true once the wait has ended.
  void wait(Duration limit, int& ended, bool& emptied) {
    asio::co_spawn(context, gate.wait_empty(limit), [&](std::exception_ptr, bool is_empty) {
      ++ended;
      emptied = is_empty;
    });
    context.poll();
  }
  asio::io_context context{1};
  Gate gate{context.get_executor()};
};

TEST_F(GateTest, EmptyDoesNotWait) {
  int ended = 0;
  bool emptied = false;
  wait(Duration::max(), ended, emptied);
  EXPECT_EQ(ended, 1);
  EXPECT_TRUE(emptied);
}

TEST_F(GateTest, WaitsForTheLast) {
  auto first = gate.enter();
  auto second = gate.enter();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(gate.inside(), 2u);
  gate.close();
  EXPECT_FALSE(gate.enter());
  int ended = 0;
  bool emptied = false;
  wait(Duration::max(), ended, emptied);
  wait(Duration::max(), ended, emptied);
  EXPECT_EQ(ended, 0);
  first.reset();
  context.poll();
  EXPECT_EQ(ended, 0);
  *second = Gate::Hold();
  context.poll();
  EXPECT_EQ(ended, 2);
  EXPECT_TRUE(emptied);
}

TEST_F(GateTest, MovedHoldsCountOnce) {
  Gate::Hold hold = std::move(*gate.enter());
  Gate::Hold moved = std::move(hold);
  EXPECT_EQ(gate.inside(), 1u);
  EXPECT_TRUE(moved);
  moved = std::move(*gate.enter());
  EXPECT_EQ(gate.inside(), 1u);
}

TEST_F(GateTest, GivesUpAtTheLimit) {
  const auto hold = gate.enter();
  int ended = 0;
  bool emptied = true;
  wait(std::chrono::milliseconds(1), ended, emptied);
  context.run();
  EXPECT_EQ(ended, 1);
  EXPECT_FALSE(emptied);
}

TEST_F(GateTest, SomebodyWhoEntersBeforeTheWakeUpIsWaitedFor) {
  auto first = gate.enter();
  int ended = 0;
  bool emptied = false;
  wait(Duration::max(), ended, emptied);
  first.reset();
  auto second = gate.enter();
  context.poll();
  EXPECT_EQ(ended, 0);
  second.reset();
  context.poll();
  EXPECT_EQ(ended, 1);
}

TEST(Gate, HoldsMayOutliveIt) {
  asio::io_context context;
  std::optional<Gate::Hold> hold;
  {
    Gate gate(context.get_executor());
    hold = gate.enter();
  }
  hold.reset();
}

TEST_F(GateTest, RunsTasksInside) {
  Latch latch(context.get_executor());
  bool done = false;
  const auto work = [](Latch awaited, bool* into) -> Task<> {
    co_await awaited.wait(std::chrono::hours(1));
    *into = true;
  };
  EXPECT_TRUE(gate.start(work(latch, &done)));
  context.poll();
  EXPECT_EQ(gate.inside(), 1u);
  gate.close();
  EXPECT_FALSE(gate.start(work(latch, &done))) << "none begins once it is closed";
  latch.open();
  context.poll();
  EXPECT_TRUE(done);
  EXPECT_EQ(gate.inside(), 0u);
}

TEST_F(GateTest, CancelsWhatItRuns) {
  const Latch never(context.get_executor());
  int ended = 0;
  const auto work = [](Latch awaited, int* count) -> Task<> {
    const std::shared_ptr<void> at_end(nullptr, [count](void*) { ++*count; });
    co_await awaited.wait(std::chrono::hours(1));
    ADD_FAILURE() << "a cancelled wait does not return";
  };
  for (int i = 0; i < 3; ++i) gate.start(work(never, &ended));
  context.poll();
  EXPECT_EQ(gate.inside(), 3u);
  gate.cancel();
  context.poll();
  EXPECT_EQ(ended, 3);
  EXPECT_EQ(gate.inside(), 0u);
}

TEST_F(GateTest, OtherExceptionsComeOut) {
  gate.start([]() -> Task<> {
    throw std::logic_error("broken");
    co_return;
  }());
  EXPECT_THROW(context.poll(), std::logic_error);
  context.poll();
  EXPECT_EQ(gate.inside(), 0u);
}

}  // namespace
}  // namespace lm

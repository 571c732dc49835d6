#include "runtime/idle_checkpoints.h"

#include <vector>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class IdleCheckpointsTest : public testing::Test {
 protected:
  IdleCheckpoints make(Duration idle) {
    return IdleCheckpoints({.executor = io_.get_executor(),
                            .begin = [this](InstanceId i) { begun_.push_back(i.value()); },
                            .cancel = [this](InstanceId i) { cancelled_.push_back(i.value()); }},
                           idle);
  }

  boost::asio::io_context io_;
  std::vector<std::uint64_t> begun_, cancelled_;
};

constexpr Duration kSoon = std::chrono::milliseconds(1);
const InstanceId kOne(1), kTwo(2);

TEST_F(IdleCheckpointsTest, ComesOnceAfterTheLastRequestHasEnded) {
  auto checkpoints = make(kSoon);
  checkpoints.granted(RequestId(1), kOne);
  checkpoints.granted(RequestId(2), kOne);
  checkpoints.released(RequestId(1));
  io_.run();  // returns when no timer is armed
  EXPECT_THAT(begun_, IsEmpty()) << "one request is still served";
  checkpoints.released(RequestId(2));
  io_.restart();
  io_.run();
  EXPECT_THAT(begun_, ElementsAre(1));
  io_.restart();
  io_.run();
  EXPECT_THAT(begun_, ElementsAre(1));
}

TEST_F(IdleCheckpointsTest, ANewRequestPutsItOffAndCancelsWhatIsUnderWay) {
  auto checkpoints = make(kSoon);
  checkpoints.granted(RequestId(1), kOne);
  checkpoints.released(RequestId(1));
  checkpoints.granted(RequestId(2), kOne);
  EXPECT_THAT(cancelled_, ElementsAre(1, 1));
  io_.run();
  EXPECT_THAT(begun_, IsEmpty());
}

TEST_F(IdleCheckpointsTest, InstancesHaveNothingToDoWithEachOther) {
  auto checkpoints = make(kSoon);
  checkpoints.granted(RequestId(1), kOne);
  checkpoints.granted(RequestId(2), kTwo);
  checkpoints.released(RequestId(1));
  io_.run();
  EXPECT_THAT(begun_, ElementsAre(1));
}

TEST_F(IdleCheckpointsTest, NothingForAnInstanceThatHasEndedNorForRequestsThatWereNeverGranted) {
  auto checkpoints = make(kSoon);
  checkpoints.released(RequestId(7));
  checkpoints.granted(RequestId(1), kOne);
  checkpoints.released(RequestId(1));
  checkpoints.ended(kOne);
  io_.run();
  EXPECT_THAT(begun_, IsEmpty());
}

TEST_F(IdleCheckpointsTest, ZeroIsNever) {
  auto checkpoints = make(Duration());
  checkpoints.granted(RequestId(1), kOne);
  checkpoints.released(RequestId(1));
  io_.run();
  EXPECT_THAT(begun_, IsEmpty());
}

}  // namespace
}  // namespace lm::runtime

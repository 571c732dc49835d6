#include "core/expected_wait.h"

#include <random>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

constexpr TimePoint kNow{std::chrono::hours(1)};

Duration span(double s) {
  return from_seconds(s);
}
TimePoint in(double s) {
  return kNow + span(s);
}

// Answers of 2 s on two slots, loaded in 1 s, asked for no more.
Line line(double waiting = 0, double oldest = 0) {
  return {.waiting = waiting,
          .waiting_seconds = waiting * oldest,
          .head = in(-oldest),
          .aged_at = waiting > 0 ? in(30 - oldest) : TimePoint::max(),
          .age_cap = span(30),
          .slots = 2,
          .answer = span(2),
          .load = span(1)};
}

// The request's own line comes first. A quantum of 4 s, a tenth of a second to make room.
Race race(Line own) {
  Race r{.now = kNow,
         .lines = {own},
         .room_at = kNow,
         .ahead = own.waiting,
         .quantum = span(4),
         .room = span(0.1)};
  r.policy.drain = span(1);
  return r;
}

double wait_of(const Race& r) {
  return seconds(expected_wait(r).wait);
}

TEST(ExpectedWait, WithRoomItIsTheLoadAndThoseAhead) {
  EXPECT_DOUBLE_EQ(wait_of(race(line())), 1);
  EXPECT_DOUBLE_EQ(wait_of(race(line(1))), 1) << "the second slot is its own";
  EXPECT_DOUBLE_EQ(wait_of(race(line(2))), 2) << "of two answers one ends every second";
  EXPECT_DOUBLE_EQ(wait_of(race(line(5))), 5);
  EXPECT_FALSE(expected_wait(race(line(5))).holder) << "it waits for nobody's turn";
}

TEST(ExpectedWait, RoomThatIsOnItsWayIsWaitedFor) {
  Race r = race(line());
  r.room_at = in(3);
  EXPECT_DOUBLE_EQ(wait_of(r), 4);
  r.room_at = in(-3);
  EXPECT_DOUBLE_EQ(wait_of(r), 1) << "not in the past";
}

TEST(ExpectedWait, AModelThatLoadsIsReadyWhenItIs) {
  Race r = race(line(3));
  r.lanes = {{.line = 0, .began = in(0.25)}};
  EXPECT_DOUBLE_EQ(wait_of(r), 0.25 + 2);
}

TEST(ExpectedWait, WithItsModelThereItIsAFreeSlot) {
  Race r = race(line());
  r.lanes = {{.line = 0, .began = in(-10), .answering = 1}};
  EXPECT_DOUBLE_EQ(wait_of(r), 0);
  r.lanes[0].answering = 2;
  EXPECT_DOUBLE_EQ(wait_of(r), 1);
  r.lines[0].waiting = r.ahead = 3;
  EXPECT_DOUBLE_EQ(wait_of(r), 4);
  EXPECT_EQ(expected_wait(r).holder, 0U) << "those of its own model";
}

// The resident's turn began long ago and it answers: it may go on for a quantum after somebody waits.
Race behind_a_turn(double began, double answering, double batch = 0) {
  Race r = race(line());
  Line other = line(batch);
  other.rate = 1;  // as fast as it answers: never idle
  r.lines.push_back(other);
  r.lanes = {{.line = 1, .began = in(began), .answering = answering, .batch = batch}};
  return r;
}

TEST(ExpectedWait, BehindATurnItIsAQuantumADrainAndAChange) {
  Race r = behind_a_turn(-10, 2);
  // The quantum from its arrival, the last of two answers, the room, the load.
  EXPECT_NEAR(wait_of(r), 4 + seconds(last_of(2, span(2))) + 0.1 + 1, 1e-6);
  EXPECT_EQ(expected_wait(r).holder, 1U);
  EXPECT_NEAR(seconds(expected_wait(r).held_until - kNow), 4 + seconds(last_of(2, span(2))), 1e-6);
  r.lines[1].preemptible = 1;
  EXPECT_NEAR(wait_of(r), 4 + 1 + 0.1 + 1, 1e-6) << "set aside after the drain";
  r.lines[1].preemptible = 0.5;
  EXPECT_NEAR(wait_of(r), 4 + 2 + 0.1 + 1, 1e-6) << "one of them is waited for";
}

TEST(ExpectedWait, WhatWaitedAlreadyCounts) {
  Race r = behind_a_turn(-10, 2);
  r.lines[0] = line(1, 3);  // somebody before it has waited for three of the four seconds
  r.ahead = 1;
  r.lines[1].preemptible = 1;
  EXPECT_NEAR(wait_of(r), 1 + 1 + 0.1 + 1, 1e-6);
}

TEST(ExpectedWait, AnAgedHeadClosesTheGateAtOnce) {
  Race r = behind_a_turn(-10, 2);
  r.lines[1].preemptible = 1;
  r.quantum = span(100);
  r.lines[0] = line(1, 29);
  r.ahead = 1;
  EXPECT_NEAR(wait_of(r), 1 + 1 + 0.1 + 1, 1e-6) << "in a second it is thirty";
}

TEST(ExpectedWait, TheBatchIsServedFirst) {
  Race r = behind_a_turn(-0.5, 2, 20);
  r.lines[1].preemptible = 1;
  // Twenty behind two slots that are busy: one a second.
  EXPECT_NEAR(wait_of(r), 20 + 1 + 0.1 + 1, 1e-6);
  r.lines[0] = line(1, 500);
  r.ahead = 1;
  EXPECT_NEAR(wait_of(r), 20 + 1 + 0.1 + 1, 1e-6) << "however long others wait";
}

TEST(ExpectedWait, AnIdleResidentGoesAtOnce) {
  Race r = behind_a_turn(-10, 0);
  r.lines[1].rate = 0;
  EXPECT_NEAR(wait_of(r), 0.1 + 1, 1e-6);
  r.lanes[0].answering = 1;
  EXPECT_NEAR(wait_of(r), 2 + 0.1 + 1, 1e-6) << "or when its answer has ended";
}

TEST(ExpectedWait, OthersComeBefore) {
  Race r = behind_a_turn(-10, 2);
  r.lines[1].rate = 0;
  r.lines[1].answer = span(0.001);
  const double alone = wait_of(r);
  r.lines.push_back(line(4, 10));  // a third model, for longer
  const double with_other = wait_of(r);
  // Its load, then its batch of four on two slots, then our own change.
  EXPECT_NEAR(with_other - alone, 1 + 2 + seconds(last_of(2, span(2))) + 0.1, 0.1);
  r.lines[2].waiting = 0;
  r.lines[2].waiting_seconds = 0;
  EXPECT_NEAR(wait_of(r), alone, 1e-6) << "nobody waits there any more";
}

TEST(ExpectedWait, AWeightIsAShare) {
  Race r = behind_a_turn(-10, 0);
  r.lines[1].rate = 0;
  r.lines[0] = line(1, 2);
  r.ahead = 1;
  r.lines.push_back(line(1, 3));
  const double second = wait_of(r);
  r.lines[0].weight = 5;
  EXPECT_NEAR(wait_of(r), 1.1, 1e-6) << "it goes first";
  EXPECT_GT(second, 2);
}

TEST(ExpectedWait, TwoPlacesAreLeftOneAfterTheOther) {
  Race r = behind_a_turn(-10, 2);
  r.lines[1].preemptible = 1;
  r.lines.push_back(line());
  r.lanes.push_back({.line = 2, .began = in(-10), .answering = 0});
  EXPECT_NEAR(wait_of(r), 1.1, 1e-6) << "the idle one goes";
  r.lines.push_back(line(1, 5));
  EXPECT_NEAR(wait_of(r), 4 - 4 + 1 + 0.1 + 1 + 0 + 0, 4.2) << "the second place is for it";
  EXPECT_LT(wait_of(r), 6.2 + 1e-6);
}

TEST(ExpectedWait, WhoCameAfterTheGateClosedWaitsForItsNextTurn) {
  // Its model is there, has had its quantum, and another one wants the place.
  Race r = race(line());
  Line other = line(3, 10);
  r.lines.push_back(other);
  r.lanes = {{.line = 0, .began = in(-10), .answering = 2}};
  r.lines[0].preemptible = 1;
  const double late = wait_of(r);
  // The drain, the change, the others' batch and quantum at least, and the change back.
  EXPECT_GT(late, 1 + 1.1 + 1 + 1.1);
  r.in_batch = true;
  EXPECT_NEAR(wait_of(r), 1, 1e-6) << "one of the batch is served in this turn";
  r.in_batch = false;
  r.lines[1] = line(1, 0.5);
  r.lines[1].waiting_seconds = 0.5;
  r.lanes[0].began = in(-1);
  EXPECT_NEAR(wait_of(r), 1, 1e-6) << "within the quantum it is served too";
}

TEST(ExpectedWait, ThePoliciesDiffer) {
  Race r = behind_a_turn(-10, 2, 4);
  r.lines[1].rate = 0.5;
  r.policy.policy = SchedulingPolicy::kExhaustive;
  const double exhaustive = wait_of(r);
  r.policy.policy = SchedulingPolicy::kGated;
  EXPECT_LE(wait_of(r), exhaustive) << "until nobody of its own waits any more";
  r.policy.policy = SchedulingPolicy::kFifo;
  EXPECT_LE(wait_of(r), exhaustive);
}

TEST(ExpectedWait, WhatIsAskedForWithoutEndIsToldAsADay) {
  Race r = behind_a_turn(-10, 2);
  r.lines[1].answer = std::chrono::hours(100);
  r.policy.policy = SchedulingPolicy::kExhaustive;
  EXPECT_GE(expected_wait(r).wait, std::chrono::hours(24));
}

// Nothing comes out below zero or without an end, whatever goes in; one more ahead never shortens the wait,
// and neither does a slower load of its own.
TEST(ExpectedWait, HoldsForAnyRace) {
  std::mt19937_64 random(21);
  const auto some = [&](double most) { return static_cast<double>(random() % 1000) / 1000 * most; };
  for (int round = 0; round < 3000; ++round) {
    Race r;
    r.now = kNow;
    r.room_at = in(some(5));
    r.quantum = span(some(20));
    r.room = span(some(1));
    r.policy.drain = span(some(3));
    r.policy.policy = static_cast<SchedulingPolicy>(random() % 3);
    const std::size_t lines = 1 + random() % 6;
    for (std::size_t i = 0; i < lines; ++i) {
      Line l = line(static_cast<double>(random() % 8), some(40));
      l.rate = some(2);
      l.slots = 1 + static_cast<double>(random() % 4);
      l.answer = span(some(10));
      l.load = span(some(20));
      l.preemptible = some(1);
      l.weight = 0.1 + some(3);
      r.lines.push_back(l);
    }
    r.mine = random() % lines;
    r.ahead = std::min(r.lines[r.mine].waiting, static_cast<double>(random() % 8));
    const std::size_t lanes = random() % (lines + 1);
    for (std::size_t i = 0; i < lanes; ++i) {
      Lane lane{.line = i, .began = in(some(20) - 15), .answering = some(r.lines[i].slots)};
      lane.batch = std::min(r.lines[i].waiting, some(8));
      r.lanes.push_back(lane);
    }
    r.in_batch = random() % 4 == 0;
    // Somebody has to want a place for a turn to end; the request itself does where it has none.
    const Expected expected = expected_wait(r);
    ASSERT_GE(expected.wait, Duration()) << round;
    ASSERT_LE(expected.wait, std::chrono::hours(24 * 40)) << round;
    if (expected.holder) {
      ASSERT_LT(*expected.holder, lines);
      ASSERT_GE(expected.held_until, kNow);
    }
    if (r.lanes.empty()) {
      Race longer = r;
      longer.ahead += 1;
      ASSERT_GE(expected_wait(longer).wait, expected.wait) << round;
      longer = r;
      longer.lines[r.mine].load += span(1);
      ASSERT_GT(expected_wait(longer).wait, expected.wait) << round;
    }
  }
}

TEST(ExpectedWait, TheLastOfManyAnswersIsTheHarmonicNumber) {
  EXPECT_EQ(last_of(0, span(2)), Duration());
  EXPECT_NEAR(seconds(last_of(1, span(2))), 2, 1e-3);
  EXPECT_NEAR(seconds(last_of(2, span(2))), 3, 2e-2);
  EXPECT_NEAR(seconds(last_of(4, span(2))), 2 * (1 + 0.5 + 1.0 / 3 + 0.25), 1e-3);
  EXPECT_LT(last_of(0.5, span(2)), last_of(1, span(2)));
}

TEST(ExpectedWait, IsToldInFields) {
  ExpectedWait wait{.position = 3, .wait = span(1.5), .holder = {}, .held_for = {}};
  EXPECT_EQ(fields_of(wait).size(), 2U);
  wait.holder = ModelId("a");
  wait.held_for = span(1);
  const Error error{.code = ErrorCode::kUnavailable, .message = {}, .reason = {}, .fields = fields_of(wait)};
  EXPECT_EQ(error.number("position"), 3);
  EXPECT_EQ(error.number("expected_wait_ms"), 1500);
  EXPECT_EQ(error.number("held_for_ms"), 1000);
}

}  // namespace
}  // namespace lm::core

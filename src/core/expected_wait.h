// How long a request is going to wait for its turn, expected: the turns played forward on means. A pure
// function of queues, clock and estimates; arbiter_wait.cpp gathers them.
//
// It knows what the policy will do (turns.h) and takes everything else at its mean: answers as long as they
// were lately, arrivals as frequent, changes as dear. Answers are taken to have no memory, so of c that run
// one ends every s/c, however long they have run already.
#pragma once

#include <optional>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "domain/expected_wait.h"
#include "domain/settings.h"

namespace lm::core {

// One model that is asked for, and what is known of how it is answered.
struct Line {
  double waiting = 0;                    // requests, without those of others
  double waiting_seconds = 0;            // sum of their ages, each times its weight
  TimePoint head{};                      // since when the oldest waits; of nobody: any
  TimePoint aged_at = TimePoint::max();  // when that one reaches its age cap
  Duration age_cap{};                    // of those who come later
  double rate = 0;                       // arrivals a second
  double weight = 1;
  double slots = 1;
  Duration answer{};       // how long one takes
  Duration load{};         // from the order to load to readiness
  double preemptible = 0;  // the share of its answers that can be set aside
};

// A place in memory that the request's model can have when the turn there ends.
struct Lane {
  std::size_t line = 0;  // whose turn it is
  TimePoint began{};     // the turn; ahead of now: the model is on its way
  double answering = 0;  // requests, now
  double batch = 0;      // of the line's waiting: those who came before the turn began
};

struct Race {
  TimePoint now{};
  std::vector<Line> lines;
  std::vector<Lane> lanes;  // empty: its model needs nobody's place
  TimePoint room_at{};      // without lanes: when there is room for it; with its model there: any
  std::size_t mine = 0;     // the request's line, itself not counted
  double ahead = 0;         // those of its line who are served before it
  bool in_batch = false;    // it waited when the turn that its line has now began
  Duration quantum{};
  Duration room{};  // from the last answer of a turn to the order to load the next model
  Settings::Scheduling policy{};
};

struct Expected {
  Duration wait{};
  std::optional<std::size_t> holder;  // the line in whose turn it waits; empty: for nothing but its own load
  TimePoint held_until{};             // when that turn is expected to end
};

// Of waits beyond a day only that they are.
Expected expected_wait(Race race);

// As an error's or a decision's fields: "position", "expected_wait_ms", "holder", "held_for_ms".
std::vector<Error::Field> fields_of(const ExpectedWait& wait);
std::int64_t milliseconds_of(Duration d);

// How long n answers of mean length s that run at the same time and have no memory take until the last ends.
Duration last_of(double n, Duration answer);

}  // namespace lm::core

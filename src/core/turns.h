// Turns: when a resident model may go on admitting its own requests while others wait for its room. Pure
// functions. The policy and its two traps are DESIGN §4 and docs/scheduling.md: under the gated one the batch
// that waited when a turn began is always served, and nothing but a served batch may end a turn. The others
// are there to be compared with it.
#pragma once

#include <optional>

#include "base/time.h"
#include "domain/settings.h"

namespace lm::core {

// Who else wants the room of a resident model.
struct Contention {
  std::optional<TimePoint> oldest;   // arrival of the oldest of them; empty: nobody
  std::optional<TimePoint> aged_at;  // when the first of them reaches its age cap
};

struct Turn {
  TimePoint began;     // when the model became resident
  bool batch_waiting;  // somebody who arrived before that still waits
  bool idle;           // serves nobody, and nobody waits for it
  SchedulingPolicy policy = SchedulingPolicy::kGated;
  std::optional<TimePoint> oldest_waiting{};  // arrival of the oldest of its own; what kFifo goes by
};

// Q, from the measured cost of a change.
Duration quantum(const Settings::Scheduling& policy, Duration swap_cost);

// From when on the turn may be ended; empty: not before its batch is served (kGated), before nobody of its
// own waits (kExhaustive) or before those of its own are served that came first (kFifo), or because nobody
// else wants the room.
std::optional<TimePoint> closable_from(const Turn& turn, const Contention& contention, Duration quantum);

// Whether a request that arrived at `arrived` may be admitted at `now`.
bool admits(const Turn& turn, const Contention& contention, Duration quantum, TimePoint arrived,
            TimePoint now);

// One of those who wait for room.
struct Contender {
  TimePoint head;          // arrival of its oldest waiter
  TimePoint aged_at;       // when that one reaches the age cap
  double waiting_seconds;  // sum of its waiters' ages, each times its own weight
  double weight = 1;
  Duration swap_cost;  // S of loading it
};

// Whether `a` goes before `b`: heads beyond their age cap first, oldest first; else the larger (sum of ages ×
// weight) / S.
bool goes_before(const Contender& a, const Contender& b, TimePoint now);

}  // namespace lm::core

#include "core/expected_wait.h"

#include <algorithm>
#include <cmath>

#include "core/turns.h"

namespace lm::core {
namespace {

constexpr Duration kFarthest = std::chrono::hours(24);
// Half a request is one.
constexpr double kSomebody = 0.5;
// A model that is asked for as fast as it answers is never idle; nearly so, it is after twenty times its
// work.
constexpr double kLeastSpare = 0.05;

// The 1 + 1/2 + … + 1/n of whole numbers, drawn through those between.
double harmonic(double n) {
  if (n <= 1) return std::max(0.0, n);
  return std::log(n) + 0.57722 + 0.5 / n - 1.0 / (12 * n * n);
}

TimePoint later(TimePoint t, double s) {
  return t + from_seconds(std::clamp(s, 0.0, seconds(kFarthest)));
}

// Plays the turns until the request's own comes.
class Turns {
 public:
  explicit Turns(Race race) : race_(std::move(race)), queues_(race_.lines.size()) {
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      const Line& line = race_.lines[i];
      queues_[i] = {.n = line.waiting,
                    .ages = line.waiting_seconds,
                    .at = race_.now,
                    .head = line.head,
                    .aged_at = line.aged_at};
    }
    // Itself: so its line is somebody's even where nobody is ahead of it.
    Queue& own = queues_[race_.mine];
    if (own.n < kSomebody) {
      own.head = race_.now;
      own.aged_at = race_.now + mine().age_cap;
    }
    own.n += 1;
  }

  Expected play() {
    if (race_.lanes.empty()) return told(later(std::max(race_.now, race_.room_at), seconds(mine().load)));
    for (Lane& lane : race_.lanes) {
      if (lane.line != race_.mine) continue;
      if (lane.began > race_.now) return told(lane.began);
      if (const auto begins = in_this_turn(lane)) {
        result_.holder = race_.mine;
        result_.held_until = *begins;
        return ended(*begins);
      }
    }
    for (TimePoint t = race_.now; t - race_.now < kFarthest;) {
      Lane& lane = next_to_end();
      const End end = end_of(lane);
      if (t == race_.now)
        result_ = {.wait = {}, .holder = lane.line, .held_until = later(end.close, seconds(end.drain))};
      leave(lane, end);
      t = later(later(end.close, seconds(end.drain)), seconds(race_.room));
      const std::size_t next = choose(end.close);
      t = later(t, seconds(race_.lines[next].load));
      if (next == race_.mine) return told(t);
      advance(next, t);
      lane = {.line = next, .began = t, .answering = 0, .batch = queues_[next].n};
    }
    result_.wait = kFarthest;
    return result_;
  }

 private:
  struct Queue {
    double n = 0;
    double ages = 0;  // sum, at `at`
    TimePoint at;
    TimePoint head;
    TimePoint aged_at;
  };
  struct End {
    TimePoint close;     // of the gate
    Duration drain{};    // until nobody answers any more
    double left = 0;     // of its own requests, not answered
    double aside = 0;    // of those, set aside: they go first
    double granted = 0;  // in this turn, from now on
  };

  const Line& mine() const { return race_.lines[race_.mine]; }

  Expected ended(TimePoint begins) {
    result_.wait = std::max(Duration(), begins - race_.now);
    return result_;
  }

  // Its model is there from `ready` on, with all its slots free.
  Expected told(TimePoint ready) {
    const double before = std::max(0.0, race_.ahead - mine().slots + 1);
    return ended(later(ready, before * seconds(mine().answer) / mine().slots));
  }

  bool has_lane(std::size_t line) const {
    return std::ranges::any_of(race_.lanes, [&](const Lane& lane) { return lane.line == line; });
  }

  void advance(std::size_t line, TimePoint t) {
    Queue& q = queues_[line];
    const double s = std::max(0.0, seconds(t - q.at));
    const double came = race_.lines[line].rate * s;
    if (q.n < kSomebody && came > 0) {
      q.head = later(q.at, 1 / race_.lines[line].rate);
      q.aged_at = q.head + race_.lines[line].age_cap;
    }
    q.ages += (q.n + came / 2) * s;
    q.n += came;
    q.at = std::max(q.at, t);
  }

  // When somebody waits in a line that has no lane; max: nobody, nor soon.
  TimePoint wants_from(std::size_t line) const {
    const Queue& q = queues_[line];
    if (q.n >= kSomebody) return q.head;
    if (race_.lines[line].rate <= 0) return TimePoint::max();
    return later(q.at, 1 / race_.lines[line].rate);
  }

  Contention contention() const {
    Contention c;
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      const TimePoint from = wants_from(i);
      if (has_lane(i) || from == TimePoint::max()) continue;
      const TimePoint aged = queues_[i].n >= kSomebody ? queues_[i].aged_at : from + race_.lines[i].age_cap;
      c.oldest = std::min(c.oldest.value_or(from), from);
      c.aged_at = std::min(c.aged_at.value_or(aged), aged);
    }
    return c;
  }

  // When the turn's own admissions end; max: not before nobody is left.
  TimePoint limit_of(const Lane& lane, const Contention& c) const {
    if (!c.oldest || race_.policy.policy == SchedulingPolicy::kExhaustive) return TimePoint::max();
    if (race_.policy.policy == SchedulingPolicy::kFifo) return std::max(lane.began, *c.oldest);
    TimePoint limit = std::max(lane.began, *c.oldest) + race_.quantum;
    if (c.aged_at) limit = std::min(limit, std::max(lane.began, *c.aged_at));
    return limit;
  }

  // Its model is there and all its slots are busy, or its gate is closed: when it is served in this turn;
  // empty: in a later one.
  std::optional<TimePoint> in_this_turn(const Lane& lane) const {
    const double before = std::max(0.0, race_.ahead + lane.answering - mine().slots + 1);
    const TimePoint begins = later(race_.now, before * seconds(mine().answer) / mine().slots);
    const Contention c = contention();
    if (race_.in_batch || !c.oldest || begins < limit_of(lane, c)) return begins;
    return std::nullopt;
  }

  Lane& next_to_end() {
    return *std::ranges::min_element(race_.lanes, {}, [&](const Lane& lane) {
      const End end = end_of(lane);
      return end.close + end.drain;
    });
  }

  End end_of(const Lane& lane) const {
    const Line& line = race_.lines[lane.line];
    const Queue& q = queues_[lane.line];
    const TimePoint from = std::max(race_.now, lane.began);
    const double s = seconds(line.answer);
    const double c = line.slots;
    // Of its own line's request only those who are not it: it is not served in this turn.
    const double waiting = std::max(0.0, q.n - (lane.line == race_.mine ? 1.0 : 0.0));
    const double batch = std::min(lane.batch, waiting);
    const double all = lane.answering + waiting;
    const TimePoint batch_granted = later(from, std::max(0.0, lane.answering + batch - c) * s / c);
    const double spare = std::max(kLeastSpare, 1 - line.rate * s / c);
    const TimePoint idle = later(from, s * (std::max(0.0, all - c) / c + harmonic(std::min(all, c))) / spare);

    const Contention others = contention();
    const TimePoint wanted = others.oldest.value_or(TimePoint::max());
    End end;
    end.close = std::max(std::min(idle, std::max(batch_granted, limit_of(lane, others))), wanted);
    if (end.close >= idle) return end;  // it answers nobody any more
    // Its slots are full until nobody waits, and empty one after the other then, but for those who come.
    const TimePoint full = later(from, std::max(0.0, all - c) * s / c);
    const double since = std::max(0.0, seconds(end.close - full));
    const double of_now = s > 0 ? std::min(all, c) * std::exp(-since / s) : 0;
    const double busy = std::min(c, std::max(of_now, line.rate * s));
    const double came = line.rate * std::max(0.0, seconds(end.close - from));
    end.granted = std::min(
        waiting + came, std::max(0.0, c - lane.answering) + seconds(end.close - from) * (s > 0 ? c / s : 0));
    end.left = waiting + came - end.granted;
    const Duration most = race_.policy.drain;  // of those that can be set aside
    const double can = busy * line.preemptible;
    end.drain = std::max(std::min(most, last_of(can, line.answer)), last_of(busy - can, line.answer));
    end.drain = std::min(end.drain, idle - end.close);
    if (s > 0) end.aside = can * std::exp(-seconds(most) / s);
    end.left += end.aside;
    return end;
  }

  // The line goes on waiting outside.
  void leave(const Lane& lane, const End& end) {
    Queue& q = queues_[lane.line];
    const TimePoint gone = later(end.close, seconds(end.drain));
    const Line& line = race_.lines[lane.line];
    const bool is_mine = lane.line == race_.mine;
    if (is_mine) race_.ahead = std::max(0.0, race_.ahead - end.granted) + end.aside;
    // The request's own line keeps its head: it is the one who waits.
    if (is_mine) {
      q.n = std::max(1.0, end.left + 1);
      q.ages = seconds(gone - race_.now);
      q.at = gone;
      return;
    }
    const double came = line.rate * seconds(end.drain);
    q = {.n = end.left + came,
         .ages = 0,
         .at = gone,
         .head = end.left > 0 ? end.close : gone,
         .aged_at = (end.left > 0 ? end.close : gone) + line.age_cap};
  }

  // Who gets the place that was left at `t`: by the policy's own order.
  std::size_t choose(TimePoint t) {
    std::optional<std::size_t> best;
    std::optional<Contender> first;
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      if (has_lane(i) || wants_from(i) > t) continue;  // who has just left comes after those who wanted it
      advance(i, t);
      const Queue& q = queues_[i];
      const Contender c{.head = q.head,
                        .aged_at = race_.policy.policy == SchedulingPolicy::kFifo ? q.head : q.aged_at,
                        .waiting_seconds = q.ages,
                        .weight = race_.lines[i].weight,
                        .swap_cost = race_.lines[i].load};
      if (best && !goes_before(c, *first, t)) continue;
      best = i;
      first = c;
    }
    return best.value_or(race_.mine);
  }

  Race race_;
  std::vector<Queue> queues_;
  Expected result_;
};

}  // namespace

std::int64_t milliseconds_of(Duration d) {
  return std::chrono::round<std::chrono::milliseconds>(d).count();
}

std::vector<Error::Field> fields_of(const ExpectedWait& wait) {
  std::vector<Error::Field> fields = {{"position", std::int64_t{wait.position}},
                                      {"expected_wait_ms", milliseconds_of(wait.wait)}};
  if (wait.holder.empty()) return fields;
  fields.emplace_back("holder", wait.holder.str());
  fields.emplace_back("held_for_ms", milliseconds_of(wait.held_for));
  return fields;
}

Duration last_of(double n, Duration answer) {
  return from_seconds(harmonic(n) * seconds(answer));
}

Expected expected_wait(Race race) {
  return Turns(std::move(race)).play();
}

}  // namespace lm::core

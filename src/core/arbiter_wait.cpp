// How long a request is going to wait, and whether it is refused for that: what the arbiter knows, as
// expected_wait() takes it.
#include <algorithm>

#include <fmt/format.h>

#include "core/arbiter.h"

namespace lm::core {
namespace {

// What is told for what nobody has measured yet. A request is never refused for a guess: there it counts as
// nothing.
constexpr Duration kGuessedAnswer = std::chrono::seconds(5);

// A process reads a file: nobody has seen that take less.
constexpr Duration kShortestLoad = std::chrono::milliseconds(5);

bool is_request(const Waiter& waiter) {
  return waiter.kind == Waiter::Kind::kRequest;
}

}  // namespace

Duration Arbiter::answer_of(const Entry& entry, Guessing guessing) const {
  if (const auto takes = demand_.answer_takes(entry.model.id)) return *takes;
  return guessing == Guessing::kLikely ? kGuessedAnswer : Duration();
}

Duration Arbiter::load_of(const Entry& entry, Guessing guessing) const {
  if (entry.loaded_before) return entry.load_took;
  return guessing == Guessing::kLikely ? change_cost_.value() : kShortestLoad;
}

Line Arbiter::line_of(const Entry& entry, Guessing guessing, TimePoint now) const {
  const int slots = entry.instance && entry.instance->was_ready() ? entry.instance->slots : entry.slots_last;
  Line line{.rate = demand_.rate(entry.model.id, now),
            .weight = entry.model.policy.weight,
            .slots = static_cast<double>(slots),
            .answer = answer_of(entry, guessing),
            .load = load_of(entry, guessing)};
  line.age_cap = age_cap(PriorityClass::kInteractive);
  line.head = now;
  double seen = 0;
  for (const Waiter& waiter : backlog_.of(entry.model.id)) {
    line.head = std::min(line.head, waiter.waiting_since);
    line.aged_at = std::min(line.aged_at, waiter.waiting_since + age_cap(waiter.priority));
    line.waiting_seconds += waiter.weight * seconds(now - waiter.waiting_since);
    if (!is_request(waiter)) continue;
    line.waiting += 1;
    line.preemptible += waiter.preemptible ? 1 : 0;
    seen += 1;
  }
  if (entry.instance) {
    for (const RequestId request : entry.instance->leases) {
      line.preemptible += leases_.at(request).waiter.preemptible ? 1 : 0;
      seen += 1;
    }
  }
  if (seen > 0) line.preemptible /= seen;
  return line;
}

// When what a leaving one holds is free.
TimePoint Arbiter::gone_at(const Entry& leaving, Guessing guessing, TimePoint now) const {
  const Instance& instance = *leaving.instance;
  if (leaving.state() != InstanceState::kDraining) return instance.since + change_cost_.room();
  TimePoint ends = now;  // its answers
  double waited_for = 0;
  for (const RequestId request : instance.leases) {
    const auto cut = preempted_at(leaving, leases_.at(request));
    if (cut) {
      ends = std::max(ends, std::min(*cut, now + answer_of(leaving, guessing)));
    } else {
      waited_for += 1;
    }
  }
  ends = std::max(ends, now + last_of(waited_for, answer_of(leaving, guessing)));
  return std::min(ends, std::max(now, instance.drain_deadline)) + change_cost_.room();
}

// Whether what `leaving` holds is part of what `seat` waits for: it is itself its earlier life, of another
// family, or where something lacks.
bool Arbiter::waits_for(const Entry& seat, const Need& shortage, const Entry& leaving) const {
  return is_going(leaving.state()) &&
         (&leaving == &seat || are_rivals(seat, leaving) || charge_of(leaving).takes_of(shortage));
}

// When the room that `seat` is short of is there, as far as others are about to leave it; whoever else
// leaves meanwhile is nothing to it.
TimePoint Arbiter::room_comes(const Entry& seat, const Need& shortage, Guessing guessing,
                              TimePoint now) const {
  TimePoint at = now;
  std::vector<std::pair<TimePoint, Need>> leaving;
  for (const auto& [id, other] : entries_) {
    if (!waits_for(seat, shortage, other)) continue;
    const TimePoint gone = std::max(now, gone_at(other, guessing, now));
    if (&other == &seat || are_rivals(seat, other)) at = std::max(at, gone);
    leaving.emplace_back(gone, charge_of(other));
  }
  std::ranges::sort(leaving, {}, &std::pair<TimePoint, Need>::first);
  Need left = shortage;
  for (const auto& [gone, frees] : leaving) {
    if (left.empty()) break;
    left = left.beyond(frees);
    at = std::max(at, gone);
  }
  return at;
}

// `ahead`: how many of its line are served before it; `itself_waits`: it is one of the line already;
// `in_batch`: it waited when the turn of now began. `in_race`: the entries of the result's lines.
std::optional<Expected> Arbiter::expected_for(const Entry& seat, double ahead, bool itself_waits,
                                              bool in_batch, Guessing guessing, TimePoint now,
                                              std::vector<const Entry*>* in_race) const {
  Race race{.now = now,
            .ahead = ahead,
            .in_batch = in_batch,
            .quantum = quantum(),
            .room = change_cost_.room(),
            .policy = settings_.scheduling};
  race.room_at = now;
  std::vector<const Entry*> lines;
  const auto add = [&](const Entry& entry) {
    const auto known = std::ranges::find(lines, &entry);
    if (known != lines.end()) return static_cast<std::size_t>(known - lines.begin());
    lines.push_back(&entry);
    race.lines.push_back(line_of(entry, guessing, now));
    return lines.size() - 1;
  };
  const auto ready_at = [&](const Entry& entry) {
    const Instance& instance = *entry.instance;
    if (is_coming(entry.state())) return std::max(now, instance.ordered_at + load_of(entry, guessing));
    const Need shortage = shortage_for(need_of(entry), {}, round_for(entry));
    return room_comes(entry, shortage, guessing, now) + load_of(entry, guessing);
  };
  const auto add_lane = [&](const Entry& entry) {
    Lane lane{.line = add(entry)};
    if (entry.state() == InstanceState::kReady) {
      lane.began = entry.instance->turn_began;
      lane.answering = static_cast<double>(entry.instance->leases.size());
      for (const Waiter& waiter : backlog_.of(entry.model.id))
        lane.batch += is_request(waiter) && waiter.arrived <= lane.began ? 1 : 0;
    } else {
      // Ahead of now by a moment at least: all who wait are its batch.
      lane.began = std::max(ready_at(entry), now + std::chrono::nanoseconds(1));
      lane.batch = race.lines[lane.line].waiting;
    }
    race.lanes.push_back(lane);
  };

  race.mine = add(seat);
  if (itself_waits) race.lines[race.mine].waiting = std::max(0.0, race.lines[race.mine].waiting - 1);
  if (seat.state() == InstanceState::kReady) {
    add_lane(seat);
    const Need charge = charge_of(seat);
    for (const auto& [id, other] : entries_) {
      if (other.state() != InstanceState::kQueued || seat.is_pinned()) continue;
      if ((other.instance->lacks && charge.takes_of(*other.instance->lacks)) ||
          (other.instance->lacks_devices && are_rivals(seat, other)))
        add(other);
    }
  } else if (is_coming(seat.state()) || is_committed(seat)) {
    add_lane(seat);
  } else {
    // What it lacks, who has it, and who else wants it.
    std::vector<const Entry*> holders;
    for (const auto& [id, other] : entries_) {
      if (!are_rivals(seat, other)) continue;
      if (other.state() == InstanceState::kReady || is_coming(other.state()) || is_committed(other))
        holders.push_back(&other);
    }
    const bool rivals = !holders.empty();
    if (!rivals) {
      const Round round = round_for(seat);
      const Need need = foreseen_need(seat, round);
      race.room_at = room_comes(seat, shortage_for(need, {}, round), guessing, now);
      const Need missing = missing_for(need, {}, round);
      if (!missing.empty()) {
        for (const auto& [id, other] : entries_) {
          if (&other == &seat || !other.instance || other.is_pinned()) continue;
          const bool holds = evictable(other) || is_coming(other.state());
          if (holds ? charge_of(other).takes_of(missing)
                    : is_committed(other) && need_of(other).takes_of(missing))
            holders.push_back(&other);
        }
        if (holders.empty()) return std::nullopt;  // others than ours have it
      }
    }
    if (rivals) {
      // All of them have to go: the one that is asked for most is the last.
      const auto most = std::ranges::max_element(holders, {}, [&](const Entry* holder) {
        return holder->instance->leases.size() + backlog_.of(holder->model.id).size();
      });
      add_lane(**most);
    } else {
      for (const Entry* holder : holders) add_lane(*holder);
    }
    if (!race.lanes.empty()) {
      for (const auto& [id, other] : entries_) {
        const InstanceState state = other.state();
        if (backlog_.requests(id) > 0 && (state == InstanceState::kQueued || is_going(state)) &&
            !is_committed(other))
          add(other);
      }
    }
  }
  if (in_race != nullptr) *in_race = lines;
  return core::expected_wait(std::move(race));
}

std::optional<ExpectedWait> Arbiter::wait_of(const Entry& seat, PriorityClass priority, const Waiter* waiter,
                                             Guessing guessing, TimePoint now) const {
  double ahead = 0;
  for (const Waiter& other : backlog_.of(seat.model.id)) {
    if (waiter != nullptr && other.request == waiter->request) break;
    if (!is_request(other)) continue;
    if (waiter != nullptr || other.priority <= priority) ahead += 1;
  }
  const bool in_batch = waiter != nullptr && seat.state() == InstanceState::kReady &&
                        waiter->arrived <= seat.instance->turn_began;
  std::vector<const Entry*> lines;
  const auto expected = expected_for(seat, ahead, waiter != nullptr, in_batch, guessing, now, &lines);
  if (!expected) return std::nullopt;
  ExpectedWait wait{.position = static_cast<int>(ahead) + 1, .wait = expected->wait, .holder = {}};
  if (expected->holder) {
    wait.holder = told_as(*lines[*expected->holder]);
    wait.held_for = std::max(Duration(), expected->held_until - now);
  } else if (!is_coming(seat.state()) && seat.state() != InstanceState::kReady) {
    // Its room is on its way: whose answers it still waits for.
    const Round round = round_for(seat);
    const Need need = is_committed(seat) ? need_of(seat) : foreseen_need(seat, round);
    const Need shortage = shortage_for(need, {}, round);
    for (const auto& [id, other] : entries_) {
      if (other.state() != InstanceState::kDraining || !waits_for(seat, shortage, other)) continue;
      wait.holder = told_as(other);
      wait.held_for = std::max(Duration(), room_comes(seat, shortage, guessing, now) - now);
      break;
    }
  }
  return wait;
}

std::optional<ExpectedWait> Arbiter::expected_wait(RequestId request, TimePoint now) const {
  const Waiter* waiter = backlog_.find(request);
  if (waiter == nullptr) return std::nullopt;
  return wait_of(entries_.at(waiter->model), waiter->priority, waiter, Guessing::kLikely, now);
}

// Why it is refused that arrives now and has to be served by `deadline`; empty: it may be in time, or is let
// in to find out whether what is foreseen is still true.
std::optional<Error> Arbiter::too_late(Entry& seat, const RequestArrived& e, TimePoint deadline,
                                       const ExpectedWait& told) {
  const Duration allowed = std::max(Duration(), deadline - now_);
  if (told.wait <= allowed) return std::nullopt;
  const auto least = wait_of(seat, e.priority, nullptr, Guessing::kLeast, now_);
  if (!least || least->wait <= allowed) return std::nullopt;
  if (seat.doubt.believed(least->wait, now_) <= allowed) {
    seat.doubt.let_in(now_);
    return std::nullopt;
  }
  seat.doubt.refused(now_);
  const std::string why =
      told.holder.empty() ? fmt::format("loading it takes {:.2f} s", seconds(told.wait))
      : told.holder == told_as(seat)
          ? fmt::format("it answers others until about {:.2f} s from now", seconds(told.held_for))
          : fmt::format("{} has the device until about {:.2f} s from now", told.holder.str(),
                        seconds(told.held_for));
  Error error{
      .code = ErrorCode::kUnavailable,
      .message = fmt::format("{} can be served in about {:.2f} s, and the request allows {:.2f} s: {}",
                             e.model.str(), seconds(told.wait), seconds(allowed), why),
      .reason = "deadline_too_near",
      .fields = fields_of(told),
      .retry_after = std::max<Duration>(std::chrono::seconds(1), told.wait - allowed)};
  error.fields.emplace_back("allowed_ms", milliseconds_of(allowed));
  return error;
}

}  // namespace lm::core

// Events of the arbiter as lines of JSON, for the event log: what was recorded is what is replayed, bit for
// bit. Keys and passwords have no place in an event; those that somebody wrote into an upstream's address are
// left out.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "domain/event.h"

namespace lm::wire {

struct RecordedEvent {
  TimePoint at;  // on the daemon's monotonic clock
  Event event;
};

// The line with its end.
std::string encode(const Event& event, TimePoint at);

// A line without its end. kInvalidArgument: no JSON, an event that this version does not know, or a field
// that is missing or wrong; the message names it.
Result<RecordedEvent> decode_event(std::string_view line);

}  // namespace lm::wire

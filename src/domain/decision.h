// One decision with its cause and its numbers, so that "why" has an answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "domain/ids.h"

namespace lm {

enum class DecisionKind : std::uint8_t {
  kLoad,     // room was reserved and the load began
  kWait,     // a load must wait, and for what
  kEvict,    // an instance goes to make room
  kExpire,   // an instance was idle for its keep_alive
  kUnload,   // somebody asked
  kGiveUp,   // nobody wants the load any more
  kRefuse,   // a request or a load was refused
  kFail,     // a load failed or a worker died
  kRelease,  // memory came back, or did not
  kHold,     // kept unloaded, or free again
  kSwitch,   // the devices change to another family
  kPreempt,  // running answers are set aside and continued later
};
std::string_view to_string(DecisionKind kind);

// `why` is a sentence in English; `fields` are its numbers and names for programs and for other languages.
struct Decision {
  DecisionKind kind = DecisionKind::kLoad;
  ModelId model;
  std::string why;
  std::vector<Error::Field> fields;
  bool operator==(const Decision&) const = default;
};

}  // namespace lm

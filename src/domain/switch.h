// One change of the family that holds the devices: what made room, what came back, what was loaded. The
// requirements call it 模型切换.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "domain/ids.h"
#include "domain/instance.h"
#include "domain/model.h"

namespace lm {

enum class SwitchStage : std::uint8_t {
  kBegan,        // the old family was told to make room; `released` is empty yet
  kReleased,     // one model or upstream of the old family has gone: the last of `released`
  kLoading,      // room is proved, or was never taken: the new model is ordered
  kDone,         // the new family answers
  kFailed,       // it does not: the old one is selected again, and `error` says why
  kCancelled,    // nobody wants the new family any more
  kInterrupted,  // in the record only: the daemon ended in the middle, and all that it had started with it
};
std::string_view to_string(SwitchStage stage);

struct Switch {
  // What one model of ours, or one upstream with all it held, gave back.
  struct Release {
    ModelId model;  // of an upstream: its name
    ReleaseReport report;
    bool operator==(const Release&) const = default;
  };

  std::uint64_t id = 0;  // grows, across restarts too where they are recorded
  Family from = Family::kLocal;
  Family to = Family::kLocal;
  ModelId from_model;  // the last one chosen there; may be empty
  ModelId to_model;
  bool to_remote = false;  // the new one needs nothing of our devices
  std::string who;         // for people: "a request", "command line"
  SwitchStage stage = SwitchStage::kBegan;
  int to_release = 0;  // so many make room: the last of them completes `release`
  bool loads = false;  // the new model has to be loaded
  std::vector<Release> released;
  std::optional<ReleaseReport> release;  // all of them together
  Bytes fit_would_have_kept;  // both fitted together: in fit mode so much need not have been loaded again
  Duration took{};            // until `stage`
  std::optional<Error> error;
  bool operator==(const Switch&) const = default;
};

}  // namespace lm

// What the daemon tells whoever listens: states, progress, decisions, releases, in order and numbered, so
// that a listener who was away can ask for what he missed.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/latch.h"
#include "base/result.h"
#include "domain/command.h"
#include "runtime/pulls.h"

namespace lm::runtime {

struct Progress {
  ModelId model;
  InstanceId instance;
  LoadStage stage = LoadStage::kStarting;
  double fraction = 0;
};

// The timeline of a load that has ended well, told when it is ready; its last phase, "first_token", comes
// alone with the first answer.
struct PhasesMeasured {
  ModelId model;
  InstanceId instance;
  std::vector<Phase> phases;
};

// How far a checkpoint is on its way to a file.
struct ImportProgressed {
  ModelId model;
  JobId job;
  double fraction = 0;
};

struct JobFinished {
  JobId job;
  std::optional<Error> error;
};

struct ConfigReloaded {
  std::vector<std::string> changes;
  std::vector<std::string> warnings;
};

using News = std::variant<PublishState, Progress, PhasesMeasured, Decision, ImportProgressed, JobFinished,
                          ConfigReloaded, Switch, Pull>;

struct Happening {
  std::uint64_t id = 0;  // counts up from 1 in a daemon's life
  std::int64_t at_ms = 0;
  News news;
};

// Keeps the last happenings in one ring for all listeners, so that a slow one costs nothing: it loses the
// oldest and is told so.
class EventHub {
 public:
  static constexpr std::size_t kKept = 2048;

  explicit EventHub(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  void publish(News news);
  std::uint64_t last_id() const { return last_id_; }

  class Subscription {
   public:
    // The next happening; null where `limit` passed first. Sets `missed` where the ring had moved on.
    Task<std::shared_ptr<const Happening>> next(Duration limit);
    bool take_missed() { return std::exchange(missed_, false); }

   private:
    friend class EventHub;
    Subscription(EventHub& hub, std::uint64_t seen) : hub_(&hub), seen_(seen) {}
    EventHub* hub_;
    std::uint64_t seen_;
    bool missed_ = false;
  };
  // Everything after the happening numbered `after`; empty: from now on. Must not outlive the hub.
  Subscription subscribe(std::optional<std::uint64_t> after = {});

 private:
  boost::asio::any_io_executor executor_;
  std::deque<std::shared_ptr<const Happening>> ring_;
  std::uint64_t last_id_ = 0;
  std::shared_ptr<Latch> more_;
};

}  // namespace lm::runtime

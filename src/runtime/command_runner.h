// Carries out what the arbiter commands, one command at a time and without waiting: what takes time goes on
// in a task, and its outcome comes back as an event.
#pragma once

#include <deque>
#include <functional>

#include <boost/asio/any_io_executor.hpp>

#include "backend/upstreams.h"
#include "backend/workers.h"
#include "base/clock.h"
#include "base/gate.h"
#include "base/latch.h"
#include "domain/command.h"
#include "domain/plan.h"
#include "runtime/event_hub.h"
#include "runtime/jobs.h"
#include "runtime/lease.h"
#include "runtime/memory_sampler.h"
#include "runtime/records.h"
#include "runtime/switch_text.h"
#include "runtime/wait_timeline.h"

namespace lm::runtime {

class CommandRunner {
 public:
  // Everything it acts on; all of it must outlive it.
  struct Seams {
    boost::asio::any_io_executor executor;
    const Clock& clock;
    std::function<void(Event)> post;
    Leases& leases;
    Jobs& jobs;
    EventHub& hub;
    backend::Workers& workers;
    std::function<backend::Upstreams&()> upstreams;  // another object after a reload that names others
    MemorySampler& sampler;
    Records& records;
    Gate& gate;
    std::function<const Model*(const ModelId&)> model;
    std::function<std::optional<Device>(const DeviceId&)> device;
    std::function<std::string(const Switch&, std::int64_t at_ms)> report_of;  // a switch's, for the store
    std::function<SwitchWords()> words;
    std::function<void(const DropStates&)> drop_states;
    std::function<void(const std::filesystem::path&, ModelKind)>
        found_kind;  // in a file that was looked into
  };

  explicit CommandRunner(Seams seams) : seams_(std::move(seams)), shut_down_(seams_.executor) {}

  void run(const Command& command);

  // What was found in a file, with what every worker takes beside its model.
  static Forecast forecast_of(backend::Inspection found);

  // What the model was measured to take with these options, also in earlier lives of the daemon.
  std::vector<Experience> known_of(const Model& model, const LoadOptions& options) const;

  // Opens with FinishShutdown.
  const Latch& shut_down() const { return shut_down_; }
  // The model of an instance that is or was alive.
  const ModelId* model_of(InstanceId instance) const;
  // The end of an instance waited so long for its conversations to be saved.
  void saved(InstanceId instance, Duration took) { waits_.saved(instance, took); }
  // What its load waited for before it began.
  std::vector<Phase> waits_of(InstanceId instance) const { return waits_.before_load(instance); }

 private:
  static void log_lines(const std::vector<LogLine>& lines);
  void on(const PredictFootprint& c);
  void on(const StartLoad& c);
  void on(const BeginDrain&) {}
  void on(const CutRequests& c);
  void on(const PreemptRequests& c);
  void on(const StopInstance& c);
  void on(const MeasureRelease& c);
  void on(const GrantLease& c);
  void on(const TellWait& c);
  void on(const RejectRequest& c);
  void on(const FinishJob& c);
  void on(const RecordFootprint& c);
  void on(const RecordDecision& c);
  void on(const PublishState& c);
  void on(const RecordHold& c);
  void on(const RecordPin& c);
  void on(const EvictUpstream& c);
  void on(const LoadAtUpstream& c);
  void on(const DropStates& c);
  void on(const PublishSwitch& c);
  void on(const ArmTimer&);
  void on(const FinishShutdown&);

  Task<> predict(PredictFootprint command, std::filesystem::path path, std::vector<Experience> known);
  Task<> measure_release(MeasureRelease command);
  Task<> measure_upstream(MeasureRelease command);
  void spawn(Task<> task);

  Seams seams_;
  Latch shut_down_;
  std::map<InstanceId, ModelId> models_;
  WaitTimeline waits_;
  std::string told_failure_;  // the last that a line of a switch has told
};

}  // namespace lm::runtime

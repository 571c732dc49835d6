// The enumerators' names, as they stand in JSON, logs and the state diagram.
#include <array>
#include <utility>

#include "domain/command.h"
#include "domain/footprint.h"
#include "domain/instance.h"
#include "domain/model.h"
#include "domain/plan.h"
#include "domain/settings.h"

namespace lm {
namespace {

template <std::size_t N, class Enum>
std::string_view name_of(const std::array<std::string_view, N>& names, Enum value) {
  return names.at(static_cast<std::size_t>(value));
}

constexpr std::array<std::string_view, 7> kLoadStages = {"starting", "metadata", "vocabulary", "weights",
                                                         "context",  "warm_up",  "ready"};

}  // namespace

std::string_view to_string(ModelKind kind) {
  return name_of(std::array<std::string_view, 3>{"generation", "embedding", "rerank"}, kind);
}

std::string_view to_string(Split split) {
  return name_of(std::array<std::string_view, 2>{"layer", "row"}, split);
}

std::string_view to_string(Layout layout) {
  return name_of(std::array<std::string_view, 3>{"compact", "guide", "guide_from_five"}, layout);
}

std::string_view to_string(Family family) {
  return name_of(std::array<std::string_view, 3>{"local", "ollama", "openai"}, family);
}

std::string_view to_string(PlanVerdict verdict) {
  return name_of(std::array<std::string_view, 3>{"fits", "fits_after_others", "does_not_fit"}, verdict);
}

std::string_view to_string(FootprintSource source) {
  return name_of(std::array<std::string_view, 2>{"predicted", "measured"}, source);
}

std::string_view to_string(InstanceState state) {
  return name_of(
      std::array<std::string_view, kInstanceStateCount>{"absent", "queued", "reserved", "standby_taken",
                                                        "loading", "ready", "sleeping", "draining",
                                                        "stopping", "reclaiming", "failed"},
      state);
}

std::string_view to_string(PublishedState state) {
  return name_of(std::array<std::string_view, 5>{"unloaded", "loading", "ready", "unloading", "failed"},
                 state);
}

PublishedState published(InstanceState state) {
  switch (state) {
    case InstanceState::kAbsent:
      return PublishedState::kUnloaded;
    case InstanceState::kQueued:
    case InstanceState::kReserved:
    case InstanceState::kStandbyTaken:
    case InstanceState::kLoading:
      return PublishedState::kLoading;
    case InstanceState::kReady:
    case InstanceState::kSleeping:
      return PublishedState::kReady;
    case InstanceState::kDraining:
    case InstanceState::kStopping:
    case InstanceState::kReclaiming:
      return PublishedState::kUnloading;
    case InstanceState::kFailed:
      break;
  }
  return PublishedState::kFailed;
}

std::string_view to_string(EndCause cause) {
  return name_of(std::array<std::string_view, 9>{"none", "expired", "evicted", "switched", "unloaded",
                                                 "unwanted", "load_failed", "crashed", "shutdown"},
                 cause);
}

std::string_view to_string(ReleaseOutcome outcome) {
  return name_of(std::array<std::string_view, 3>{"proved", "unknown", "clings"}, outcome);
}

std::string_view to_string(LoadStage stage) {
  return name_of(kLoadStages, stage);
}

std::optional<LoadStage> load_stage_from_string(std::string_view text) {
  for (std::size_t i = 0; i < kLoadStages.size(); ++i) {
    if (kLoadStages[i] == text) return static_cast<LoadStage>(i);
  }
  return std::nullopt;
}

std::string_view to_string(SwitchStage stage) {
  return name_of(std::array<std::string_view, 7>{"began", "released", "loading", "done", "failed",
                                                 "cancelled", "interrupted"},
                 stage);
}

std::string_view to_string(PriorityClass priority) {
  return name_of(std::array<std::string_view, 2>{"interactive", "batch"}, priority);
}

std::string_view to_string(DecisionKind kind) {
  return name_of(std::array<std::string_view, 12>{"load", "wait", "evict", "expire", "unload", "give_up",
                                                  "refuse", "fail", "release", "hold", "switch", "preempt"},
                 kind);
}

std::string_view name_of(const Event& event) {
  return name_of(
      std::array<std::string_view, std::variant_size_v<Event>>{
          "RequestArrived",  "RequestCancelled",   "AnswerBegan",     "LeaseReleased",  "RequestPreempted",
          "KeepAliveAsked",  "LoadWanted",         "UnloadWanted",    "PinChanged",     "SwitchWanted",
          "JobAbandoned",    "FootprintPredicted", "WorkerTaken",     "LoadProgressed", "LoadSucceeded",
          "LoadFailed",      "WorkerExited",       "UpstreamYielded", "UpstreamLoaded", "UpstreamSeen",
          "ReleaseMeasured", "MemoryMeasured",     "StatesKept",      "ModelsChanged",  "SettingsChanged",
          "DesiredRestored", "TimerFired",         "ShutdownBegan"},
      event.index());
}

std::string_view name_of(const Command& command) {
  return name_of(
      std::array<std::string_view, std::variant_size_v<Command>>{
          "PredictFootprint", "StartLoad",     "BeginDrain",     "CutRequests", "PreemptRequests",
          "StopInstance",     "EvictUpstream", "LoadAtUpstream", "DropStates",  "MeasureRelease",
          "GrantLease",       "TellWait",      "RejectRequest",  "FinishJob",   "RecordFootprint",
          "RecordDecision",   "PublishState",  "PublishSwitch",  "RecordHold",  "RecordPin",
          "ArmTimer",         "FinishShutdown"},
      command.index());
}

std::string_view to_string(SchedulingPolicy policy) {
  switch (policy) {
    case SchedulingPolicy::kGated:
      return "gated";
    case SchedulingPolicy::kExhaustive:
      return "exhaustive";
    case SchedulingPolicy::kFifo:
      return "fifo";
  }
  std::unreachable();
}

}  // namespace lm

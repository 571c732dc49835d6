// The running daemon without its doors: control loop, workers, probes and store wired together. What api and
// app talk to.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/upstreams.h"
#include "backend/workers.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/task.h"
#include "config/load.h"
#include "domain/plan.h"
#include "domain/snapshot.h"
#include "runtime/catalog.h"
#include "runtime/event_hub.h"
#include "runtime/jobs.h"
#include "runtime/lease.h"
#include "runtime/pulls.h"
#include "runtime/records.h"
#include "runtime/removal.h"
#include "runtime/state_keeper.h"

namespace lm::runtime {

// Where things are, decided once at start.
struct Places {
  std::filesystem::path data;      // state that survives
  std::filesystem::path run;       // sockets and records of processes
  std::filesystem::path worker;    // the program
  std::filesystem::path importer;  // llm-importer, the program
  std::filesystem::path imports;   // what it makes
  std::filesystem::path log_file;
  std::vector<std::filesystem::path> model_folders;  // beside the configuration's
  std::filesystem::path recording;                   // the event log; empty: none is written
  std::string nvml = "libnvidia-ml.so.1";            // NVIDIA's driver library; empty: none
  std::optional<std::string> visible_cuda{};         // CUDA_VISIBLE_DEVICES, which workers inherit
  // Where models are fetched to; looked into where the configuration names no model folders. Where it does,
  // models are pulled into the first of them.
  std::filesystem::path fetched{};
};

// Where a request for an upstream's model goes.
struct UpstreamRoute {
  std::shared_ptr<http::Client> client;  // null: it does not run
  std::string prefix;                    // goes before "/chat/completions"
  http::Headers headers;                 // its key
  std::string name;                      // what it calls the model
  http::Timeouts timeouts;               // of a request for an answer
};

// One thread. Created, started, used, stopped; stop() must have returned before it is destroyed.
class Runtime {
 public:
  // Reads the configuration again for a reload; the errors are those of config::load.
  using ReadConfig = std::function<Result<config::Loaded>()>;

  // `clock` must outlive it.
  Runtime(boost::asio::any_io_executor executor, const Clock& clock, Places places, config::Loaded config,
          ReadConfig read_config);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Reaps what an earlier daemon left behind, opens the store, starts the standby worker, tells the arbiter
  // of models and devices.
  Task<Result<void>> start();
  // Set before start(): how a switch that has ended is written down.
  using ReportOf = std::function<std::string(const Switch&, std::int64_t at_ms)>;
  void write_switches_with(ReportOf report_of);
  // Refuses new work, lets running answers end for at most `drain`, ends all workers.
  Task<void> stop(Duration drain);
  // While stop() drains: ends running answers now.
  void stop_at_once();

  // Whether stop() was called: nothing new is served.
  bool ending() const;

  TimePoint now() const;
  Snapshot snapshot() const;
  const Catalog& catalog() const;
  const config::Loaded& config() const;
  const Places& places() const;
  std::string engine() const;
  EventHub& events();
  Jobs& jobs();

  // ---- requests
  // Before a request or a choice of the model: one of ours that failed is looked at again where its file was
  // replaced. Where it is an upstream's on our devices that does not serve
  // now, or somewhere else's and `chosen`, the upstream is looked at, for a second at most. One that went
  // away since it was last seen is known before anything makes room for it.
  Task<> look_before(ModelId model, bool chosen = false);
  // Before a request is refused for the kind of a model of ours: where only the model's name has told it so
  // far, its file is looked into, once.
  Task<> know_kind(ModelId model);
  // Upstreams that could not be reached when they were last looked at.
  std::vector<backend::Upstreams::Trouble> upstream_troubles() const;
  Leases::Ticket ask(Leases::Wish wish);
  // Answers that were set aside so that others come to their turn.
  std::uint64_t preemptions() const;
  // The connections to a ready instance's worker; null where it is gone.
  std::shared_ptr<http::Client> worker(InstanceId instance) const;
  // The way to the upstream that answers for a model; empty: it is ours, or its upstream is gone.
  std::optional<UpstreamRoute> upstream(const ModelId& model) const;
  std::optional<backend::WorkerReport> report(InstanceId instance) const;
  // What the worker of an instance said before it died by itself; empty: nothing.
  Task<std::optional<Error>> last_words(InstanceId instance);
  // The first byte of an answer's body is there. Of the first answer after a load it ends the load's
  // timeline: "first_token", from the lease's grant on, is published once in an instance's life.
  void answer_began(const Lease& lease);
  // For a comment while somebody waits: "tinyllama is loading: weights 40 %", "coder is queued; position 2,
  // about 12 s: tinyllama has the device for 10 s more".
  std::string waiting_note(const ModelId& model, RequestId request = {}) const;

  // ---- explicit wishes; `who` is for people
  JobId load(ModelId model, std::string who, bool force);
  JobId unload(std::optional<ModelId> model, std::string who, bool hold);
  JobId pin(ModelId model, bool pinned);
  // Somebody chooses this model: its family gets the devices, and it is loaded.
  JobId choose(ModelId model, std::string who);
  // A client says how long a loaded model is to stay after its last use; negative: for ever. What comes of it
  // is the arbiter's to say (KeepAliveAsked).
  void keep_alive(ModelId model, Duration asked);
  // The one who waited for the job has left.
  void abandon(JobId job);

  // ---- models from elsewhere
  // A pull of that source: Pulls::start, into the folder that the configuration wants.
  Result<std::uint64_t> pull(const std::string& source, std::string who);
  Pulls& pulls();
  // The pull that fetches this model now; 0: none.
  std::uint64_t fetch_of(const ModelId& model) const;
  // The model's files are gone when this returns. Refuses while any instance of the model is in memory or on
  // its way there ("model_loaded"); else as put_aside.
  Result<RemovedFiles> remove(const ModelId& model, bool force);

  Task<Result<backend::Inspection>> inspect(std::filesystem::path path);
  // What a load of this model of ours would come to now, with other options where they are given. Errors:
  // those of looking into the file.
  Task<Result<LoadPlan>> plan(ModelId model, LoadOptions changed);
  // Newest first; empty `model`: all.
  std::vector<StoredDecision> decisions(std::string_view model, std::size_t limit) const;
  // Reports of switches as JSON, newest first.
  std::vector<std::string> switches(std::size_t limit) const;
  // The last measurement of each device, with its holders.
  std::vector<DeviceReading> readings() const;
  // What is kept of conversations, and what became of those that were.
  StateKeeper::Figures conversations() const;
  // The phases of the last load of an instance.
  std::vector<Phase> phases(InstanceId instance) const;
  // Reads configuration and model folders again: what changed, in words.
  Result<ConfigReloaded> reload();
  // Sentences about the configuration that people should read.
  std::vector<std::string> warnings() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lm::runtime

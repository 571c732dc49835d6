// The worker processes: one warm standby, one for each model that loads or is loaded, and throw-away ones
// that look into files. Executes what it is told and reports what happens as events; decides nothing.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/conversations.h"
#include "backend/load_order.h"
#include "base/result.h"
#include "base/task.h"
#include "domain/event.h"
#include "http/client.h"
#include "os/process.h"

namespace lm::backend {

// What a file says of itself, read in a sandbox, and what it would take with the options asked about.
struct Inspection {
  std::string name, architecture, quantization, chat_template, fingerprint;
  bool keeps_conversations = false;  // while it is out of memory
  std::string conversations;         // why, or why not
  std::int64_t parameters = 0;
  Bytes size;
  int context_train = 0;
  int layers = 0;
  ModelKind kind = ModelKind::kGeneration;
  std::vector<DeviceMemory> predicted;
  std::optional<Extent> extent;  // the same layer by layer
};

// What the engine sees of a device that no probe of ours does. Its id is the manager's to give.
struct SeenDevice {
  Device device;
  Bytes free;
  bool operator==(const SeenDevice&) const = default;
};
struct SeenDevices {
  struct Missing {
    std::string server;
    std::string why;
  };
  std::vector<SeenDevice> devices;
  std::vector<Missing> missing;  // RPC servers that could not be asked
};

// What a worker told when it was ready.
struct WorkerReport {
  std::vector<DeviceMemory> memory;
  int slots = 1;
  int context = 0;
  int context_train = 0;
  std::vector<std::string> capabilities;  // "chat", "tools", "vision", "embedding", "rerank"
};

struct WorkersOptions {
  std::filesystem::path program;     // llm-worker
  std::filesystem::path run_folder;  // sockets and records of running workers

  std::filesystem::path log_file;  // of the workers' own lines
  bool standby = true;
  // The standby opens the cards that its engine knows, and holds a little of their memory from then on.
  bool standby_opens_devices = false;
  Duration start_limit = std::chrono::seconds(20);  // from exec to hello
  Duration inspect_limit = std::chrono::seconds(10);
  Duration list_limit = std::chrono::seconds(30);  // it waits some seconds for each server
  // A conversation that takes longer is read again instead.
  Duration restore_limit = std::chrono::seconds(10);
  Duration save_limit = std::chrono::seconds(5);        // before a worker ends
  Duration checkpoint_limit = std::chrono::minutes(1);  // of an idle one
};

// One thread, the one that starts processes. Everything it starts dies with it.
class Workers {
 public:
  // Told of everything that happens to workers, in order. Events are WorkerTaken, LoadProgressed,
  // LoadSucceeded, LoadFailed and WorkerExited, the last exactly once for each load().
  struct Listener {
    std::function<void(Event)> post;
    std::function<void(ModelId, InstanceId, std::vector<Phase>)> phases;  // of a load that has succeeded
    std::function<void(InstanceId, Duration)> saved;  // how long its end waited for its conversations
    std::function<void(std::string_view)> log;        // a line for people
  };
  // Reads what a process holds; empty where it cannot be told.
  using Measure = std::function<std::optional<ProcessReading>(os::ProcessIdentity)>;

  // `conversations`, which may be null, must outlive it.
  Workers(boost::asio::any_io_executor executor, WorkersOptions options, Listener listener, Measure measure,
          Conversations* conversations);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Starts the standby, and learns the engine's version from its hello.
  Task<Result<void>> start();
  const std::string& engine() const;  // "v0.5.0 cpu"; empty before start()

  void load(LoadOrder order);
  void stop(InstanceId instance, Generation generation, Duration grace);
  Task<Result<Inspection>> inspect(std::filesystem::path path, LoadOptions options);
  // Devices of the engine's, those behind these RPC servers among them, by a worker that is thrown away.
  Task<Result<SeenDevices>> list_devices(std::vector<std::string> servers);

  // Saves the conversations of a ready worker and lets it go on. Nothing happens where that is under way, or
  // the worker is ending.
  void checkpoint(InstanceId instance);
  // Somebody wants an answer of it: a checkpoint under way ends after the slot that is being written.
  void cancel_checkpoint(InstanceId instance);

  // The connection pool to a ready worker; null where there is none of that instance, or it has died and
  // nobody was told yet.
  std::shared_ptr<http::Client> client(InstanceId instance) const;
  std::optional<WorkerReport> report(InstanceId instance) const;

  // What a worker said before it died by itself, for who was being answered. Waits for its end, for a moment.
  Task<std::optional<Error>> last_words(InstanceId instance);

  struct Running {
    InstanceId instance;
    os::ProcessIdentity process;
  };
  std::vector<Running> running() const;  // those with an instance
  std::optional<os::ProcessIdentity> standby() const;

  // Ends all; returns when the last is reaped.
  Task<void> shut_down(Duration grace);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace lm::backend

// What the manager and a worker say to each other over the worker's link (a socket pair), as plain values.
// The manager orders, the worker answers. codec.h has their form on the link.
//
// A worker's life: Hello at once; then either Load, answered by Progress… and one of Ready and Failed, or
// Inspect, answered by Inspecting… and one of Inspected and Failed. After a Failed load the process holds
// nothing of the model and is to be ended: a worker loads once. Ready is followed by Restored where the load
// named states. A worker whose Ready says that it keeps states answers each SaveStates by one StatesSaved, in
// order. Shutdown, or the end of the link, ends the worker at any moment.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "domain/device.h"
#include "domain/footprint.h"
#include "domain/ids.h"
#include "domain/instance.h"
#include "domain/kept_state.h"
#include "domain/model.h"

namespace lm::wire {

// Both sides must speak the same. It changes when a message changes its meaning; fields may be added without.
inline constexpr int kProtocol = 3;

// A device behind an RPC server, by our name for it.
struct RpcDevice {
  DeviceId id;
  std::string server;  // "10.0.0.7:50052"
  int number = 0;      // which of that server's devices
  bool operator==(const RpcDevice&) const = default;
};

// ---- manager to worker

struct Load {
  Generation generation;  // comes back in every answer
  ModelKind kind = ModelKind::kGeneration;
  std::filesystem::path path;       // the GGUF, or the first of a split one
  std::filesystem::path projector;  // may be empty
  LoadOptions options;
  std::string alias;  // the name that the worker's own answers carry
  SamplingDefaults sampling;
  std::vector<RpcDevice> rpc{};  // those of options.shares that are behind RPC servers
  // Saved conversations, the dearest first: each is checked, and put into a slot once the model is loaded.
  std::vector<SlotState> states;
  bool operator==(const Load&) const = default;
};

// What is in the file, and what a load with these options would take. A sandboxed worker reads the metadata
// only and predicts for the host by arithmetic; one that is not measures with the engine, nothing allocated,
// when `exact`.
struct Inspect {
  std::uint64_t id = 0;  // comes back
  std::filesystem::path path;
  std::filesystem::path projector;
  LoadOptions options;
  bool exact = false;
  bool operator==(const Inspect&) const = default;
};

// Which devices the engine sees, those of these RPC servers among them. Opens a context on each card: only
// for a worker that is thrown away after.
struct ListDevices {
  std::vector<std::string> servers{};
  bool operator==(const ListDevices&) const = default;
};

// Write down the conversations that the slots hold, the latest first, each to the first of `places` that has
// room for it, in a file "NAME-N.slot". One that has not changed since it was saved or restored is not
// written again, but told with its old file. Answered by StatesSaved.
struct SaveStates {
  std::uint64_t id = 0;  // comes back
  std::string name;
  std::vector<StatePlace> places;
  int least_tokens = 64;  // shorter ones are not worth a file
  bool operator==(const SaveStates&) const = default;
};

// Stop after the slot that is being written; the SaveStates under way is answered as not complete. None is
// under way: nothing happens.
struct CancelSave {
  std::uint64_t id = 0;
  bool operator==(const CancelSave&) const = default;
};

struct Shutdown {
  bool operator==(const Shutdown&) const = default;
};

using ToWorker = std::variant<Load, Inspect, ListDevices, SaveStates, CancelSave, Shutdown>;

// ---- worker to manager

struct Hello {
  int protocol = kProtocol;
  std::string engine;   // version and patches: "0.5.0-1a2b3c4d"
  std::string variant;  // "cpu", "cuda", "vulkan"
  std::string build;    // for people: compiler, target
  int pid = 0;
  bool operator==(const Hello&) const = default;
};

struct Progress {
  Generation generation;
  LoadStage stage = LoadStage::kStarting;
  double fraction = 0;  // of this stage, 0 to 1
  bool operator==(const Progress&) const = default;
};

// What a loaded model can do.
struct Capabilities {
  bool chat = false;  // it brings a chat template
  bool tools = false;
  bool vision = false;
  bool audio = false;
  bool embeddings = false;
  bool rerank = false;
  bool operator==(const Capabilities&) const = default;
};

// The socket answers from now on.
struct Ready {
  Generation generation;
  ModelKind kind = ModelKind::kGeneration;
  std::vector<DeviceMemory> memory;  // the engine's own account
  int slots = 1;
  int context = 0;        // tokens, all slots together
  int slot_context = 0;   // the most that one slot can hold
  int context_train = 0;  // what the model was trained for
  Capabilities capabilities;
  bool keeps_states = false;  // SaveStates is understood
  std::vector<Phase> phases;  // where the load's time went, in order
  bool operator==(const Ready&) const = default;
};

// A load, an inspection (generation 0) or a list of devices (generation 0) that came to nothing. `reason` is
// one of insufficient_memory (with `device`, and `needed` and `free` in bytes where they are known),
// invalid_artifact, unsupported_model, io_error, invalid_options, internal.
struct Failed {
  Generation generation;
  std::uint64_t inspection = 0;
  Error error;
  bool operator==(const Failed&) const = default;
};

// What an inspection is about to do: where it is ended for its limits, this says what took too long.
enum class InspectionStep : std::uint8_t { kStarting, kFile, kTemplate };

struct Inspecting {
  std::uint64_t inspection = 0;
  InspectionStep step = InspectionStep::kStarting;
  bool operator==(const Inspecting&) const = default;
};

// What a sandboxed inspection may use of the processor; the kernel ends it there.
inline constexpr std::chrono::seconds kInspectionProcessorTime{1};

std::string_view to_string(InspectionStep step);

struct Inspected {
  std::uint64_t inspection = 0;
  std::string fingerprint;  // of the content: the same after a rename
  std::string name;         // as the file calls itself; may be empty
  std::string architecture;
  std::string quantization;     // "Q4_K_M"
  std::int64_t parameters = 0;  // weights, counted
  Bytes size;                   // all parts together
  int parts = 1;
  int layers = 0;
  int context_train = 0;
  int embedding_length = 0;
  std::int64_t vocabulary = 0;  // tokens
  std::string pooling;          // embedding models: "mean", "cls", "last", "rank"; else empty
  ModelKind kind = ModelKind::kGeneration;
  std::string chat_template;         // may be empty
  bool keeps_conversations = false;  // while it is out of memory
  std::string conversations;         // why, or why not: a sentence
  std::vector<DeviceMemory> predicted;
  std::optional<Extent> extent{};  // the same layer by layer; empty: it cannot be cut
  bool exact = false;              // measured with the engine
  bool operator==(const Inspected&) const = default;
};

// What became of the states that a load named.
struct Restored {
  Generation generation;
  int slots = 0;   // that hold a restored conversation now
  int tokens = 0;  // in them
  std::vector<std::filesystem::path> refused;
  std::vector<std::string> wrong;  // why, a sentence each
  Duration took{};                 // from the end of the load
  bool operator==(const Restored&) const = default;
};

struct StatesSaved {
  std::uint64_t id = 0;
  bool complete = false;  // false: cancelled, or a slot could not be saved
  std::vector<SlotState> slots;
  std::vector<std::string> wrong;       // a sentence each
  std::vector<Resumption> resumptions;  // of restored slots that were used since the last time
  double prompt_rate = 0;               // tokens a second when reading prompts; 0: none was read yet
  Duration took{};
  bool operator==(const StatesSaved&) const = default;
};

struct DevicesListed {
  struct Device {
    DeviceId id;
    DeviceKind kind = DeviceKind::kOther;
    std::string name;
    Bytes capacity, free;
    std::string bus;       // PCI address, where the engine tells it
    std::string server{};  // that it is behind; then `id` means nothing
    int number = 0;        // of that server's devices
    bool operator==(const Device&) const = default;
  };
  // A server that could not be asked.
  struct Missing {
    std::string server;
    std::string why;  // "does not answer", for people
    bool operator==(const Missing&) const = default;
  };
  std::vector<Device> devices;
  std::vector<Missing> missing{};
  bool operator==(const DevicesListed&) const = default;
};

using FromWorker =
    std::variant<Hello, Progress, Ready, Failed, Inspecting, Inspected, Restored, StatesSaved, DevicesListed>;

}  // namespace lm::wire

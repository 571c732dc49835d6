// What the daemon tells of itself, its models and its devices. Plain values; sizes in bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace llm_manager {

// Bytes by device: "host", "cuda0", …
using DeviceBytes = std::map<std::string, std::int64_t>;

// A model that the daemon knows.
struct ModelInfo {
  std::string id;
  std::string kind;    // "generation", "embedding", "rerank"
  std::string family;  // "local", "ollama", "openai"
  std::vector<std::string> aliases, roles;
  std::string state;   // "unloaded", "loading", "ready", "unloading", "failed"
  std::string reason;  // why it is in that state; may be empty
  std::string path;    // empty: a model of an upstream
  std::int64_t size = 0;
  bool pinned = false;
  int active = 0, waiting = 0;  // requests
  int context = 0;              // tokens; 0 while it is not loaded
  DeviceBytes footprint;        // what it takes, measured or predicted; empty: not known yet
  DeviceBytes held;             // what it holds now, measured; empty while it is not loaded

  bool is_ready() const { return state == "ready"; }
  // By id, alias or role.
  bool is_called(const std::string& name) const;
  bool operator==(const ModelInfo&) const = default;
};

struct DeviceInfo {
  std::string id, kind, name;  // kind: "host", "cuda", …
  bool usable = true;          // by the engine that was built
  std::int64_t capacity = 0;
  std::int64_t used = 0;       // by our models, measured
  std::int64_t external = 0;   // by others
  std::int64_t available = 0;  // what a further model may take
  struct Holder {
    std::int64_t pid = 0;
    std::string name;
    std::int64_t bytes = 0;
    bool operator==(const Holder&) const = default;
  };
  std::vector<Holder> holders;

  bool is_gpu() const { return kind != "host"; }
  bool operator==(const DeviceInfo&) const = default;
};

// Of all GPUs together, all zero on a machine without one.
struct GpuStatus {
  std::size_t count = 0;
  std::int64_t total = 0, available = 0, used = 0, external = 0;
  std::vector<DeviceInfo> devices;  // the GPUs
  DeviceInfo host;
};

// What an unload gave back: what its process held before and holds after, and what the daemon expected.
struct Release {
  std::int64_t before = 0, after = 0, freed = 0, expected = 0, residual = 0;
  bool proved = false;                      // measured to be back
  std::vector<DeviceInfo::Holder> holders;  // who has the rest
  bool operator==(const Release&) const = default;
};

// What a load, an unload or a switch came to.
struct Change {
  bool changed = false;  // false: it was so already
  double took_s = 0;
  std::optional<Release> release;  // where memory was given back
  bool operator==(const Change&) const = default;
};

// One thing that was looked at.
struct Check {
  std::string name;
  std::string status;  // "ok", "warning", "problem"
  std::string message;
  std::string fix;  // empty: nothing to do
  bool operator==(const Check&) const = default;
};

struct SystemInfo {
  std::string version, engine;
  std::int64_t pid = 0;
  double uptime_s = 0;
  std::string data, log_file;
  std::vector<std::string> warnings;  // about the configuration
  bool operator==(const SystemInfo&) const = default;
};

// Of the conversation that a client has led since it was opened (docs/persona.md says how mood and intimacy
// come about).
struct ConversationStats {
  int conversation_count = 0;  // questions that were answered
  std::string current_mood = "calm";
  double intimacy_level = 0;   // 0…100
  std::int64_t prompt_tokens = 0, answer_tokens = 0;
  double average_answer_s = 0;
  int failures = 0;            // questions that were not answered, other than cancelled ones
  bool operator==(const ConversationStats&) const = default;
};

// Of the daemon's event stream (docs/api.md).
struct Event {
  std::string kind;  // "state", "progress", "switch", …
  std::string json;  // its datum
};

}  // namespace llm_manager

// A model as the configuration and the model folders describe it: what it is, where its bytes lie, how it is
// to be loaded, and its owner's policy. Whether it is in memory is instance.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "domain/device.h"
#include "domain/ids.h"

namespace lm {

enum class ModelKind : std::uint8_t { kGeneration, kEmbedding, kRerank };
std::string_view to_string(ModelKind kind);

// Which kind of engine answers for it. Generation models of different families that share devices exclude
// each other.
enum class Family : std::uint8_t { kLocal, kOllama, kOpenai };
std::string_view to_string(Family family);

// The bytes of a model. `fingerprint` names the content and survives a rename; empty until the files were
// looked at.
struct Artifact {
  std::filesystem::path path;       // the GGUF, or the first of a split one
  std::filesystem::path projector;  // multimodal projector, may be empty
  Bytes size;                       // all parts together
  std::string fingerprint;
  std::int64_t modified_s = 0;  // seconds since 1970; 0: not known
  bool operator==(const Artifact&) const = default;
};

// How a model that lies on several devices is cut: layer after layer, or every matrix by its rows.
enum class Split : std::uint8_t { kLayer, kRow };
std::string_view to_string(Split split);

// Layers on one device, one after the other; the output counts as the layer after the last.
struct LayerShare {
  DeviceId device;
  int layers = 0;  // 0: all that go to devices, where it is the only one
  bool operator==(const LayerShare&) const = default;
};

// How to load. What is empty is chosen by us, and may be made smaller when memory is short; what is set is
// the user's word and never shrunk silently.
struct LoadOptions {
  std::optional<int> context;     // tokens, all slots together
  std::optional<int> parallel;    // slots
  std::optional<int> gpu_layers;  // of the model's layers, on devices other than the host
  std::optional<int> batch;       // tokens in one logical batch
  std::optional<int> threads;
  std::string kv_type;          // "f16", "q8_0", …; empty: the engine's default
  std::string device = "auto";  // "auto", "host", "cuda", "cuda0"
  std::string pooling;          // embedding models: "mean", "cls", "last"; empty: what the model says
  bool mmap = true;
  Split split = Split::kLayer;
  std::vector<LayerShare> shares{};  // where it was placed, in the order of its layers; empty: `device` says
  bool operator==(const LoadOptions&) const = default;
};

// By which rule a model's devices are chosen.
enum class Layout : std::uint8_t {
  kCompact,        // the fewest that it fits on, a screen's card last
  kGuide,          // text over the first four in bus order by what is free, embeddings on the fifth
  kGuideFromFive,  // kGuide where there are five cards or more, else kCompact
};
std::string_view to_string(Layout layout);

// The owner's word on where a model goes, beside LoadOptions::device.
struct PlacementWish {
  Layout layout = Layout::kCompact;
  std::vector<DeviceId> devices;   // the only ones that it may use; empty: all
  DeviceBytes reserve;             // to be left free on each; "all": on those that are not named
  std::optional<int> max_devices;  // the most that it is split over
  bool operator==(const PlacementWish&) const = default;
};

// Values for sampling parameters that a request leaves out.
struct SamplingDefaults {
  std::optional<double> temperature, top_p, min_p, repeat_penalty;
  std::optional<int> top_k, max_tokens;
  bool operator==(const SamplingDefaults&) const = default;
};

// Interactive requests of a model are served before its batch ones, and wait for its turn for less long.
enum class PriorityClass : std::uint8_t { kInteractive, kBatch };
std::string_view to_string(PriorityClass priority);

struct ModelPolicy {
  bool pinned = false;  // loaded at start, never evicted, never expires
  std::optional<Duration>
      keep_alive;       // idle time until it is unloaded; empty: the server's; negative: for ever
  double weight = 1.0;  // share of the device when models compete
  PriorityClass priority = PriorityClass::kInteractive;  // of requests that do not say
  bool operator==(const ModelPolicy&) const = default;
};

// A model that another server answers for.
struct Remote {
  UpstreamId upstream;
  std::string name;  // what the upstream calls it
  bool operator==(const Remote&) const = default;
};

struct Model {
  ModelId id;
  std::vector<std::string> aliases;
  ModelKind kind = ModelKind::kGeneration;
  Family family = Family::kLocal;
  Artifact artifact;  // of a model of ours; an upstream's is empty but for its size, where that is told
  std::optional<Remote> remote;  // empty: a worker of ours loads it
  LoadOptions load;
  PlacementWish placement;
  SamplingDefaults sampling;
  ModelPolicy policy;
  std::string origin;  // for people: the configuration's section, or the folder it was found in
  std::optional<Error>
      problem;  // why it cannot be loaded as it stands ("path is not there"); told in lists, refuses loads
  bool operator==(const Model&) const = default;
};

}  // namespace lm

// A machine in numbers: its devices, what its models take, how fast they load and answer. Plain values.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace lm::simulate {

struct SimulatedDevice {
  std::string name;
  Bytes memory;
  Bytes headroom;  // never given to a model
  bool operator==(const SimulatedDevice&) const = default;
};

struct SimulatedModel {
  std::string name;
  std::string device;  // empty: the machine's first
  Bytes memory = gib(8);
  Duration load = std::chrono::seconds(2);  // from the order to load until it is ready
  Duration unload =
      std::chrono::milliseconds(100);  // from the order to end until its memory is measured free
  double prefill = 2000;               // tokens a second that one answer's context is read with
  double decode = 50;                  // tokens a second that one answer is written with
  int slots = 4;                       // answers at the same time, each as fast as one alone
  double weight = 1;                   // its share when models compete
  bool pinned = false;
  bool assumed = false;  // nobody described it: the defaults stand for it
  bool operator==(const SimulatedModel&) const = default;

  // How long an answer of so many tokens takes.
  Duration service(int context, int generated) const;
};

struct Machine {
  std::vector<SimulatedDevice> devices = {{.name = "gpu", .memory = gib(12), .headroom = {}}};
  SimulatedModel defaults;  // of models that a workload names and nobody has described
  std::vector<SimulatedModel> models;
  // What it costs to set a model's running answers aside, and again to take them up; as measured
  // (docs/performance.md). Empty: they are waited for.
  std::optional<Duration> set_aside = std::chrono::milliseconds(150);

  const SimulatedDevice* find_device(std::string_view name) const;  // of an empty name: the first
};

// The file of --models (docs/cli.md):
//   set_aside: TIME
//   devices: {NAME: {memory, headroom}}
//   default: {memory, device, load, unload, prefill, decode, slots, weight, pinned}
//   models: {NAME: {the same keys}}
// All that is wrong is told at once, with file, line and the nearest key: kInvalidArgument, "invalid_config".
// What a model's entry leaves out is as in `default`.
Result<Machine> read_machine(std::string_view yaml, const std::string& file);

// Adds the models of `names` that the machine does not have, as its defaults say. Where one of those cannot
// fit on its device, kResourceExhausted "insufficient_memory" says which and by how much. Models that are not
// named leave: nobody asks for them, unless they are pinned.
Result<Machine> with_models(Machine machine, const std::vector<std::string>& names);

}  // namespace lm::simulate

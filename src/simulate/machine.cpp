#include "simulate/machine.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "config/nearest.h"
#include "config/problem.h"
#include "config/value.h"
#include "config/yaml.h"

namespace lm::simulate {
namespace {

using config::Node;

// A key of a map of ours: puts the value in its place, or says what was expected.
template <class Into>
struct Key {
  std::string name;
  std::function<std::optional<std::string>(Into&, const Node&)> read;
};

template <class Into, class T>
Key<Into> key(std::string name, config::Type<T> type, T Into::* member) {
  return {
      .name = std::move(name),
      .read = [type = std::move(type), member](Into& into, const Node& node) -> std::optional<std::string> {
        auto value = type.read(node);
        if (!value) return std::move(value).error();
        into.*member = *std::move(value);
        return std::nullopt;
      }};
}

const std::vector<Key<SimulatedDevice>>& device_keys() {
  static const std::vector<Key<SimulatedDevice>> kKeys = {
      key("memory", config::bytes_type(), &SimulatedDevice::memory),
      key("headroom", config::bytes_type(), &SimulatedDevice::headroom)};
  return kKeys;
}

const std::vector<Key<SimulatedModel>>& model_keys() {
  static const std::vector<Key<SimulatedModel>> kKeys = {
      key("memory", config::bytes_type(), &SimulatedModel::memory),
      key("device", config::text_type("the name of a device"), &SimulatedModel::device),
      key("load", config::duration_type(), &SimulatedModel::load),
      key("unload", config::duration_type(), &SimulatedModel::unload),
      key("prefill", config::number_type(0.001, 1e9), &SimulatedModel::prefill),
      key("decode", config::number_type(0.001, 1e9), &SimulatedModel::decode),
      key("slots", config::integer_type(1, 4096), &SimulatedModel::slots),
      key("weight", config::number_type(0.01, 100), &SimulatedModel::weight),
      key("pinned", config::boolean_type(), &SimulatedModel::pinned)};
  return kKeys;
}

class MachineReader {
 public:
  explicit MachineReader(std::string file) : file_(std::move(file)) {}

  Result<Machine> read(std::string_view yaml) {
    const auto root = config::parse_yaml(yaml, file_);
    if (!root) return fail(config::to_error({root.error()}));
    if (root->kind != Node::Kind::kMap && root->kind != Node::Kind::kNull) {
      refuse(root->at, "",
             fmt::format("expected a map of set_aside, devices, default and models, found {}",
                         config::describe(root->kind)));
    } else {
      read_sections(*root);
    }
    if (!problems_.empty()) return fail(config::to_error(problems_));
    return std::move(machine_);
  }

 private:
  void refuse(config::Position at, std::string key, std::string message) {
    problems_.push_back({.file = file_, .at = at, .key = std::move(key), .message = std::move(message)});
  }

  bool is_map(const Node& node, const std::string& path) {
    if (node.kind == Node::Kind::kMap) return true;
    refuse(node.at, path, fmt::format("expected a map, found {}", config::describe(node.kind)));
    return false;
  }

  // The default first, wherever it stands: models begin with it.
  void read_sections(const Node& root) {
    const std::vector<std::string> known = {"set_aside", "devices", "default", "models"};
    for (std::size_t i = 0; i + 1 < root.children.size(); i += 2) {
      const Node& word = root.children[i];
      if (std::ranges::find(known, word.text) == known.end())
        refuse(word.at, word.text, "unknown key" + config::suggestion(word.text, known));
    }
    if (const Node* cost = root.find("set_aside"); cost != nullptr && cost->kind != Node::Kind::kNull) {
      auto time = config::duration_type().read(*cost);
      if (time) {
        machine_.set_aside = *time;
      } else {
        refuse(cost->at, "set_aside", std::move(time).error());
      }
    }
    if (const Node* defaults = section(root, "default"))
      read_keys(*defaults, "default", model_keys(), machine_.defaults);
    if (const Node* devices = section(root, "devices")) {
      machine_.devices.clear();
      each_named(
          *devices, "devices", [&](const std::string& name, const Node& value, const std::string& path) {
            SimulatedDevice device{.name = name, .memory = {}, .headroom = {}};
            const std::size_t problems = problems_.size();
            read_keys(value, path, device_keys(), device);
            if (problems_.size() == problems && device.memory <= device.headroom)
              refuse(value.at, path, "needs memory, and more of it than headroom, such as memory: 24GB");
            machine_.devices.push_back(std::move(device));
          });
      if (machine_.devices.empty()) refuse(devices->at, "devices", "needs one device at least");
    }
    if (const Node* models = section(root, "models")) {
      each_named(*models, "models", [&](const std::string& name, const Node& value, const std::string& path) {
        SimulatedModel model = machine_.defaults;
        model.name = name;
        if (value.kind != Node::Kind::kNull) read_keys(value, path, model_keys(), model);
        check_device(model, value, path);
        machine_.models.push_back(std::move(model));
      });
    }
    check_device(machine_.defaults, root, "default");
  }

  void check_device(const SimulatedModel& model, const Node& value, const std::string& path) {
    if (machine_.find_device(model.device) != nullptr) return;
    std::vector<std::string> names;
    for (const SimulatedDevice& device : machine_.devices) names.push_back(device.name);
    const Node* device = value.find("device");
    refuse(device != nullptr ? device->at : value.at, path + ".device",
           fmt::format("no device is called {}{}", model.device, config::suggestion(model.device, names)));
  }

  const Node* section(const Node& root, const std::string& name) {
    const Node* node = root.find(name);
    return node == nullptr || node->kind == Node::Kind::kNull || !is_map(*node, name) ? nullptr : node;
  }

  template <class Take>
  void each_named(const Node& map, const std::string& path, Take take) {
    for (std::size_t i = 0; i + 1 < map.children.size(); i += 2)
      take(map.children[i].text, map.children[i + 1], path + '.' + map.children[i].text);
  }

  template <class Into>
  void read_keys(const Node& map, const std::string& path, const std::vector<Key<Into>>& keys, Into& into) {
    if (!is_map(map, path)) return;
    std::vector<std::string> names;
    for (const auto& known : keys) names.push_back(known.name);
    for (std::size_t i = 0; i + 1 < map.children.size(); i += 2) {
      const Node& word = map.children[i];
      const Node& value = map.children[i + 1];
      const auto found = std::ranges::find(keys, word.text, &Key<Into>::name);
      const std::string shown = path + '.' + word.text;
      if (found == keys.end()) {
        refuse(word.at, shown, "unknown key" + config::suggestion(word.text, names));
      } else if (value.kind != Node::Kind::kNull) {
        if (auto wrong = found->read(into, value)) refuse(value.at, shown, *std::move(wrong));
      }
    }
  }

  std::string file_;
  Machine machine_;
  std::vector<config::Problem> problems_;
};

}  // namespace

Duration SimulatedModel::service(int context, int generated) const {
  return from_seconds(context / prefill + generated / decode);
}

const SimulatedDevice* Machine::find_device(std::string_view name) const {
  if (name.empty()) return devices.empty() ? nullptr : &devices.front();
  const auto found = std::ranges::find(devices, name, &SimulatedDevice::name);
  return found == devices.end() ? nullptr : &*found;
}

Result<Machine> read_machine(std::string_view yaml, const std::string& file) {
  return MachineReader(file).read(yaml);
}

Result<Machine> with_models(Machine machine, const std::vector<std::string>& names) {
  std::erase_if(machine.models, [&](const SimulatedModel& m) {
    return !m.pinned && std::ranges::find(names, m.name) == names.end();
  });
  for (const std::string& name : names) {
    if (std::ranges::find(machine.models, name, &SimulatedModel::name) != machine.models.end()) continue;
    machine.models.push_back(machine.defaults);
    machine.models.back().name = name;
    machine.models.back().assumed = true;
  }
  for (const SimulatedModel& model : machine.models) {
    const SimulatedDevice* device = machine.find_device(model.device);
    if (device == nullptr)
      return fail(ErrorCode::kFailedPrecondition, fmt::format("no device is called {}", model.device),
                  "no_device");
    const Bytes room = device->memory - device->headroom;
    if (model.memory > room) {
      return fail(ErrorCode::kResourceExhausted,
                  fmt::format("{} takes {}, and {} has {}: give it more memory, or the model less",
                              model.name, to_string(model.memory), device->name, to_string(room)),
                  "insufficient_memory");
    }
  }
  return machine;
}

}  // namespace lm::simulate

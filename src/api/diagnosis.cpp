#include "api/diagnosis.h"

#include <algorithm>
#include <iterator>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "os/orphans.h"
#include "os/process.h"

namespace lm::api {
namespace {

// Less in the swap area is what every machine has there that has run for a while.
constexpr Bytes kMuchSwap = mib(256);
// Cards are used unevenly where one is fuller than this, and another emptier than that.
constexpr double kFull = 0.9, kEmpty = 0.3;

Check ok(std::string name, std::string message) {
  return {std::move(name), "ok", std::move(message), {}};
}

std::string_view variant_of(std::string_view engine) {
  return engine.substr(engine.rfind(' ') + 1);
}

Check check_engine(const Findings& found) {
  if (found.engine.empty()) {
    return {"engine", "problem", "no worker has answered yet", "look at the log: llm-manager logs"};
  }
  // A card that nobody can load on.
  const std::string_view variant = variant_of(found.engine);
  for (const DeviceView& view : found.snapshot.devices) {
    const bool nvidia = view.device.kind == DeviceKind::kCuda && variant != "cuda" && variant != "vulkan";
    const bool amd = view.device.kind == DeviceKind::kRocm && variant != "vulkan";
    if (!nvidia && !amd) continue;
    return {"engine", "warning",
            fmt::format("{} ({}) is left unused: the engine was built without it ({})", view.device.id.str(),
                        view.device.name, found.engine),
            fmt::format("scripts/bootstrap --gpu {} builds one that uses it", nvidia ? "cuda" : "vulkan")};
  }
  return ok("engine", fmt::format("llama.cpp {}", found.engine));
}

Check check_host(const Findings& found) {
  if (!found.host) return {"host memory", "problem", "it cannot be read", "see that /proc is mounted"};
  const probe::HostMemory& host = *found.host;
  if (host.swap_used > kMuchSwap) {
    return {"host memory", "warning",
            fmt::format("{} lie in the swap area: whoever needs them again waits for the disk",
                        to_string(host.swap_used)),
            "run less beside the models, or give them less: devices.host.limit in the configuration"};
  }
  if (!host.capacity_bound_by.empty()) {
    return {"host memory", "warning",
            fmt::format("a control group leaves {} of the machine's {}", to_string(host.capacity),
                        to_string(host.machine_total)),
            fmt::format("raise the limit of {} where the models need more", host.capacity_bound_by)};
  }
  return ok("host memory", fmt::format("{} of {} could be had, nothing much is swapped out",
                                       to_string(host.free), to_string(host.capacity)));
}

std::vector<Check> check_balance(const Findings& found) {
  const DeviceReading* fullest = nullptr;
  const DeviceReading* emptiest = nullptr;
  const auto share = [](const DeviceReading& reading) {
    return 1 - static_cast<double>(reading.free.count()) / static_cast<double>(reading.capacity.count());
  };
  int cards = 0;
  for (const DeviceReading& reading : found.readings) {
    if (reading.device == host_device() || reading.capacity <= Bytes()) continue;
    ++cards;
    if (fullest == nullptr || share(reading) > share(*fullest)) fullest = &reading;
    if (emptiest == nullptr || share(reading) < share(*emptiest)) emptiest = &reading;
  }
  if (cards < 2) return {};
  if (share(*fullest) <= kFull || share(*emptiest) >= kEmpty)
    return {ok("balance", fmt::format("none of {} cards is full while another is empty", cards))};
  return {{"balance", "warning",
           fmt::format("{} is {:.0f} % full, {} only {:.0f} %", fullest->device.str(), 100 * share(*fullest),
                       emptiest->device.str(), 100 * share(*emptiest)),
           fmt::format("name {} for a model: device: under models: in the configuration",
                       emptiest->device.str())}};
}

Check check_strays(const Findings& found) {
  if (found.strays.empty()) return ok("processes", "no worker of an earlier daemon is left");
  return {"processes", "problem",
          fmt::format("workers whose daemon is gone still hold memory: process {}",
                      fmt::join(found.strays, ", ")),
          fmt::format("kill {}", fmt::join(found.strays, " "))};
}

// A model that is larger than all of its device can never be loaded there.
std::optional<Check> check_size(const Findings& found, const ModelView& view) {
  if (!view.footprint) return std::nullopt;
  for (const auto& [id, bytes] : view.footprint->bytes) {
    const auto device =
        std::ranges::find(found.snapshot.devices, id, [](const auto& d) { return d.device.id; });
    if (device == found.snapshot.devices.end()) continue;
    const Bytes most = std::min(device->device.capacity - device->device.headroom,
                                device->device.limit.value_or(device->device.capacity));
    if (bytes <= most) continue;
    return Check{"model " + view.model.id.str(), "warning",
                 fmt::format("it takes {} of {}, which has {} for models", to_string(bytes), id.str(),
                             to_string(most)),
                 "give it a smaller context (max_length), fewer bits, or another device"};
  }
  return std::nullopt;
}

// Who held what it kept may have ended since it was measured.
Check check_stuck(const Findings& found, const UpstreamView& view) {
  std::vector<std::string> ended;
  for (const Holder& holder : view.holders) {
    if (std::ranges::find(found.ended, holder.pid) != found.ended.end())
      ended.push_back(fmt::format("{} ({})", holder.name, holder.pid));
  }
  Check check{"upstream " + view.upstream.id.str(), "problem", view.stuck->message,
              fmt::format("end what holds it; llm-manager explain {} tells more", view.upstream.id.str())};
  if (ended.empty()) return check;
  check.message +=
      fmt::format("; since then {} {} ended", fmt::join(ended, ", "), ended.size() == 1 ? "has" : "have");
  if (ended.size() == view.holders.size()) {
    check.status = "warning";
    check.fix = "ask again: what it holds is measured anew within seconds";
  }
  return check;
}

}  // namespace

std::string intrusion_text(const UpstreamView& view) {
  const std::string what = view.residents.empty() ? "a model" : view.residents.front().name;
  return fmt::format("{} has loaded {} by itself, although others have the devices", view.upstream.id.str(),
                     what);
}

Findings find_out(const runtime::Runtime& runtime) {
  Findings found{.snapshot = runtime.snapshot(),
                 .readings = runtime.readings(),
                 .host = {},
                 .engine = runtime.engine(),
                 .strays = {},
                 .ended = {},
                 .upstream_troubles = runtime.upstream_troubles(),
                 .warnings = runtime.warnings()};
  if (auto host = probe::read_host_memory()) found.host = *std::move(host);
  for (const UpstreamView& view : found.snapshot.upstreams) {
    for (const Holder& holder : view.holders) {
      const auto process = os::read_process_stat(holder.pid);
      if (!process || process->state == 'Z' || process->name != holder.name)
        found.ended.push_back(holder.pid);
    }
  }
  // In a container the daemon may be the first process itself.
  if (::getpid() == 1) return found;
  for (const os::ProcessIdentity& stray : os::find_strays(runtime.places().worker.filename().string()))
    found.strays.push_back(stray.pid);
  return found;
}

std::vector<Check> diagnose(const Findings& found) {
  const Snapshot& snapshot = found.snapshot;
  std::vector<Check> checks = {check_engine(found), check_host(found), check_strays(found)};
  std::ranges::move(check_balance(found), std::back_inserter(checks));

  std::size_t usable = 0;
  // An upstream that does not answer is told once, below, and not for each of its models.
  const auto is_away = [&](const Model& model) {
    if (!model.remote) return false;
    const UpstreamId& id = model.remote->upstream;
    return std::ranges::any_of(snapshot.upstreams,
                               [&](const UpstreamView& v) { return v.upstream.id == id && !v.reachable; }) ||
           std::ranges::any_of(found.upstream_troubles,
                               [&](const auto& trouble) { return trouble.upstream.id == id; });
  };
  for (const ModelView& view : snapshot.models) {
    const Model& model = view.model;
    if (is_away(model)) continue;
    if (model.problem) {
      checks.push_back({"model " + model.id.str(), "problem", model.problem->message,
                        fmt::format("correct {} or remove the model", model.origin)});
      continue;
    }
    if (auto size = check_size(found, view)) checks.push_back(*std::move(size));
    const std::optional<Error>& failure = view.instance ? view.instance->error : view.error;
    if (!failure) ++usable;
    if (failure) {
      checks.push_back({"model " + model.id.str(), "problem", failure->message,
                        fmt::format("llm-manager load {} tries again; llm-manager explain {} tells more",
                                    model.id.str(), model.id.str())});
    }
    if (!view.held_by.empty()) {
      checks.push_back({"model " + model.id.str(), "warning",
                        fmt::format("kept unloaded by {}", view.held_by),
                        fmt::format("llm-manager load {}", model.id.str())});
    }
  }
  checks.push_back(
      usable > 0
          ? ok("models", fmt::format("{} can be loaded", usable))
          : Check{"models", "problem", "there is no model that can be loaded",
                  "put a GGUF file into a model folder, or name one under models: in the configuration"});

  for (const DeviceView& view : snapshot.devices) {
    const std::string name = "device " + view.device.id.str();
    if (!view.device.usable && !view.device.server.empty()) {
      checks.push_back(
          {name, "problem", fmt::format("its RPC server {} does not serve", view.device.server),
           "start ggml-rpc-server there, or take it out of devices.rpc; it is looked for again"});
    } else if (view.available < Bytes()) {
      checks.push_back({name, "warning",
                        fmt::format("{} more is in use than was left for everybody else",
                                    to_string(Bytes() - view.available)),
                        "end what else uses it, or unload a model: llm-manager ps"});
    } else {
      checks.push_back(ok(name, fmt::format("{} of {} can still be reserved", to_string(view.available),
                                            to_string(view.device.capacity))));
    }
  }

  for (const UpstreamView& view : snapshot.upstreams) {
    const Upstream& upstream = view.upstream;
    const std::string name = "upstream " + upstream.id.str();
    if (view.stuck) {
      checks.push_back(check_stuck(found, view));
    } else if (view.intrudes) {
      checks.push_back({name, "warning", intrusion_text(view),
                        "find out who asks it directly, and have him ask LLM Manager instead"});
    } else if (!view.runs) {
      checks.push_back(ok(name, "does not run; it is started when somebody asks for it"));
    } else if (view.reachable) {
      checks.push_back(ok(name, fmt::format("answers at {}", upstream.url)));
    } else if (std::ranges::any_of(snapshot.models, [&](const ModelView& model) {
                 return model.model.remote && model.model.remote->upstream == upstream.id;
               })) {
      checks.push_back({name, "warning", fmt::format("does not answer at {}; its models wait", upstream.url),
                        "start it, or correct its address in the configuration"});
    } else if (upstream.family != Family::kOllama) {
      checks.push_back({name, "warning",
                        fmt::format("has not answered at {} yet; its models are not known", upstream.url),
                        "start it, or correct its address in the configuration"});
    } else {
      // Nobody has to have an Ollama.
      checks.push_back(
          ok(name, fmt::format("none at {}; its models are listed once it answers", upstream.url)));
    }
  }

  for (const auto& [upstream, error, offers_nothing] : found.upstream_troubles) {
    if (upstream.shares_devices) continue;  // it is among those above
    checks.push_back({"upstream " + upstream.id.str(), "warning", error.message,
                      "correct its address, its certificate or its key in the configuration"});
  }

  if (snapshot.oldest_waiting) {
    const double age = seconds(snapshot.now - *snapshot.oldest_waiting);
    if (age > 30)
      checks.push_back({"queue", "warning", fmt::format("a request has waited for {:.0f} s", age),
                        "llm-manager ps shows what is in its way"});
  } else {
    checks.push_back(ok("queue", "nobody waits"));
  }
  for (const std::string& warning : found.warnings)
    checks.push_back({"configuration", "warning", warning, {}});
  return checks;
}

}  // namespace lm::api

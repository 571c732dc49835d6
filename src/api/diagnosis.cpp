#include "api/diagnosis.h"

#include <algorithm>

#include <fmt/format.h>

namespace lm::api {
namespace {

Check ok(std::string name, std::string message) {
  return {std::move(name), "ok", std::move(message), {}};
}

}  // namespace

std::vector<Check> diagnose_daemon(const runtime::Runtime& runtime) {
  std::vector<Check> checks;
  const Snapshot snapshot = runtime.snapshot();

  checks.push_back(runtime.engine().empty() ? Check{"engine", "problem", "no worker has answered yet",
                                                    "look at the log: llm-manager logs"}
                                            : ok("engine", fmt::format("llama.cpp {}", runtime.engine())));

  std::size_t usable = 0;
  for (const ModelView& view : snapshot.models) {
    const Model& model = view.model;
    if (model.problem) {
      checks.push_back({"model " + model.id.str(), "problem", model.problem->message,
                        fmt::format("correct {} or remove the model", model.origin)});
      continue;
    }
    ++usable;
    if (view.instance && view.instance->error) {
      checks.push_back({"model " + model.id.str(), "problem", view.instance->error->message,
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
      checks.push_back(
          {name, "problem", view.stuck->message,
           fmt::format("end what holds it; llm-manager explain {} tells more", upstream.id.str())});
    } else if (view.reachable) {
      checks.push_back(ok(name, fmt::format("answers at {}", upstream.url)));
    } else if (std::ranges::any_of(snapshot.models, [&](const ModelView& model) {
                 return model.model.remote && model.model.remote->upstream == upstream.id;
               })) {
      checks.push_back({name, "warning", fmt::format("does not answer at {}; its models wait", upstream.url),
                        "start it, or correct its address in the configuration"});
    } else {
      // Nobody has to have an Ollama.
      checks.push_back(
          ok(name, fmt::format("none at {}; its models are listed once it answers", upstream.url)));
    }
  }

  if (snapshot.oldest_waiting) {
    const double age = seconds(snapshot.now - *snapshot.oldest_waiting);
    if (age > 30)
      checks.push_back({"queue", "warning", fmt::format("a request has waited for {:.0f} s", age),
                        "llm-manager ps shows what is in its way"});
  } else {
    checks.push_back(ok("queue", "nobody waits"));
  }
  for (const std::string& warning : runtime.warnings())
    checks.push_back({"configuration", "warning", warning, {}});
  return checks;
}

}  // namespace lm::api

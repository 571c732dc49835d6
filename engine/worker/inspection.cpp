#include "inspection.h"

#include <algorithm>
#include <common.h>
#include <fit.h>
#include <ggml-backend.h>
#include <llama-arch.h>
#include <optional>
#include <string>
#include <vector>

#include "artifact.h"
#include "engine_log.h"
#include "load_options.h"
#include "load_parameters.h"
#include "os/sandbox/sandbox.h"
#include "prediction.h"

namespace lm::worker {
namespace {

struct Files {
  Artifact model;
  std::optional<Artifact> projector;
};

Result<Files> open_files(const wire::Inspect& order) {
  LM_TRY(auto model, Artifact::open(order.path));
  Files files{.model = std::move(model), .projector = std::nullopt};
  if (!order.projector.empty()) {
    LM_TRY(auto projector, Artifact::open(order.projector));
    files.projector = std::move(projector);
  }
  return files;
}

Result<wire::Inspected> read_files(Files& files, const wire::Inspect& order, bool on_host) {
  LM_TRY_VOID(files.model.read());
  if (files.projector) LM_TRY_VOID(files.projector->read());
  auto out = describe(files.model);
  out.inspection = order.id;
  if (llm_arch_from_string(out.architecture) == LLM_ARCH_UNKNOWN) {
    return fail(ErrorCode::kUnimplemented,
                files.model.path().filename().string() +
                    ": this version of the engine does not know the architecture '" +
                    out.architecture.substr(0, 64) + "'",
                "unsupported_model");
  }
  LM_TRY(out.fingerprint, files.model.fingerprint());
  LM_TRY(const auto options, choose_options(order.options, out.kind, out.context_train, on_host));
  out.predicted = {predict_on_host(files.model, files.projector ? &*files.projector : nullptr, options)};
  return out;
}

// The engine's own account of a load that allocates nothing.
Result<void> measure(const wire::Inspect& order, wire::Inspected& out) {
  const wire::Load load{.kind = out.kind,
                        .path = order.path,
                        .projector = order.projector,
                        .options = order.options,
                        .alias = {},
                        .sampling = {},
                        .slot_folder = {}};
  LM_TRY(auto params, load_parameters(load, out.context_train, "none.sock"));
  const auto predicted = out.predicted.front();
  const bool mapped = params->load_mode == LLAMA_LOAD_MODE_AUTO;
  auto model_params = common_model_params_to_llama(*params);
  auto context_params = common_context_params_to_llama(*params);
  // What the server asks for: an output for each slot, not for each token.
  context_params.n_outputs_max =
      static_cast<std::uint32_t>(std::max(params->n_parallel, params->embedding ? params->n_batch : 1));
  std::vector<ggml_backend_dev_t> devices;
  std::uint32_t layers = 0, context_train = 0, experts = 0;
  common_device_memory_data_vec measured;
  try {
    measured = common_get_device_memory_data(params->model.path.c_str(), &model_params, &context_params,
                                             devices, layers, context_train, experts, GGML_LOG_LEVEL_ERROR);
  } catch (const std::exception& e) {
    return fail(why_it_failed(e.what()).with_context(order.path.filename().string()));
  }
  if (measured.size() != devices.size() + 1)
    return fail(ErrorCode::kInternal, "the engine's account does not fit its devices", "internal");
  out.predicted.clear();
  const auto bytes = [](std::size_t n) { return Bytes(static_cast<std::int64_t>(n)); };
  for (std::size_t i = 0; i < devices.size(); ++i) {
    out.predicted.push_back({.device = DeviceId(device_name(ggml_backend_dev_name(devices[i]))),
                             .weights = bytes(measured[i].model),
                             .mapped = Bytes(0),
                             .context = bytes(measured[i].context),
                             .compute = bytes(measured[i].compute)});
  }
  const auto& host = measured.back();
  const bool all_host = devices.empty();
  DeviceMemory on_host{.device = host_device(),
                       .weights = mapped ? Bytes(0) : bytes(host.model),
                       .mapped = mapped ? bytes(host.model) : Bytes(0),
                       .context = bytes(host.context),
                       .compute = bytes(host.compute)};
  // The process itself and its vocabulary are in no buffer of the engine's.
  on_host.compute =
      all_host ? std::max(on_host.compute, predicted.compute) : on_host.compute + predicted.compute;
  out.predicted.insert(out.predicted.begin(), on_host);
  out.exact = true;
  return {};
}

DeviceKind kind_of(std::string_view name) {
  if (name == "host") return DeviceKind::kHost;
  if (name.starts_with("cuda")) return DeviceKind::kCuda;
  if (name.starts_with("rocm")) return DeviceKind::kRocm;
  if (name.starts_with("vulkan")) return DeviceKind::kVulkan;
  if (name.starts_with("rpc")) return DeviceKind::kRpc;
  return DeviceKind::kOther;
}

}  // namespace

Result<wire::Inspected> inspect(const wire::Inspect& order) {
  LM_TRY(auto files, open_files(order));
  LM_TRY(auto out, read_files(files, order, stays_on_host(order.options)));
  if (order.exact) LM_TRY_VOID(measure(order, out));
  return out;
}

Result<wire::Inspected> inspect_in_sandbox(const wire::Inspect& order) {
  LM_TRY(auto files, open_files(order));
  LM_TRY_VOID(os::enter_inspection_sandbox({.cpu = std::chrono::seconds(2)}));
  return read_files(files, order, true);
}

wire::DevicesListed list_devices() {
  wire::DevicesListed out;
  for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    auto* device = ggml_backend_dev_get(i);
    ggml_backend_dev_props properties{};
    ggml_backend_dev_get_props(device, &properties);
    wire::DevicesListed::Device each;
    each.id = DeviceId(device_name(ggml_backend_dev_name(device)));
    each.kind = kind_of(each.id.str());
    each.name = properties.description != nullptr ? properties.description : "";
    each.capacity = Bytes(static_cast<std::int64_t>(properties.memory_total));
    each.free = Bytes(static_cast<std::int64_t>(properties.memory_free));
    each.bus = properties.device_id != nullptr ? properties.device_id : "";
    out.devices.push_back(std::move(each));
  }
  return out;
}

}  // namespace lm::worker

#include "inspection.h"

#include <algorithm>
#include <chat.h>
#include <common.h>
#include <ggml-backend.h>
#include <llama-arch.h>
#include <log.h>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <fmt/format.h>

#include "artifact.h"
#include "engine_log.h"
#include "load_options.h"
#include "load_parameters.h"
#include "memory_report.h"
#include "os/sandbox/sandbox.h"
#include "prediction.h"
#include "rpc_devices.h"

namespace lm::worker {
namespace {

// Templates of today take some kilobytes for a message; the engine keeps no more than a few of them.
constexpr Bytes kMostForATemplate = mib(256);

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

// Whether its conversations outlive its time in memory.
void tell_conversations(wire::Inspected& out) {
  const llm_arch architecture = llm_arch_from_string(out.architecture);
  if (out.kind != ModelKind::kGeneration) {
    out.conversations = "an embedding or rerank model holds none";
  } else if (llm_arch_is_diffusion(architecture)) {
    out.conversations = "a diffusion model has no memory that could be saved";
  } else {
    out.keeps_conversations = true;
    out.conversations = llm_arch_is_recurrent(architecture) || llm_arch_is_hybrid(architecture)
                            ? "saved with the state of its recurrent layers; a prompt that leaves the saved "
                              "one is read again from the last checkpoint"
                            : "saved when it leaves memory, restored when it comes back";
  }
}

Result<wire::Inspected> read_files(Files& files, const wire::Inspect& order, bool on_host) {
  LM_TRY_VOID(files.model.read());
  if (files.projector) LM_TRY_VOID(files.projector->read());
  auto out = describe(files.model);
  out.inspection = order.id;
  const auto has_weights = [](const Gguf& part) { return !part.tensors.empty(); };
  if (std::ranges::none_of(files.model.parts(), has_weights)) {
    return fail(ErrorCode::kInvalidArgument,
                files.model.path().filename().string() +
                    ": it has no weights: it is a vocabulary or a head alone, and no model",
                "invalid_artifact");
  }
  if (llm_arch_from_string(out.architecture) == LLM_ARCH_UNKNOWN) {
    return fail(ErrorCode::kUnimplemented,
                files.model.path().filename().string() +
                    ": this version of the engine does not know the architecture '" +
                    out.architecture.substr(0, 64) + "'",
                "unsupported_model");
  }
  // Its attention looks both ways, and yet it writes.
  const bool writes = llm_arch_is_diffusion(llm_arch_from_string(out.architecture));
  if (writes && out.pooling.empty()) out.kind = ModelKind::kGeneration;
  LM_TRY(out.fingerprint, files.model.fingerprint());
  tell_conversations(out);
  LM_TRY(const auto options, choose_options(for_file(order.options, files.model.padding()), out.kind,
                                            out.context_train, on_host));
  const auto* projector = files.projector ? &*files.projector : nullptr;
  out.extent = extent_of(files.model, projector, options);
  // A card that is named is believed: in the sandbox nobody can look.
  const auto card = on_host ? std::nullopt : card_of(order.options);
  if (card) {
    out.predicted = predict_on_card(files.model, projector, options, *card);
  } else {
    out.predicted = {predict_on_host(files.model, projector, options)};
  }
  return out;
}

// The engine's own account of a load that allocates nothing.
Result<void> measure(const wire::Inspect& order, std::uint64_t padding, wire::Inspected& out) {
  const wire::Load load{.kind = out.kind,
                        .path = order.path,
                        .projector = order.projector,
                        .options = for_file(order.options, padding),
                        .alias = {},
                        .sampling = {},
                        .states = {}};
  LM_TRY(auto params, load_parameters(load, out.context_train, "none.sock"));
  const bool maps = params->load_mode == LLAMA_LOAD_MODE_AUTO;
  auto model_params = common_model_params_to_llama(*params);
  model_params.no_alloc = true;
  model_params.load_mode = LLAMA_LOAD_MODE_NONE;  // the only one that can be simulated
  auto context_params = common_context_params_to_llama(*params);
  // What the server asks for: an output for each slot, not for each token.
  context_params.n_outputs_max =
      static_cast<std::uint32_t>(std::max(params->n_parallel, params->embedding ? params->n_batch : 1));

  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(params->model.path.c_str(), model_params), llama_model_free);
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(
      model ? llama_init_from_model(model.get(), context_params) : nullptr, llama_free);
  if (!context) {
    return fail(why_it_failed("the engine refused the model without saying why")
                    .with_context(order.path.filename().string()));
  }
  auto measured = memory_report(context.get(), maps);
  // The process itself, its vocabulary and the projector are in no buffer of the engine's: what arithmetic
  // says of the host's scratch stands, where the engine says less.
  const auto predicted = out.predicted.front();  // the host's
  auto host = std::ranges::find(measured, host_device(), &DeviceMemory::device);
  if (host == measured.end()) {
    host = measured.insert(
        measured.begin(),
        DeviceMemory{.device = host_device(), .weights = {}, .mapped = {}, .context = {}, .compute = {}});
  }
  host->compute =
      measured.size() == 1 ? std::max(host->compute, predicted.compute) : host->compute + predicted.compute;
  out.predicted = std::move(measured);
  out.exact = true;
  return {};
}

// The engine's interpreter catches whatever is thrown in a template: that memory ran out is remembered here.
bool out_of_memory = false;

Bytes peak_resident() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return kib(used.ru_maxrss);
}

// A chat template is a program, and the engine runs it while it loads: all that a file holds, whatever kind
// of model its other keys claim. One that never ends ends this process here instead, and one that asks for
// memory is refused. What it says does not matter, nor that it says it is not content.
Result<void> run_templates(const Artifact& artifact) {
  common_log_set_verbosity_thold(-1);  // its log would start a thread
  std::set_new_handler([] {
    out_of_memory = true;
    throw std::bad_alloc();
  });
  const Bytes before = peak_resident();
  for (const auto* key : {"tokenizer.chat_template", "tokenizer.chat_template.tool_use"}) {
    const auto text = artifact.first().text(key);
    if (!text || text->empty()) continue;
    try {
      const auto templates = common_chat_templates_init(nullptr, std::string(*text), "<s>", "</s>");
      common_chat_format_example(templates.get(), true, {});
      common_chat_templates_support_enable_thinking(templates.get());
    } catch (const std::exception&) {
    }
    if (out_of_memory || peak_resident() - before > kMostForATemplate) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: its chat template takes more than {} of memory",
                              artifact.path().filename().string(), to_string(kMostForATemplate)),
                  "invalid_artifact");
    }
  }
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
  if (order.exact) LM_TRY_VOID(measure(order, files.model.padding(), out));
  return out;
}

Result<wire::Inspected> inspect_in_sandbox(const wire::Inspect& order,
                                           const std::function<void(wire::InspectionStep)>& begins) {
  LM_TRY(auto files, open_files(order));
  LM_TRY_VOID(os::enter_inspection_sandbox({.cpu = wire::kInspectionProcessorTime}));
  begins(wire::InspectionStep::kFile);
  LM_TRY(auto out, read_files(files, order, !card_of(order.options)));
  begins(wire::InspectionStep::kTemplate);
  LM_TRY_VOID(run_templates(files.model));
  return out;
}

wire::DevicesListed list_devices(const wire::ListDevices& order) {
  wire::DevicesListed out;
  // To tell a card's memory is to open it: whoever asks for servers does not ask for cards.
  const std::size_t local = order.servers.empty() ? ggml_backend_dev_count() : 0;
  for (std::size_t i = 0; i < local; ++i) {
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
  list_rpc_devices(order.servers, out);
  return out;
}

}  // namespace lm::worker

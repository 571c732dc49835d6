#include "load_parameters.h"

#include <algorithm>
#include <common.h>
#include <cstdio>
#include <ggml-backend.h>
#include <llama.h>
#include <vector>

#include <fmt/format.h>

#include "engine_log.h"
#include "load_options.h"
#include "rpc_devices.h"

namespace lm::worker {
namespace {

std::unexpected<Error> illegal(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message), "invalid_options");
}

std::vector<ggml_backend_dev_t> cards() {
  std::vector<ggml_backend_dev_t> out;
  for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    auto* device = ggml_backend_dev_get(i);
    const auto type = ggml_backend_dev_type(device);
    if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) out.push_back(device);
  }
  return out;
}

// "cuda" names all of its kind, "cuda0" one.
Result<std::vector<ggml_backend_dev_t>> chosen_cards(const std::string& wanted) {
  if (wanted == "host" || wanted == "cpu") return std::vector<ggml_backend_dev_t>();
  auto all = cards();
  if (wanted.empty() || wanted == "auto") return all;
  std::vector<ggml_backend_dev_t> out;
  for (auto* card : all) {
    const std::string name = device_name(ggml_backend_dev_name(card));
    const bool same_kind =
        name.starts_with(wanted) && std::all_of(name.begin() + static_cast<std::ptrdiff_t>(wanted.size()),
                                                name.end(), [](char c) { return c >= '0' && c <= '9'; });
    const bool numbered = !wanted.empty() && wanted.back() >= '0' && wanted.back() <= '9';
    if (numbered ? name == wanted : same_kind) out.push_back(card);
  }
  if (out.empty() && wanted.back() >= '0' && wanted.back() <= '9') {
    std::string known = "host";
    for (auto* card : all) known += ", " + device_name(ggml_backend_dev_name(card));
    return illegal(fmt::format("there is no device {}; there are: {}", wanted, known));
  }
  if (out.empty())
    std::fprintf(stderr, "worker: there is no %s device, the model goes to the host\n", wanted.c_str());
  return out;
}

// The devices that the manager has chosen.
Result<std::vector<ggml_backend_dev_t>> placed_on(const std::vector<LayerShare>& shares) {
  if (shares.size() > llama_max_devices())
    return illegal(
        fmt::format("{} devices are more than the engine's {}", shares.size(), llama_max_devices()));
  std::vector<ggml_backend_dev_t> out;
  for (const LayerShare& share : shares) {
    if (auto* remote = rpc_device(share.device)) {
      out.push_back(remote);
      continue;
    }
    LM_TRY(const auto card, chosen_cards(share.device.str()));
    if (card.size() != 1) return illegal(fmt::format("there is no device {}", share.device.str()));
    out.push_back(card.front());
  }
  return out;
}

Result<enum llama_pooling_type> pooling_of(const std::string& name, ModelKind kind) {
  if (kind == ModelKind::kRerank) return LLAMA_POOLING_TYPE_RANK;
  if (name.empty()) return LLAMA_POOLING_TYPE_UNSPECIFIED;
  if (name == "none") return LLAMA_POOLING_TYPE_NONE;
  if (name == "mean") return LLAMA_POOLING_TYPE_MEAN;
  if (name == "cls") return LLAMA_POOLING_TYPE_CLS;
  if (name == "last") return LLAMA_POOLING_TYPE_LAST;
  return illegal(fmt::format("pooling '{}' is none of none, mean, cls, last", name));
}

void set_sampling(const SamplingDefaults& wanted, common_params& params) {
  auto& sampling = params.sampling;
  // A value set here beats the one in the model's metadata only when the engine is told that a user set it.
  const auto set = [&](auto& target, const auto& value, std::uint64_t flag) {
    if (!value) return;
    target = static_cast<std::decay_t<decltype(target)>>(*value);
    sampling.user_sampling_config |= flag;
  };
  set(sampling.temp, wanted.temperature, COMMON_PARAMS_SAMPLING_CONFIG_TEMP);
  set(sampling.top_p, wanted.top_p, COMMON_PARAMS_SAMPLING_CONFIG_TOP_P);
  set(sampling.min_p, wanted.min_p, COMMON_PARAMS_SAMPLING_CONFIG_MIN_P);
  set(sampling.top_k, wanted.top_k, COMMON_PARAMS_SAMPLING_CONFIG_TOP_K);
  set(sampling.penalty_repeat, wanted.repeat_penalty, COMMON_PARAMS_SAMPLING_CONFIG_PENALTY_REPEAT);
  if (wanted.max_tokens) params.n_predict = *wanted.max_tokens;
}

}  // namespace

bool stays_on_host(const LoadOptions& options) {
  if (options.gpu_layers == 0) return true;
  if (!options.shares.empty()) return false;
  const auto chosen = chosen_cards(options.device);
  return !chosen || chosen->empty();
}

Result<std::unique_ptr<common_params>> load_parameters(const wire::Load& load, int context_train,
                                                       const std::string& socket) {
  LM_TRY_VOID(add_rpc_devices(load.rpc));
  LM_TRY(auto chosen,
         load.options.shares.empty() ? chosen_cards(load.options.device) : placed_on(load.options.shares));
  const bool on_host = chosen.empty() || load.options.gpu_layers == 0;
  LM_TRY(const auto options, choose_options(load.options, load.kind, context_train, on_host));
  LM_TRY(const auto pooling, pooling_of(load.options.pooling, load.kind));

  auto params = std::make_unique<common_params>();
  params->model.path = load.path.string();
  params->mmproj.path = load.projector.string();
  params->no_mmproj = load.projector.empty();
  if (!load.alias.empty()) params->model_alias.insert(load.alias);

  params->n_ctx = options.context;
  params->n_parallel = options.parallel;
  params->kv_unified = options.unified;
  params->n_batch = options.batch;
  params->n_ubatch = options.micro_batch;
  params->cache_type_k = static_cast<ggml_type>(options.kv_type_k);
  params->cache_type_v = static_cast<ggml_type>(options.kv_type_v);
  params->load_mode = options.mmap ? LLAMA_LOAD_MODE_AUTO : LLAMA_LOAD_MODE_NONE;
  params->cpuparams.n_threads = load.options.threads.value_or(common_cpu_get_num_math());
  params->cpuparams_batch.n_threads = params->cpuparams.n_threads;
  // Threads of an idle worker that wait for the next graph spin for some milliseconds, not for a third of a
  // second: others share this machine.
  params->cpuparams.poll = params->cpuparams_batch.poll = 1;

  if (on_host) {
    params->n_gpu_layers = 0;
    params->mmproj_use_gpu = false;
    params->devices.assign(1, nullptr);  // none, rather than all
  } else {
    params->n_gpu_layers = load.options.gpu_layers.value_or(-1);
    const std::vector<LayerShare>& shares = load.options.shares;
    // Numbers of layers as parts: the engine's own division gives them back exactly.
    for (std::size_t i = 0; shares.size() > 1 && i < shares.size(); ++i)
      params->tensor_split[i] = static_cast<float>(shares[i].layers);
    params->split_mode = load.options.split == Split::kRow ? LLAMA_SPLIT_MODE_ROW : LLAMA_SPLIT_MODE_LAYER;
    chosen.push_back(nullptr);
    params->devices = std::move(chosen);
  }
  // The manager knows what fits: no second, measuring load.
  params->fit_params = false;
  params->fit_params_target.assign(1, 0);

  params->embedding = load.kind != ModelKind::kGeneration;
  params->pooling_type = pooling;
  // A template is a program that the engine runs while it loads. Where nobody chats, it runs its own.
  if (params->embedding) params->chat_template = "chatml";
  // The engine tries two tokens of its own anyway when it looks whether its cache can forget some; encoders
  // have no cache.
  params->warmup = load.kind != ModelKind::kGeneration || !on_host;
  set_sampling(load.sampling, *params);

  // Memory that nobody charges stays off: copies of idle conversations in RAM, and all but a few checkpoints
  // of those models whose cache cannot be cut.
  params->cache_ram_mib = 0;
  params->cache_idle_slots = false;
  params->n_ctx_checkpoints = 4;

  params->endpoint_slots = true;
  params->endpoint_metrics = true;
  params->endpoint_props = false;
  params->hostnames = {socket};
  params->cors_origins = "localhost";
  params->ui = false;
  params->offline = true;
  return params;
}

}  // namespace lm::worker

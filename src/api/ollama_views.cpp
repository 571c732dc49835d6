#include "api/ollama_views.h"

#include <algorithm>
#include <optional>

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "api/ollama_answer.h"
#include "base/checksum.h"

namespace lm::api {
namespace {

namespace json = boost::json;

// What Ollama says of a moment that it does not know, and of one that never comes.
constexpr std::string_view kNoTime = "0001-01-01T00:00:00Z";
constexpr std::string_view kNever = "2318-01-01T00:00:00Z";

// Clients tell models by it and show its beginning, so it has the form of a SHA-256. It is none: no file is
// read for it. Another one where the file is another.
std::string digest_of(const Model& model) {
  std::string digest;
  for (int part = 0; part < 4; ++part)
    digest += fmt::format(
        "{:016x}", checksum(fmt::format("{}\n{}\n{}", part, model.id.str(), model.artifact.fingerprint)));
  return digest;
}

json::array capabilities_of(const Model& model) {
  switch (model.kind) {
    case ModelKind::kGeneration:
      if (!model.artifact.projector.empty()) return {"completion", "vision"};
      return {"completion"};
    case ModelKind::kEmbedding:
      return {"embedding"};
    case ModelKind::kRerank:
      break;
  }
  return {};
}

json::object details_of(std::string_view architecture, std::string_view parameters,
                        std::string_view quantization) {
  json::array families;
  if (!architecture.empty()) families.push_back(json::string(architecture));
  return {{"parent_model", ""},           {"format", "gguf"},
          {"family", architecture},       {"families", std::move(families)},
          {"parameter_size", parameters}, {"quantization_level", quantization}};
}

}  // namespace

std::string ollama_name(const Model& model, const runtime::Catalog& catalog) {
  if (model.remote && model.family == Family::kOllama) {
    const auto meant = catalog.resolve(model.remote->name);
    if (meant && *meant == model.id) return model.remote->name;
  }
  return model.id.str();
}

std::string human_number(std::int64_t number) {
  const auto n = static_cast<double>(number);
  if (n >= 1e9) return fmt::format("{:.1f}B", n / 1e9);
  if (n >= 1e6) return fmt::format("{:.2f}M", n / 1e6);
  if (n >= 1e3) return fmt::format("{:.0f}K", n / 1e3);
  return std::to_string(number);
}

json::object ollama_tag(const Model& model, const runtime::Catalog& catalog) {
  const std::string name = ollama_name(model, catalog);
  const auto modified =
      std::chrono::system_clock::time_point(std::chrono::seconds(model.artifact.modified_s));
  return {{"name", name},
          {"model", name},
          {"modified_at", model.artifact.modified_s == 0 ? std::string(kNoTime) : rfc3339(modified)},
          {"size", model.artifact.size.count()},
          {"digest", digest_of(model)},
          {"details", details_of("", "", "")},
          {"capabilities", capabilities_of(model)}};
}

json::object ollama_ps(const Snapshot& snapshot, const runtime::Catalog& catalog,
                       std::chrono::system_clock::time_point date) {
  json::array models;
  for (const ModelView& view : snapshot.models) {
    if (view.state != PublishedState::kReady) continue;
    const std::string name = ollama_name(view.model, catalog);
    Bytes all, accelerated;
    std::string expires(kNever);
    int context = 0;
    if (view.instance) {
      all = view.instance->held.total();
      accelerated = all - view.instance->held.on(host_device());
      context = view.instance->context;
      if (view.instance->expires_at) {
        const auto left = std::chrono::duration_cast<std::chrono::system_clock::duration>(
            *view.instance->expires_at - snapshot.now);
        expires = rfc3339(date + left);
      }
    } else if (view.model.remote) {
      for (const UpstreamView& upstream : snapshot.upstreams) {
        if (upstream.upstream.id != view.model.remote->upstream) continue;
        const auto resident = std::ranges::find(upstream.residents, view.model.remote->name, &Resident::name);
        if (resident == upstream.residents.end()) continue;
        all = resident->bytes;
        accelerated = resident->accelerated;
      }
    }
    models.push_back({{"name", name},
                      {"model", name},
                      {"size", all.count()},
                      {"digest", digest_of(view.model)},
                      {"details", details_of("", "", "")},
                      {"expires_at", expires},
                      {"size_vram", accelerated.count()},
                      {"context_length", context}});
  }
  return {{"models", std::move(models)}};
}

json::object ollama_show(const Model& model, const backend::Inspection& file) {
  const SamplingDefaults& sampling = model.sampling;
  std::string parameters;
  const auto put = [&](std::string_view name, const auto& value) {
    if (value) parameters += fmt::format("{:<30} {}\n", name, *value);
  };
  put("num_ctx", model.load.context);
  put("temperature", sampling.temperature);
  put("top_p", sampling.top_p);
  put("top_k", sampling.top_k);
  put("min_p", sampling.min_p);
  put("repeat_penalty", sampling.repeat_penalty);
  put("num_predict", sampling.max_tokens);

  json::array capabilities = capabilities_of(model);
  if (model.kind == ModelKind::kGeneration) {
    // Templates that know of them name them.
    if (file.chat_template.find("tools") != std::string::npos) capabilities.push_back("tools");
    if (file.chat_template.find("think") != std::string::npos) capabilities.push_back("thinking");
  }
  const std::string& architecture = file.architecture;
  json::object info{{"general.architecture", architecture},
                    {"general.basename", file.name},
                    {"general.parameter_count", file.parameters}};
  info[architecture + ".context_length"] = file.context_train;
  info[architecture + ".block_count"] = file.layers;
  const auto modified =
      std::chrono::system_clock::time_point(std::chrono::seconds(model.artifact.modified_s));
  return {{"modelfile", fmt::format("# {} is configured in {}\nFROM {}\n", model.id.str(), model.origin,
                                    model.artifact.path.string())},
          {"parameters", std::move(parameters)},
          {"template", file.chat_template},
          {"details", details_of(architecture, human_number(file.parameters), file.quantization)},
          {"model_info", std::move(info)},
          {"capabilities", std::move(capabilities)},
          {"modified_at", rfc3339(modified)}};
}

}  // namespace lm::api

#include "pooling.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

#include "json_document.h"
#include "refusal.h"

namespace lm::importer {
namespace {

struct Mode {
  std::string_view flag;  // set in the older form
  std::string_view name;  // "pooling_mode" in the newer one
  Pooling pooling;
};
constexpr auto kModes = std::to_array<Mode>({
    {"pooling_mode_mean_tokens", "mean", Pooling::kMean},
    {"pooling_mode_cls_token", "cls", Pooling::kFirst},
    {"pooling_mode_lasttoken", "lasttoken", Pooling::kLast},
});

Result<Pooling> read_mode(const CheckpointFolder& folder, const std::string& name) {
  const auto file = name + "/config.json";
  if (folder.file(file) == nullptr)
    return refuse(
        fmt::format("modules.json names {}, which is not there: is the download complete?", in_quotes(file)));
  LM_TRY(const auto text, folder.content(file));
  LM_TRY(const auto config, parse_json(text, file));
  std::optional<Pooling> found;
  const auto* named = member(config, "pooling_mode");
  for (const auto& mode : kModes) {
    const bool meant = named != nullptr ? text_at(config, "pooling_mode") == mode.name
                                        : flag_at(config, mode.flag).value_or(false);
    if (!meant) continue;
    // Several are put side by side, which makes a longer vector.
    if (found) return unsupported(fmt::format("{}: several poolings at once are not imported", file));
    found = mode.pooling;
  }
  if (!found) return unsupported(fmt::format("{}: only mean, cls and lasttoken pooling are imported", file));
  return *found;
}

}  // namespace

Result<std::optional<Pooling>> read_pooling(const CheckpointFolder& folder, const Architecture& architecture,
                                            const ModelShape& shape, std::vector<std::string>& notices) {
  if (folder.file("modules.json") != nullptr) {
    LM_TRY(const auto text, folder.content("modules.json"));
    LM_TRY(const auto modules, parse_json(text, "modules.json"));
    const auto* list = modules.if_array();
    if (list == nullptr) return refuse("modules.json is no list");
    std::optional<Pooling> pooling;
    for (const auto& module : *list) {
      const auto type = text_at(module, "type").value_or("");
      const auto kind = type.substr(type.rfind('.') + 1);
      if (kind == "Pooling") {
        LM_TRY(pooling, read_mode(folder, std::string(text_at(module, "path").value_or(""))));
      } else if (kind != "Transformer" && kind != "Normalize") {
        return unsupported(
            fmt::format("modules.json: the module {} is not imported; Transformer, Pooling and Normalize are",
                        in_quotes(type)));
      }
    }
    if (!pooling) return unsupported("modules.json names no Pooling: the model makes no vector of a text");
    return pooling;
  }
  if (architecture.family == Family::kEncoder) {
    notices.emplace_back(
        "it says nothing of its pooling (modules.json): vectors are the mean of a text's tokens");
    return Pooling::kMean;
  }
  if (shape.class_name.ends_with("Model")) {
    notices.emplace_back(
        "it says nothing of its pooling (modules.json): vectors are those of a text's last token");
    return Pooling::kLast;
  }
  return std::nullopt;
}

}  // namespace lm::importer

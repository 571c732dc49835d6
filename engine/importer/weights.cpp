#include "weights.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "json_document.h"
#include "refusal.h"

namespace lm::importer {
namespace {

constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::size_t kLongestIndex = std::size_t{64} << 20;

Result<void> read_file(const OpenFile& file, Weights& out) {
  LM_TRY(const auto content, file.map());
  const auto head = content.substr(0, safetensors_head_size(content, file.size()));
  auto entries = read_safetensors(head, file.size());
  if (!entries) return fail(std::move(entries.error()).with_context(file.name()));
  for (auto& entry : *entries) {
    auto [at, added] = out.try_emplace(entry.name);
    if (!added) {
      return refuse(fmt::format("{} and {} both hold the tensor {}", at->second.file->name(), file.name(),
                                in_quotes(entry.name)));
    }
    at->second = {.type = entry.type,
                  .type_name = std::move(entry.type_name),
                  .shape = std::move(entry.shape),
                  .file = &file,
                  .begin = entry.begin,
                  .size = entry.size};
  }
  return {};
}

// The files that the index names, each of them once; and every tensor where the index says that it is.
Result<Weights> read_sharded(const CheckpointFolder& folder, const OpenFile& index) {
  LM_TRY(const auto text, index.map());
  LM_TRY(const auto document, parse_json(text, kIndex, {.bytes = kLongestIndex, .depth = 4}));
  const auto* map = object_at(document, "weight_map");
  if (map == nullptr) return refuse(fmt::format("{} has no weight_map", kIndex));
  std::set<std::string, std::less<>> files;
  for (const auto& [name, value] : *map) {
    const auto* file = value.if_string();
    if (file == nullptr) return refuse(fmt::format("{}: {} lies in no file", kIndex, in_quotes(name)));
    files.emplace(*file);
  }
  Weights out;
  for (const auto& name : files) {
    const auto* file = name.ends_with(".safetensors") ? folder.file(name) : nullptr;
    if (file == nullptr) {
      return refuse(fmt::format("{} names the file {}, which is not there: is the download complete?", kIndex,
                                in_quotes(name)));
    }
    LM_TRY_VOID(read_file(*file, out));
  }
  for (const auto& [name, value] : *map) {
    const auto found = out.find(name);
    if (found == out.end() || found->second.file->name() != value.get_string()) {
      return refuse(fmt::format("{} says that {} lies in {}, where it is not", kIndex, in_quotes(name),
                                in_quotes(value.get_string())));
    }
  }
  return out;
}

}  // namespace

std::string_view Weight::bytes() const {
  const auto content = file->map();
  return content ? content->substr(begin, size) : std::string_view();
}

Result<Weights> read_weights(const CheckpointFolder& folder) {
  if (const auto* index = folder.file(kIndex)) return read_sharded(folder, *index);
  const auto files = folder.weights();
  if (files.empty()) {
    return refuse(
        "it holds no *.safetensors: weights of other formats (*.bin, *.pth) are programs and are not read");
  }
  const auto* chosen = folder.file("model.safetensors");
  if (chosen == nullptr && files.size() > 1) {
    return refuse(fmt::format("it holds {} *.safetensors and no {} that says which of them make the model",
                              files.size(), kIndex));
  }
  Weights out;
  LM_TRY_VOID(read_file(chosen == nullptr ? *files.front() : *chosen, out));
  return out;
}

}  // namespace lm::importer

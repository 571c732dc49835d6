#include "wire/ollama.h"

#include <algorithm>
#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace lm::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kDeepest = 32;
constexpr std::size_t kMostModels = 10'000;
constexpr std::size_t kLongestName = 512;

std::unexpected<Error> not_that(std::string what) {
  return fail(ErrorCode::kInvalidArgument, std::move(what), "bad_upstream");
}

std::string_view text(const json::value* value) {
  const json::string* string = value != nullptr ? value->if_string() : nullptr;
  return string != nullptr ? std::string_view(string->data(), string->size()) : std::string_view();
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::optional<Bytes> bytes(const json::object& object, std::string_view field) {
  const json::value* value = object.if_contains(field);
  if (value == nullptr || value->is_null()) return Bytes();
  if (!value->is_number()) return std::nullopt;
  json::error_code error;
  const auto count = value->to_number<std::int64_t>(error);
  if (error || count < 0) return std::nullopt;
  return Bytes(count);
}

// By what it says it can do; /api/ps and versions before 0.9 do not, and there the architecture tells.
ModelKind kind_of(const json::object& model, std::string_view name) {
  if (const json::value* said = model.if_contains("capabilities"); said != nullptr && said->is_array()) {
    bool embeds = false;
    for (const json::value& word : said->get_array()) {
      if (text(&word) == "completion") return ModelKind::kGeneration;
      embeds = embeds || text(&word) == "embedding";
    }
    if (!said->get_array().empty()) return embeds ? ModelKind::kEmbedding : ModelKind::kGeneration;
  }
  std::string_view family;
  if (const json::value* details = model.if_contains("details"); details != nullptr && details->is_object())
    family = text(details->get_object().if_contains("family"));
  return family.ends_with("bert") || name.find("embed") != std::string_view::npos ? ModelKind::kEmbedding
                                                                                  : ModelKind::kGeneration;
}

Result<json::value> parse(std::string_view body) {
  json::parse_options options;
  options.max_depth = kDeepest;
  json::error_code error;
  json::value value = json::parse(body, error, {}, options);
  if (error == json::error::too_deep) return not_that("the answer is nested too deeply");
  if (error == json::error::incomplete) return not_that("the answer is cut off");
  if (error) return not_that("the answer is no JSON");
  return value;
}

Result<std::vector<OllamaModel>> decode(std::string_view body, bool strict) {
  LM_TRY(const json::value value, parse(body));
  const json::object* object = value.if_object();
  const json::value* models = object != nullptr ? object->if_contains("models") : nullptr;
  if (models == nullptr) return not_that("the answer has no list of models");
  // Go writes an empty list as null where nobody made one.
  if (models->is_null()) return std::vector<OllamaModel>();
  const json::array* list = models->if_array();
  if (list == nullptr) return not_that("\"models\" is no list");
  if (list->size() > kMostModels) return not_that(fmt::format("the list has {} models", list->size()));
  std::vector<OllamaModel> decoded;
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const json::object* entry = (*list)[i].if_object();
    if (entry == nullptr) return not_that(fmt::format("models[{}] is no object", i));
    const json::value* named = entry->if_contains("name");
    if (named == nullptr) named = entry->if_contains("model");
    if (named == nullptr || !named->is_string()) return not_that(fmt::format("models[{}] has no name", i));
    const std::string_view name = text(named);
    if (!is_name(name)) {
      if (strict) return not_that(fmt::format("models[{}] has a name that is none", i));
      continue;
    }
    const auto size = bytes(*entry, "size");
    const auto vram = bytes(*entry, "size_vram");
    if (!size || !vram) return not_that(fmt::format("models[{}] has a size that is no amount", i));
    if (!names.insert(name).second) continue;
    decoded.push_back({.name = std::string(name),
                       .kind = kind_of(*entry, name),
                       .size = *size,
                       .vram = std::min(*vram, *size)});
  }
  return decoded;
}

}  // namespace

Result<std::vector<OllamaModel>> decode_ollama_tags(std::string_view body) {
  return decode(body, false);
}

Result<std::vector<OllamaModel>> decode_ollama_ps(std::string_view body) {
  return decode(body, true);
}

Result<void> check_ollama_loaded(std::string_view body) {
  LM_TRY(const json::value value, parse(body));
  const json::object* object = value.if_object();
  if (object == nullptr) return not_that("the answer is no object");
  const json::value* done = object->if_contains("done");
  const json::value* embeddings = object->if_contains("embeddings");
  const bool says_done = done != nullptr && *done == true;
  const bool lists = embeddings != nullptr && (embeddings->is_array() || embeddings->is_null());
  if (!says_done && !lists) return not_that("the answer does not say that it is done");
  return {};
}

std::string encode_ollama_generate(std::string_view model, bool unload) {
  json::object body{{"model", model}, {"stream", false}};
  if (unload) body["keep_alive"] = 0;
  return json::serialize(body);
}

std::string encode_ollama_embed(std::string_view model) {
  return json::serialize(json::object{{"model", model}, {"input", json::array()}});
}

}  // namespace lm::wire

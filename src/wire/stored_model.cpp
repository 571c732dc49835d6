#include "wire/stored_model.h"

#include <algorithm>
#include <cstdint>

#include <boost/json.hpp>

#include "base/hex.h"
#include "wire/utf8.h"

namespace lm::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kLongestName = 512;
constexpr std::int64_t kMostCheckpoints = 1'000'000;

std::string text(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  const json::string* string = value != nullptr ? value->if_string() : nullptr;
  return string != nullptr ? utf8({string->data(), string->size()}) : std::string();
}

constexpr std::size_t kSha256Digits = 64;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

std::string encode(const StoredLine& line) {
  if (const auto* checkpoint = std::get_if<StoredCheckpoint>(&line))
    return json::serialize(
        json::object{{"checkpoint", checkpoint->index}, {"kind", to_string(checkpoint->kind)}});
  const auto& model = std::get<StoredModel>(line);
  return json::serialize(json::object{
      {"name", utf8(model.name)}, {"sha256", model.sha256}, {"projector_sha256", model.projector_sha256}});
}

Result<StoredLine> decode_stored(std::string_view line) {
  json::error_code error;
  const json::value value = json::parse(line, error);
  const json::object* object = error ? nullptr : value.if_object();
  if (object != nullptr) {
    StoredModel model{.name = text(*object, "name"),
                      .sha256 = text(*object, "sha256"),
                      .projector_sha256 = text(*object, "projector_sha256")};
    const bool projector = model.projector_sha256.empty() || is_hex(model.projector_sha256, kSha256Digits);
    if (is_name(model.name) && is_hex(model.sha256, kSha256Digits) && projector) return model;
    const json::value* index = object->if_contains("checkpoint");
    const auto number = index != nullptr && index->is_number() ? index->to_number<std::int64_t>(error) : -1;
    const std::string word = text(*object, "kind");
    for (const ModelKind kind : {ModelKind::kGeneration, ModelKind::kEmbedding}) {
      if (!error && number >= 0 && number <= kMostCheckpoints && word == to_string(kind))
        return StoredCheckpoint{.index = static_cast<std::size_t>(number), .kind = kind};
    }
  }
  return fail(ErrorCode::kInvalidArgument, "the line names no model of a store");
}

}  // namespace lm::wire

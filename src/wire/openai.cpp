#include "wire/openai.h"

#include <algorithm>

#include <boost/json.hpp>

namespace lm::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kDeepest = 32;
constexpr std::size_t kMostModels = 10'000;
constexpr std::size_t kLongestName = 512;
constexpr std::size_t kLongestComplaint = 300;

std::optional<json::value> parse(std::string_view body) {
  json::parse_options options;
  options.max_depth = kDeepest;
  json::error_code error;
  json::value value = json::parse(body, error, {}, options);
  if (error) return std::nullopt;
  return value;
}

const json::value* field(const json::value& value, std::string_view name) {
  const json::object* object = value.if_object();
  return object != nullptr ? object->if_contains(name) : nullptr;
}

std::string_view text(const json::value* value) {
  const json::string* string = value != nullptr ? value->if_string() : nullptr;
  return string != nullptr ? std::string_view(string->data(), string->size()) : std::string_view();
}

std::string_view text(const json::value& value, std::string_view name) {
  return text(field(value, name));
}

Bytes bytes(const json::value* value) {
  json::error_code error;
  if (value == nullptr || !value->is_number()) return Bytes();
  const auto count = value->to_number<std::int64_t>(error);
  return error || count < 0 ? Bytes() : Bytes(count);
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::optional<ModelKind> kind_of_word(std::string_view word) {
  if (word.find("rerank") != std::string_view::npos) return ModelKind::kRerank;
  if (word.find("embed") != std::string_view::npos) return ModelKind::kEmbedding;
  for (const std::string_view generates :
       {"chat", "llm", "vlm", "language", "generate", "completion", "text-generation"}) {
    if (word == generates) return ModelKind::kGeneration;
  }
  return std::nullopt;
}

// Nobody has agreed on a field: "type" and "task" are words, "capabilities" a list of them or an object of
// flags, and "architecture" names what comes out.
std::optional<ModelKind> kind(const json::value& model) {
  for (const std::string_view name : {"type", "task", "model_type"}) {
    if (const auto said = kind_of_word(text(model, name))) return said;
  }
  const auto of_list = [](const json::value* list) -> std::optional<ModelKind> {
    const json::array* words = list != nullptr ? list->if_array() : nullptr;
    std::optional<ModelKind> found;
    if (words == nullptr) return found;
    for (const json::value& word : *words) {
      const auto said = kind_of_word(text(&word));
      // What can talk as well is there for talking.
      if (said && (!found || *said == ModelKind::kGeneration)) found = said;
    }
    return found;
  };
  if (const auto said = of_list(field(model, "capabilities"))) return said;
  if (const json::value* architecture = field(model, "architecture"))
    return of_list(field(*architecture, "output_modalities"));
  return std::nullopt;
}

const json::array* list_of(const json::value& body, std::string_view name) {
  if (const json::array* bare = body.if_array()) return bare;
  const json::value* list = field(body, name);
  return list != nullptr ? list->if_array() : nullptr;
}

std::unexpected<Error> no_list() {
  return fail(ErrorCode::kInvalidArgument, "that is no list of models", "bad_upstream");
}

template <class Read>
std::vector<ListedModel> read_each(const json::array& list, std::string_view name_field, Read read) {
  std::vector<ListedModel> models;
  for (const json::value& entry : list) {
    const std::string_view name = text(entry, name_field);
    if (!is_name(name)) continue;
    if (models.size() == kMostModels) break;
    ListedModel model;
    model.name = name;
    model.kind = kind(entry);
    read(entry, model);
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace

Result<std::vector<ListedModel>> decode_models(std::string_view body) {
  const auto value = parse(body);
  const json::array* list = value ? list_of(*value, "data") : nullptr;
  if (list == nullptr) return no_list();
  return read_each(*list, "id", [](const json::value& entry, ListedModel& model) {
    model.owner = text(entry, "owned_by");
    if (const json::value* status = field(entry, "status")) {
      model.status = text(*status, "value");
      const json::value* failed = field(*status, "failed");
      model.failed = failed != nullptr && failed->is_bool() && failed->get_bool();
    }
    if (const json::value* meta = field(entry, "meta")) model.size = bytes(field(*meta, "size"));
    if (text(entry, "state") == "loaded") model.instances.push_back(model.name);
  });
}

bool has_states(std::string_view body) {
  const auto value = parse(body);
  const json::array* list = value ? list_of(*value, "data") : nullptr;
  return list != nullptr && !list->empty() &&
         std::ranges::all_of(*list, [](const json::value& entry) { return !text(entry, "state").empty(); });
}

Result<std::vector<ListedModel>> decode_lm_studio_models(std::string_view body) {
  const auto value = parse(body);
  const json::value* models = value ? field(*value, "models") : nullptr;
  const json::array* list = models != nullptr ? models->if_array() : nullptr;
  if (list == nullptr) return no_list();
  // Others answer on that path too, with lists of their own.
  const auto has_instances = [](const json::value& entry) {
    const json::value* instances = field(entry, "loaded_instances");
    return instances != nullptr && instances->is_array();
  };
  if (!std::ranges::all_of(*list, has_instances)) return no_list();
  return read_each(*list, "key", [](const json::value& entry, ListedModel& model) {
    model.size = bytes(field(entry, "size_bytes"));
    for (const json::value& instance : entry.at("loaded_instances").get_array()) {
      const std::string_view id = text(instance, "id");
      if (is_name(id)) model.instances.emplace_back(id);
    }
  });
}

std::string decode_text(std::string_view body, std::string_view name) {
  const auto value = parse(body);
  return value ? std::string(text(*value, name)) : std::string();
}

std::optional<bool> decode_flag(std::string_view body, std::string_view name) {
  const auto value = parse(body);
  const json::value* flag = value ? field(*value, name) : nullptr;
  if (flag == nullptr || !flag->is_bool()) return std::nullopt;
  return flag->get_bool();
}

std::string decode_complaint(std::string_view body) {
  const auto value = parse(body);
  if (!value) return {};
  std::string_view said;
  if (const json::value* error = field(*value, "error"))
    said = error->is_string() ? text(error) : text(*error, "message");
  for (const std::string_view name : {"message", "detail"}) {
    if (said.empty()) said = text(*value, name);
  }
  std::string line(said.substr(0, kLongestComplaint));
  // Cut between two letters, not inside of one.
  if (said.size() > kLongestComplaint) {
    while (!line.empty() && (static_cast<unsigned char>(said[line.size()]) & 0xC0) == 0x80) line.pop_back();
  }
  std::ranges::replace_if(line, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return line;
}

std::string encode_text(std::string_view name, std::string_view value) {
  return json::serialize(json::object{
      {json::string_view(name.data(), name.size()), json::string_view(value.data(), value.size())}});
}

}  // namespace lm::wire

#include "client/codec.h"

#include <cmath>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace lm::client {
namespace {

namespace json = boost::json;
using llm_manager::Answer;
using llm_manager::Change;
using llm_manager::Check;
using llm_manager::DeviceBytes;
using llm_manager::DeviceInfo;
using llm_manager::Embeddings;
using llm_manager::ModelInfo;
using llm_manager::Release;
using llm_manager::SystemInfo;

std::unexpected<llm_manager::Error> bad_answer(std::string_view what) {
  return std::unexpected(llm_manager::Error{
      .code = llm_manager::ErrorCode::kInternal,
      .message =
          fmt::format("the daemon's answer has no {}; is it of another version than this library?", what),
      .reason = "bad_answer",
      .details = {}});
}

std::optional<json::value> parse(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse({text.data(), text.size()}, error);
  if (error) return std::nullopt;
  return value;
}

const json::value* member(const json::value& value, std::string_view name) {
  const auto* object = value.if_object();
  return object == nullptr ? nullptr : object->if_contains({name.data(), name.size()});
}

std::string text_of(const json::value& value, std::string_view name) {
  const auto* found = member(value, name);
  return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
}

double number_of(const json::value& value, std::string_view name) {
  const auto* found = member(value, name);
  return found != nullptr && found->is_number() ? found->to_number<double>() : 0;
}

std::int64_t integer_of(const json::value& value, std::string_view name) {
  const auto* found = member(value, name);
  boost::system::error_code error;
  const auto number = found == nullptr ? 0 : found->to_number<std::int64_t>(error);
  return error ? 0 : number;
}

bool truth_of(const json::value& value, std::string_view name, bool otherwise = false) {
  const auto* found = member(value, name);
  return found != nullptr && found->is_bool() ? found->as_bool() : otherwise;
}

std::vector<std::string> texts_of(const json::value& value, std::string_view name) {
  std::vector<std::string> texts;
  const auto* found = member(value, name);
  if (found == nullptr || !found->is_array()) return texts;
  for (const json::value& one : found->as_array())
    if (one.is_string()) texts.emplace_back(one.as_string());
  return texts;
}

// {"host": 1}
DeviceBytes bytes_of(const json::value* value) {
  DeviceBytes bytes;
  if (value == nullptr || !value->is_object()) return bytes;
  for (const auto& [name, amount] : value->as_object())
    if (amount.is_number()) bytes[std::string(name)] = amount.to_number<std::int64_t>();
  return bytes;
}

std::vector<DeviceInfo::Holder> holders_of(const json::value& value) {
  std::vector<DeviceInfo::Holder> holders;
  const auto* found = member(value, "holders");
  if (found == nullptr || !found->is_array()) return holders;
  for (const json::value& one : found->as_array()) {
    holders.push_back(
        {.pid = integer_of(one, "pid"), .name = text_of(one, "name"), .bytes = integer_of(one, "bytes")});
  }
  return holders;
}

// The array `name` of the body, or nothing.
const json::array* array_of(const json::value& value, std::string_view name) {
  const auto* found = member(value, name);
  return found == nullptr ? nullptr : found->if_array();
}

ModelInfo model_of(const json::value& value) {
  ModelInfo model{.id = text_of(value, "id"),
                  .kind = text_of(value, "kind"),
                  .family = text_of(value, "family"),
                  .aliases = texts_of(value, "aliases"),
                  .roles = texts_of(value, "roles"),
                  .state = text_of(value, "state"),
                  .reason = text_of(value, "reason"),
                  .path = text_of(value, "path"),
                  .size = integer_of(value, "size"),
                  .pinned = truth_of(value, "pinned"),
                  .footprint = {},
                  .held = {}};
  if (const auto* footprint = member(value, "footprint"); footprint != nullptr)
    model.footprint = bytes_of(member(*footprint, "bytes"));
  if (const auto* instance = member(value, "instance"); instance != nullptr && instance->is_object()) {
    model.active = static_cast<int>(integer_of(*instance, "active"));
    model.waiting = static_cast<int>(integer_of(*instance, "waiting"));
    model.context = static_cast<int>(integer_of(*instance, "context"));
    model.held = bytes_of(member(*instance, "held_bytes"));
  }
  return model;
}

llm_manager::ErrorCode code_of_status(int status) {
  using enum llm_manager::ErrorCode;
  switch (status) {
    case 400:
      return kInvalidArgument;
    case 401:
      return kUnauthenticated;
    case 403:
      return kPermissionDenied;
    case 404:
      return kNotFound;
    case 409:
      return kFailedPrecondition;
    case 429:
    case 507:
      return kResourceExhausted;
    case 501:
      return kUnimplemented;
    case 503:
      return kUnavailable;
    case 504:
      return kDeadlineExceeded;
    default:
      return kInternal;
  }
}

llm_manager::Error error_of(int status, const json::value& error) {
  llm_manager::Error out{.code = code_of_status(status),
                         .message = text_of(error, "message"),
                         .reason = text_of(error, "code"),
                         .details = {}};
  if (const auto code = error_code_from_string(text_of(error, "status")))
    out.code = static_cast<llm_manager::ErrorCode>(*code);
  // The engine's own words.
  if (text_of(error, "type") == "exceed_context_size_error") out.reason = "context_exceeded";
  if (const auto* details = member(error, "details"); details != nullptr && details->is_object()) {
    for (const auto& [name, value] : details->as_object()) {
      out.details.emplace_back(std::string(name),
                               value.is_string() ? std::string(value.as_string()) : json::serialize(value));
    }
  }
  return out;
}

}  // namespace

llm_manager::Error to_public(const Error& error) {
  llm_manager::Error out{.code = static_cast<llm_manager::ErrorCode>(error.code),
                         .message = error.message,
                         .reason = error.reason,
                         .details = {}};
  for (const auto& [name, value] : error.fields) {
    const auto* number = std::get_if<std::int64_t>(&value);
    out.details.emplace_back(name,
                             number != nullptr ? std::to_string(*number) : std::get<std::string>(value));
  }
  return out;
}

llm_manager::Error error_of(int status, std::string_view body) {
  const auto parsed = parse(body);
  const auto* error = parsed ? member(*parsed, "error") : nullptr;
  if (error == nullptr || !error->is_object()) {
    return {.code = code_of_status(status),
            .message = fmt::format("what answered is no LLM Manager (HTTP status {})", status),
            .reason = "not_a_daemon",
            .details = {}};
  }
  return error_of(status, *error);
}

Read<std::vector<ModelInfo>> read_models(std::string_view body) {
  const auto parsed = parse(body);
  const auto* models = parsed ? array_of(*parsed, "models") : nullptr;
  if (models == nullptr) return bad_answer("models");
  std::vector<ModelInfo> out;
  for (const json::value& one : *models) out.push_back(model_of(one));
  return out;
}

Read<std::vector<DeviceInfo>> read_devices(std::string_view body) {
  const auto parsed = parse(body);
  const auto* devices = parsed ? array_of(*parsed, "devices") : nullptr;
  if (devices == nullptr) return bad_answer("devices");
  std::vector<DeviceInfo> out;
  for (const json::value& one : *devices) {
    out.push_back({.id = text_of(one, "id"),
                   .kind = text_of(one, "kind"),
                   .name = text_of(one, "name"),
                   .usable = truth_of(one, "usable", true),
                   .capacity = integer_of(one, "capacity"),
                   .used = integer_of(one, "used"),
                   .external = integer_of(one, "external"),
                   .available = integer_of(one, "available"),
                   .holders = holders_of(one)});
  }
  return out;
}

Read<SystemInfo> read_system(std::string_view body) {
  const auto parsed = parse(body);
  if (!parsed || member(*parsed, "version") == nullptr) return bad_answer("version");
  return SystemInfo{.version = text_of(*parsed, "version"),
                    .engine = text_of(*parsed, "engine"),
                    .pid = integer_of(*parsed, "pid"),
                    .uptime_s = number_of(*parsed, "uptime_s"),
                    .data = text_of(*parsed, "data"),
                    .log_file = text_of(*parsed, "log_file"),
                    .warnings = texts_of(*parsed, "warnings")};
}

Read<std::vector<Check>> read_checks(std::string_view body) {
  const auto parsed = parse(body);
  const auto* checks = parsed ? array_of(*parsed, "checks") : nullptr;
  if (checks == nullptr) return bad_answer("checks");
  std::vector<Check> out;
  for (const json::value& one : *checks) {
    out.push_back({.name = text_of(one, "name"),
                   .status = text_of(one, "status"),
                   .message = text_of(one, "message"),
                   .fix = text_of(one, "fix")});
  }
  return out;
}

Read<Change> read_change(std::string_view body) {
  const auto parsed = parse(body);
  if (!parsed || member(*parsed, "changed") == nullptr) return bad_answer("changed");
  Change change{
      .changed = truth_of(*parsed, "changed"), .took_s = number_of(*parsed, "took_s"), .release = {}};
  if (const auto* release = member(*parsed, "release"); release != nullptr && release->is_object()) {
    change.release = Release{.before = integer_of(*release, "before"),
                             .after = integer_of(*release, "after"),
                             .freed = integer_of(*release, "freed"),
                             .expected = integer_of(*release, "expected"),
                             .residual = integer_of(*release, "residual"),
                             .proved = truth_of(*release, "proved"),
                             .holders = holders_of(*release)};
    if (change.took_s == 0) change.took_s = number_of(*release, "took_s");
  }
  return change;
}

Read<Embeddings> read_embeddings(std::string_view body) {
  const auto parsed = parse(body);
  const auto* data = parsed ? array_of(*parsed, "data") : nullptr;
  if (data == nullptr) return bad_answer("data");
  Embeddings out;
  out.rows = data->size();
  for (const json::value& one : *data) {
    const auto* row = array_of(one, "embedding");
    const auto index = static_cast<std::size_t>(integer_of(one, "index"));
    if (row == nullptr || row->empty() || index >= out.rows) return bad_answer("embedding");
    if (out.columns == 0) {
      out.columns = row->size();
      out.values.resize(out.rows * out.columns);
    }
    if (row->size() != out.columns) return bad_answer("embeddings of one length");
    double square = 0;
    float* const values = out.values.data() + index * out.columns;
    for (std::size_t i = 0; i < out.columns; ++i) {
      boost::system::error_code error;
      const auto number = (*row)[i].to_number<double>(error);
      if (error) return bad_answer("embedding");
      values[i] = static_cast<float>(number);
      square += number * number;
    }
    const auto length = static_cast<float>(std::sqrt(square));
    for (std::size_t i = 0; length > 0 && i < out.columns; ++i) values[i] /= length;
  }
  return out;
}

Read<std::vector<int>> read_tokens(std::string_view body) {
  const auto parsed = parse(body);
  const auto* tokens = parsed ? array_of(*parsed, "tokens") : nullptr;
  if (tokens == nullptr) return bad_answer("tokens");
  std::vector<int> out;
  for (const json::value& one : *tokens) {
    boost::system::error_code error;
    out.push_back(one.to_number<int>(error));
    if (error) return bad_answer("tokens");
  }
  return out;
}

Read<std::string> read_member(std::string_view body, std::string_view name) {
  const auto parsed = parse(body);
  const auto* found = parsed ? member(*parsed, name) : nullptr;
  if (found == nullptr || !found->is_string()) return bad_answer(name);
  return std::string(found->as_string());
}

Read<int> read_number(std::string_view body, std::string_view name) {
  const auto parsed = parse(body);
  const auto* found = parsed ? member(*parsed, name) : nullptr;
  if (found == nullptr || !found->is_number()) return bad_answer(name);
  return static_cast<int>(integer_of(*parsed, name));
}

Read<std::string> take_chat_event(std::string_view datum, Answer& answer) {
  if (datum == "[DONE]") return std::string();
  const auto parsed = parse(datum);
  if (!parsed) return bad_answer("JSON in its stream");
  if (const auto* error = member(*parsed, "error")) return std::unexpected(error_of(0, *error));
  if (answer.model.empty()) answer.model = text_of(*parsed, "model");
  if (const auto* usage = member(*parsed, "usage"); usage != nullptr && usage->is_object()) {
    answer.prompt_tokens = static_cast<int>(integer_of(*usage, "prompt_tokens"));
    answer.answer_tokens = static_cast<int>(integer_of(*usage, "completion_tokens"));
  }
  const auto* choices = array_of(*parsed, "choices");
  if (choices == nullptr || choices->empty()) return std::string();
  const json::value& choice = choices->front();
  if (const std::string reason = text_of(choice, "finish_reason"); !reason.empty())
    answer.finish_reason = reason;
  const auto* delta = member(choice, "delta");
  if (delta == nullptr) return std::string();
  answer.reasoning += text_of(*delta, "reasoning_content");
  return text_of(*delta, "content");
}

json::array messages_json(const std::vector<llm_manager::Message>& messages) {
  json::array array;
  for (const llm_manager::Message& message : messages)
    array.push_back({{"role", message.role}, {"content", message.text}});
  return array;
}

}  // namespace lm::client

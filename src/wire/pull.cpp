#include "wire/pull.h"

#include <boost/json.hpp>

#include "wire/utf8.h"

namespace lm::wire {
namespace {

namespace json = boost::json;

struct Encoder {
  json::object operator()(const PullListed& m) const {
    json::array files;
    for (const std::string& file : m.files) files.emplace_back(utf8(file));
    return {{"kind", "listed"}, {"files", std::move(files)}, {"total", m.total.count()}};
  }
  json::object operator()(const PullProgressed& m) const {
    return {
        {"kind", "progress"}, {"stage", utf8(m.stage)}, {"done", m.done.count()}, {"total", m.total.count()}};
  }
  json::object operator()(const PullNoted& m) const { return {{"kind", "note"}, {"text", utf8(m.text)}}; }
  json::object operator()(const PullSucceeded& m) const {
    json::array files;
    for (const PulledFile& file : m.files)
      files.push_back({{"path", utf8(file.path)}, {"size", file.size.count()}, {"hash", utf8(file.hash)}});
    return {{"kind", "done"}, {"files", std::move(files)}};
  }
  json::object operator()(const PullFailed& m) const {
    json::object fields;
    for (const auto& [name, value] : m.error.fields) {
      if (const auto* text = std::get_if<std::string>(&value))
        fields[name] = utf8(*text);
      else
        fields[name] = std::get<std::int64_t>(value);
    }
    return {{"kind", "failed"},
            {"code", to_string(m.error.code)},
            {"message", utf8(m.error.message)},
            {"reason", utf8(m.error.reason)},
            {"fields", std::move(fields)}};
  }
};

std::string text(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  const json::string* string = value != nullptr ? value->if_string() : nullptr;
  return string != nullptr ? std::string(string->data(), string->size()) : std::string();
}

Bytes bytes(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  json::error_code error;
  if (value == nullptr || !value->is_number()) return Bytes();
  const auto count = value->to_number<std::int64_t>(error);
  return error || count < 0 ? Bytes() : Bytes(count);
}

const json::array& list(const json::object& object, std::string_view name) {
  static const json::array kNone;
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_array() ? value->get_array() : kNone;
}

PullFailed failed(const json::object& object) {
  Error error{.code = error_code_from_string(text(object, "code")).value_or(ErrorCode::kInternal),
              .message = text(object, "message"),
              .reason = text(object, "reason"),
              .fields = {},
              .retry_after = {}};
  if (const json::value* fields = object.if_contains("fields"); fields != nullptr && fields->is_object()) {
    for (const auto& [name, value] : fields->get_object()) {
      const std::string key(name.data(), name.size());
      if (value.is_int64()) error.fields.emplace_back(key, value.get_int64());
      if (value.is_string()) error.fields.emplace_back(key, std::string(value.get_string()));
    }
  }
  return {std::move(error)};
}

}  // namespace

std::string encode(const PullMessage& message) {
  return json::serialize(std::visit(Encoder(), message));
}

Result<PullMessage> decode_pull(std::string_view line) {
  json::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object())
    return fail(ErrorCode::kInvalidArgument, "the pull's child has written something else than JSON",
                "bad_message");
  const json::object& object = value.get_object();
  const std::string kind = text(object, "kind");
  if (kind == "listed") {
    PullListed message{.files = {}, .total = bytes(object, "total")};
    for (const json::value& file : list(object, "files"))
      if (file.is_string()) message.files.emplace_back(file.get_string());
    return message;
  }
  if (kind == "progress") {
    return PullProgressed{
        .stage = text(object, "stage"), .done = bytes(object, "done"), .total = bytes(object, "total")};
  }
  if (kind == "note") return PullNoted{text(object, "text")};
  if (kind == "done") {
    PullSucceeded message;
    for (const json::value& file : list(object, "files")) {
      if (!file.is_object()) continue;
      message.files.push_back({.path = text(file.get_object(), "path"),
                               .size = bytes(file.get_object(), "size"),
                               .hash = text(file.get_object(), "hash")});
    }
    return message;
  }
  if (kind == "failed") return failed(object);
  return fail(ErrorCode::kInvalidArgument, "the pull's child has written a message of no known kind",
              "bad_message");
}

}  // namespace lm::wire

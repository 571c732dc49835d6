#include "wire/import_line.h"

#include <boost/json.hpp>

#include "wire/utf8.h"

namespace lm::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostNotices = 64;

std::unexpected<Error> unreadable() {
  return fail(ErrorCode::kInvalidArgument, "the importer said what cannot be read");
}

std::optional<std::string> text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::nullopt : std::optional<std::string>(utf8(*text));
}

std::optional<Bytes> bytes_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* count = value == nullptr ? nullptr : value->if_int64();
  return count == nullptr || *count < 0 ? std::nullopt : std::optional(Bytes(*count));
}

Result<std::optional<ImportLine>> decode(const json::object& object, std::string_view kind) {
  if (kind == "progress") {
    const auto done = bytes_of(object, "done"), total = bytes_of(object, "total");
    if (!done || !total) return unreadable();
    return ImportProgress{.done = *done, .total = *total};
  }
  if (kind == "written") {
    auto architecture = text_of(object, "architecture"), quantization = text_of(object, "quantization");
    const auto size = bytes_of(object, "size");
    const auto* said = object.if_contains("notices");
    const auto* notices = said == nullptr ? nullptr : said->if_array();
    if (!architecture || !quantization || !size || notices == nullptr) return unreadable();
    ImportWritten out{.architecture = *std::move(architecture),
                      .quantization = *std::move(quantization),
                      .size = *size,
                      .notices = {}};
    for (const auto& notice : *notices) {
      if (!notice.is_string()) return unreadable();
      if (out.notices.size() < kMostNotices) out.notices.emplace_back(utf8(notice.get_string()));
    }
    return out;
  }
  if (kind == "imported") return Imported{};
  if (kind == "failed") {
    const auto word = text_of(object, "code");
    const auto code = word ? error_code_from_string(*word) : std::nullopt;
    auto message = text_of(object, "message"), reason = text_of(object, "reason");
    if (!code || !message || !reason) return unreadable();
    return Error{.code = *code,
                 .message = *std::move(message),
                 .reason = *std::move(reason),
                 .fields = {},
                 .retry_after = {}};
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<ImportLine>> decode_import_line(std::string_view line) {
  json::parse_options options;
  options.max_depth = 4;
  boost::system::error_code error;
  const auto value = json::parse(line, error, {}, options);
  if (error || !value.is_object()) return unreadable();
  const auto kind = text_of(value.get_object(), "kind");
  if (!kind) return unreadable();
  return decode(value.get_object(), *kind);
}

}  // namespace lm::wire

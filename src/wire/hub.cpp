#include "wire/hub.h"

#include <algorithm>
#include <array>
#include <optional>

#include <boost/json.hpp>

#include "base/hex.h"

namespace lm::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kDeepest = 32;
constexpr std::size_t kMostFiles = 20'000;

std::unexpected<Error> unreadable(std::string_view what) {
  return fail(ErrorCode::kUnavailable, "the answer is no " + std::string(what), "bad_upstream");
}

std::optional<json::value> parse(std::string_view body) {
  json::parse_options options;
  options.max_depth = kDeepest;
  json::error_code error;
  json::value value = json::parse(body, error, {}, options);
  if (error || !value.is_object()) return std::nullopt;
  return value;
}

const json::value* field(const json::value& value, std::string_view name) {
  const json::object* object = value.if_object();
  return object != nullptr ? object->if_contains(name) : nullptr;
}

std::string text(const json::value& value, std::string_view name) {
  const json::value* found = field(value, name);
  const json::string* string = found != nullptr ? found->if_string() : nullptr;
  return string != nullptr ? std::string(string->data(), string->size()) : std::string();
}

Bytes bytes(const json::value& value, std::string_view name) {
  const json::value* found = field(value, name);
  json::error_code error;
  if (found == nullptr || !found->is_number()) return Bytes();
  const auto count = found->to_number<std::int64_t>(error);
  return error || count < 0 ? Bytes() : Bytes(count);
}

const json::array* list(const json::value& value, std::string_view name) {
  const json::value* found = field(value, name);
  return found != nullptr ? found->if_array() : nullptr;
}

// Lower-case hex of that many digits; empty where it is something else.
std::string hex(std::string_view digits, std::size_t size) {
  std::string out(digits);
  std::ranges::transform(out, out.begin(),
                         [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
  return is_hex(out, size) ? out : std::string();
}

// "sha512-BASE64" as hex.
std::string hex_of_integrity(std::string_view integrity) {
  const std::size_t at = integrity.find("sha512-");
  if (at == std::string_view::npos) return {};
  std::string_view encoded = integrity.substr(at + 7);
  encoded = encoded.substr(0, encoded.find_first_of(" ?"));
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int held = 0;
  for (const char c : encoded) {
    if (c == '=') break;
    const std::size_t value = kLetters.find(c);
    if (value == std::string_view::npos) return {};
    bits = (bits << 6 | static_cast<unsigned>(value)) & 0xffff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    const unsigned byte = bits >> held & 0xff;
    constexpr std::string_view kHex = "0123456789abcdef";
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out.size() == 128 ? out : std::string();
}

}  // namespace

Result<HubRepository> decode_hub_repository(std::string_view body) {
  const auto value = parse(body);
  const json::array* siblings = value ? list(*value, "siblings") : nullptr;
  if (siblings == nullptr || siblings->size() > kMostFiles) return unreadable("list of a repository's files");
  HubRepository repository{.commit = hex(text(*value, "sha"), 40), .files = {}};
  for (const json::value& sibling : *siblings) {
    HubFile file{.path = text(sibling, "rfilename"),
                 .size = bytes(sibling, "size"),
                 .sha256 = {},
                 .git_sha1 = hex(text(sibling, "blobId"), 40)};
    if (const json::value* large = field(sibling, "lfs"); large != nullptr && large->is_object()) {
      file.sha256 = hex(text(*large, "sha256"), 64);
      if (const Bytes size = bytes(*large, "size"); size > Bytes()) file.size = size;
      file.git_sha1.clear();  // that of the pointer, which is not what is fetched
    }
    if (!file.path.empty()) repository.files.push_back(std::move(file));
  }
  return repository;
}

Result<std::vector<OllamaLayer>> decode_ollama_manifest(std::string_view body) {
  const auto value = parse(body);
  const json::array* layers = value ? list(*value, "layers") : nullptr;
  if (layers == nullptr || layers->size() > kMostFiles) return unreadable("manifest of a model");
  std::vector<OllamaLayer> out;
  for (const json::value& layer : *layers) {
    const std::string digest = text(layer, "digest");
    if (!digest.starts_with("sha256:")) continue;
    OllamaLayer found{.media_type = text(layer, "mediaType"),
                      .sha256 = hex(std::string_view(digest).substr(7), 64),
                      .size = bytes(layer, "size")};
    if (!found.sha256.empty()) out.push_back(std::move(found));
  }
  return out;
}

Result<NpmTarball> decode_npm_version(std::string_view body) {
  const auto value = parse(body);
  const json::value* dist = value ? field(*value, "dist") : nullptr;
  if (dist == nullptr) return unreadable("description of a package's version");
  NpmTarball tarball{.url = text(*dist, "tarball"), .sha512 = hex_of_integrity(text(*dist, "integrity"))};
  if (tarball.url.empty()) return unreadable("description of a package's version");
  return tarball;
}

}  // namespace lm::wire

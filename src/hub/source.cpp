#include "hub/source.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

#include "http/client.h"

namespace lm::hub {
namespace {

constexpr std::string_view kForms =
    "hf:OWNER/REPO[:QUANT|:FILE][@REVISION], ollama:NAME[:TAG], https://… or npm:PACKAGE@VERSION";
constexpr std::size_t kLongest = 2000;
constexpr std::size_t kLongestSegment = 200;
constexpr int kDeepest = 8;

std::unexpected<Error> wrong(std::string_view text, std::string_view why) {
  const std::size_t query = text.find_first_of("?#");
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("\"{}{}\": {}", text.substr(0, query),
                          query == std::string_view::npos ? std::string_view() : kHiddenQuery, why),
              "bad_source");
}

// Letters, digits, dots, dashes, underscores; what hubs allow in names.
bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && name.front() != '.' && name.front() != '-' &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '-' || c == '_';
         });
}

// A branch may have slashes ("refs/pr/3").
bool is_revision(std::string_view revision) {
  while (true) {
    const std::size_t slash = revision.find('/');
    if (!is_name(revision.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    revision.remove_prefix(slash + 1);
  }
}

Result<Source> parse_hub(std::string_view all, std::string_view rest) {
  Source source{.kind = Source::Kind::kHuggingFace, .host = {}, .name = {}, .pick = {}, .revision = "main"};
  if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    source.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!is_revision(source.revision)) return wrong(all, "what follows @ is no branch, tag or commit");
  }
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    source.pick = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!is_safe_path(source.pick))
      return wrong(all,
                   "what follows the second colon is a quantisation (Q4_K_M) or a file of the repository");
  }
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos || !is_name(rest.substr(0, slash)) || !is_name(rest.substr(slash + 1)))
    return wrong(all, "a repository is OWNER/REPO, as in hf:Qwen/Qwen3-8B-GGUF:Q4_K_M");
  source.name = rest;
  return source;
}

Result<Source> parse_ollama(std::string_view all, std::string_view rest) {
  Source source{.kind = Source::Kind::kOllama, .host = {}, .name = {}, .pick = {}, .revision = "latest"};
  std::vector<std::string_view> parts;
  for (std::size_t slash; (slash = rest.find('/')) != std::string_view::npos; rest.remove_prefix(slash + 1))
    parts.push_back(rest.substr(0, slash));
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    source.revision = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!is_name(source.revision)) return wrong(all, "what follows the last colon is no tag");
  }
  parts.push_back(rest);
  if (parts.size() == 3) {
    source.host = parts.front();
    if (!http::Endpoint::parse("https://" + source.host))
      return wrong(all, fmt::format("{} is no host of a registry", source.host));
    parts.erase(parts.begin());
  }
  if (parts.size() > 2 || !std::ranges::all_of(parts, is_name))
    return wrong(all, "a model of Ollama's registry is NAME[:TAG] or NAMESPACE/NAME[:TAG]");
  source.name =
      parts.size() == 2 ? fmt::format("{}/{}", parts[0], parts[1]) : fmt::format("library/{}", parts[0]);
  return source;
}

Result<Source> parse_npm(std::string_view all, std::string_view rest) {
  Source source{.kind = Source::Kind::kNpm, .host = {}, .name = {}, .pick = {}, .revision = {}};
  const std::size_t at = rest.rfind('@');
  if (at == std::string_view::npos || at == 0)
    return wrong(all, "a package is named with its version, as in npm:PACKAGE@1.2.3");
  source.revision = rest.substr(at + 1);
  std::string_view name = rest.substr(0, at);
  source.name = name;
  if (name.starts_with('@')) {
    const std::size_t slash = name.find('/');
    if (slash == std::string_view::npos || !is_name(name.substr(1, slash - 1)))
      return wrong(all, "a package in a scope is @SCOPE/PACKAGE@VERSION");
    name.remove_prefix(slash + 1);
  }
  if (!is_name(name)) return wrong(all, "that is no package's name");
  if (!is_name(source.revision)) return wrong(all, "what follows @ is no version");
  return source;
}

Result<Source> parse_address(std::string_view all) {
  const std::size_t query = all.find_first_of("?#");
  if (const auto endpoint = http::Endpoint::parse(all.substr(0, query)); !endpoint)
    return wrong(all, endpoint.error().message);
  if (all.find('#') != std::string_view::npos) return wrong(all, "an address to fetch has no #");
  Source source{.kind = Source::Kind::kAddress,
                .host = {},
                .name = std::string(all.substr(0, query)),
                .pick = {},
                .revision = {}};
  if (query != std::string_view::npos) source.query = all.substr(query);
  return source;
}

}  // namespace

std::string Source::text() const {
  switch (kind) {
    case Kind::kHuggingFace:
      return fmt::format("hf:{}{}{}@{}", name, pick.empty() ? "" : ":", pick, revision);
    case Kind::kOllama:
      return fmt::format("ollama:{}{}{}:{}", host, host.empty() ? "" : "/", name, revision);
    case Kind::kAddress:
      return name + std::string(query.empty() ? std::string_view() : kHiddenQuery);
    case Kind::kNpm:
      return fmt::format("npm:{}@{}", name, revision);
  }
  return {};
}

std::string Source::secret_text() const {
  return kind == Kind::kAddress ? name + query : text();
}

std::string_view without_query(std::string_view text) {
  if (text.ends_with(kHiddenQuery)) text.remove_suffix(kHiddenQuery.size());
  return text;
}

Result<Source> parse_source(std::string_view text) {
  if (text.size() > kLongest) return wrong(text.substr(0, 60), "that is too long for a source");
  const bool plain = std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
  if (!plain || text.empty()) return wrong(text, fmt::format("a source is written {}", kForms));
  if (text.starts_with("hf:")) return parse_hub(text, text.substr(3));
  if (text.starts_with("ollama:")) return parse_ollama(text, text.substr(7));
  if (text.starts_with("npm:")) return parse_npm(text, text.substr(4));
  if (text.starts_with("https://") || text.starts_with("http://")) return parse_address(text);
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos && parse_hub(text, text))
    return wrong(
        text, fmt::format("say where from: hf:{0} for Hugging Face, ollama:{0} for Ollama's registry", text));
  return wrong(text, fmt::format("a source is written {}", kForms));
}

std::optional<Source> named_source(std::string_view model_path) {
  constexpr std::array<std::string_view, 5> kSchemes = {"hf:", "ollama:", "npm:", "https://", "http://"};
  const bool has_scheme =
      std::ranges::any_of(kSchemes, [&](std::string_view scheme) { return model_path.starts_with(scheme); });
  // Without one it is most likely a path: only what can be nothing but a repository's name is one.
  const bool plain = model_path.find_first_of("@:") == std::string_view::npos &&
                     std::ranges::count(model_path, '/') == 1 && !model_path.ends_with(".gguf");
  if (!has_scheme && !plain) return std::nullopt;
  auto source = parse_source(has_scheme ? std::string(model_path) : fmt::format("hf:{}", model_path));
  return source ? std::optional(*std::move(source)) : std::nullopt;
}

bool is_safe_path(std::string_view path) {
  int depth = 0;
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view segment = path.substr(0, slash);
    if (segment.empty() || segment.size() > kLongestSegment || segment.front() == '.' || ++depth > kDeepest)
      return false;
    const bool plain = std::ranges::all_of(
        segment, [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '\\'; });
    if (!plain) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace lm::hub

#include "hub/surroundings.h"

#include <charconv>

#include "http/target.h"
#include "hub/address.h"
#include "os/file.h"

namespace lm::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHub = "https://huggingface.co";
constexpr std::string_view kOllamaRegistry = "https://registry.ollama.ai";

std::string trimmed(std::string_view text) {
  while (!text.empty() &&
         (text.back() == '\n' || text.back() == '\r' || text.back() == ' ' || text.back() == '/'))
    text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return std::string(text);
}

// "registry = https://…" of an npmrc.
std::string registry_of(const fs::path& npmrc) {
  const auto text = os::read_file(npmrc);
  if (!text) return {};
  std::string found;
  std::string_view rest = *text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    while (line.starts_with(' ')) line.remove_prefix(1);
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || trimmed(line.substr(0, equals)) != "registry") continue;
    found = trimmed(line.substr(equals + 1));
  }
  return found;
}

Tuning tuning_of(std::string_view text) {
  Tuning tuning;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = word.substr(0, equals);
    std::int64_t value = 0;
    std::from_chars(word.data() + equals + 1, word.data() + word.size(), value);
    if (value <= 0) continue;
    if (name == "chunk") tuning.chunk = Bytes(value);
    if (name == "streams") tuning.streams = static_cast<int>(std::min<std::int64_t>(value, 16));
    if (name == "attempts") tuning.attempts = static_cast<int>(std::min<std::int64_t>(value, 1000));
    if (name == "backoff_ms") tuning.backoff = std::chrono::milliseconds(value);
    if (name == "silence_ms") tuning.silence = std::chrono::milliseconds(value);
  }
  return tuning;
}

std::string base64(std::string_view text) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < text.size() ? static_cast<unsigned char>(text[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j)
      out += i + j <= text.size() ? kLetters[bits >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

// As curl reads it: "*", or a list of hosts and of domains, each with or without a leading dot.
bool is_excepted(std::string_view list, const std::string& host) {
  bool found = false;
  http::for_each_token(list, [&](std::string_view entry) {
    if (entry == "*") found = true;
    if (const std::size_t colon = entry.rfind(':');
        colon != std::string_view::npos && entry.find(':') == colon)
      entry = entry.substr(0, colon);
    while (entry.starts_with('.')) entry.remove_prefix(1);
    if (entry.empty() || host.size() < entry.size()) return;
    const std::string_view tail = std::string_view(host).substr(host.size() - entry.size());
    const bool whole = tail.size() == host.size() || host[host.size() - tail.size() - 1] == '.';
    if (whole && http::equals_ignoring_case(tail, entry)) found = true;
  });
  return found;
}

}  // namespace

Surroundings Surroundings::read(const Lookup& lookup) {
  const auto first = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (const auto value = lookup(name); value && !value->empty()) return *value;
    }
    return std::string();
  };
  const fs::path home = first({"HOME"});
  Surroundings found;
  found.hub_url = trimmed(first({"HF_ENDPOINT"}));
  if (found.hub_url.empty()) found.hub_url = kHub;
  found.hub_token = trimmed(first({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}));
  if (found.hub_token.empty() && !home.empty()) {
    const std::string hub_home = first({"HF_HOME"});
    const fs::path folder = hub_home.empty() ? home / ".cache/huggingface" : fs::path(hub_home);
    if (const auto token = os::read_file(folder / "token", 4096)) found.hub_token = trimmed(*token);
  }
  found.registry_url = trimmed(first({"LLM_MANAGER_OLLAMA_REGISTRY"}));
  if (found.registry_url.empty()) found.registry_url = kOllamaRegistry;
  found.npm_url = trimmed(first({"NPM_CONFIG_REGISTRY", "npm_config_registry"}));
  if (found.npm_url.empty()) {
    const std::string named = first({"NPM_CONFIG_USERCONFIG", "npm_config_userconfig"});
    if (!named.empty() || !home.empty())
      found.npm_url = registry_of(named.empty() ? home / ".npmrc" : fs::path(named));
  }
  found.https_proxy = first({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"});
  found.http_proxy = first({"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"});
  found.no_proxy = first({"no_proxy", "NO_PROXY"});
  found.tuning = tuning_of(first({"LLM_MANAGER_PULL_TUNING"}));
  return found;
}

Result<std::optional<http::Proxy>> Surroundings::proxy_for(const http::Endpoint& endpoint) const {
  std::string text = endpoint.kind == http::Endpoint::Kind::kHttps ? https_proxy : http_proxy;
  if (text.empty() || endpoint.kind == http::Endpoint::Kind::kUnix || is_excepted(no_proxy, endpoint.host))
    return std::nullopt;
  if (text.find("://") == std::string::npos) text = "http://" + text;
  http::Proxy proxy;
  // The name and password go into a header, not into the address.
  const std::size_t begin = text.find("://") + 3;
  const std::size_t end = std::min(text.find('/', begin), text.size());
  if (const std::size_t at = text.rfind('@', end); at != std::string::npos && at >= begin) {
    const auto user = http::percent_decode(std::string_view(text).substr(begin, at - begin));
    if (user) proxy.authorization = "Basic " + base64(*user);
    text.erase(begin, at + 1 - begin);
  }
  auto where = http::Endpoint::parse(text);
  if (!where) return fail(std::move(where).error().with_context("the proxy that the environment names"));
  if (where->kind != http::Endpoint::Kind::kHttp)
    return fail(ErrorCode::kInvalidArgument,
                "the proxy that the environment names must be one of http://; nothing else is supported",
                "bad_url");
  proxy.endpoint = *std::move(where);
  return proxy;
}

const std::vector<std::string>& variables_of_pulls() {
  static const std::vector<std::string> kNames = {"HOME",
                                                  "PATH",
                                                  "LANG",
                                                  "HF_ENDPOINT",
                                                  "HF_TOKEN",
                                                  "HUGGING_FACE_HUB_TOKEN",
                                                  "HF_HOME",
                                                  "http_proxy",
                                                  "LLM_MANAGER_OLLAMA_REGISTRY",
                                                  "HTTP_PROXY",
                                                  "https_proxy",
                                                  "NPM_CONFIG_REGISTRY",
                                                  "HTTPS_PROXY",
                                                  "all_proxy",
                                                  "npm_config_registry",
                                                  "ALL_PROXY",
                                                  "no_proxy",
                                                  "NPM_CONFIG_USERCONFIG",
                                                  "NO_PROXY",
                                                  "SSL_CERT_DIR",
                                                  "npm_config_userconfig",
                                                  "SSL_CERT_FILE",
                                                  "LLM_MANAGER_PULL_TUNING",
                                                  "ASAN_OPTIONS",
                                                  "UBSAN_OPTIONS",
                                                  "TSAN_OPTIONS"};
  return kNames;
}

}  // namespace lm::hub

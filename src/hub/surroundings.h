// What the user's environment says about fetching: where hubs are, with which key, through which proxy. Read
// once; a plain value.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "http/client.h"

namespace lm::hub {

// How hard it is tried. The defaults are for people; tests set LLM_MANAGER_PULL_TUNING ("chunk=65536
// streams=4 backoff_ms=5 attempts=8 silence_ms=1000").
struct Tuning {
  Bytes chunk = mib(8);  // what one request asks for, and the most that an interruption of a stream costs
  int streams = 4;
  int attempts = 8;                                   // in a row without a byte
  Duration backoff = std::chrono::milliseconds(500);  // doubled each time, at most kLongestBackoff
  Duration silence = std::chrono::seconds(30);
};
inline constexpr Duration kLongestBackoff = std::chrono::seconds(60);

struct Surroundings {
  // Reads one variable; nullopt where it is not set.
  using Lookup = std::function<std::optional<std::string>(const char* name)>;

  std::string hub_url;       // HF_ENDPOINT, else the public hub
  std::string hub_token;     // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that Hugging Face's login writes
  std::string registry_url;  // LLM_MANAGER_OLLAMA_REGISTRY, else Ollama's public registry
  std::string npm_url;       // NPM_CONFIG_REGISTRY or ~/.npmrc; empty: not told
  std::string https_proxy, http_proxy, no_proxy;
  Tuning tuning;

  static Surroundings read(const Lookup& lookup);

  // The proxy for that endpoint; nullopt: none. kInvalidArgument "bad_url" where the variable is none.
  Result<std::optional<http::Proxy>> proxy_for(const http::Endpoint& endpoint) const;
};

// The variables that read() looks at, and those that OpenSSL does: what the child is given.
const std::vector<std::string>& variables_of_pulls();

}  // namespace lm::hub

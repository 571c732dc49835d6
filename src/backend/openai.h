// Any OpenAI-compatible server: its list of models, and what it can be told about its memory, which depends
// on what it is (vLLM, llama-server's router, LM Studio, or none of these).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/upstream.h"
#include "base/result.h"
#include "wire/openai.h"

namespace lm::backend {

// Whether an upstream's models live on this machine's devices.
enum class Place : std::uint8_t { kByHost, kHere, kElsewhere };

struct OpenAiOptions {
  std::string name;                 // of the provider: its models are NAME/MODEL
  std::string base_url;             // with or without "/v1"
  std::string key;                  // empty: none
  std::vector<std::string> models;  // empty: what it lists
  Place place = Place::kByHost;
  std::string ca_file;  // PEM roots beside the system's
  Duration look_limit = std::chrono::seconds(10);
};

// kInvalidArgument "bad_url". A remote one (Upstream::shares_devices is false) is asked for its list only,
// and yield() and load() succeed without asking: it has nothing of ours.
Result<std::shared_ptr<UpstreamServer>> make_openai(boost::asio::any_io_executor executor,
                                                    OpenAiOptions options);

// A base URL taken apart at the first part of its path that is a version ("/v1", "/v1beta/openai"): the
// server's root, and the prefix of the API, which is "/v1" where the URL has none.
struct ApiBase {
  http::Endpoint root;
  std::string prefix;
};
Result<ApiBase> parse_api_base(std::string_view url);

// Models as `upstream` offers them: ids UPSTREAM/NAME, alias openai_NAME. `wanted`: only these, in this
// order, whether listed or not; empty: all that are listed.
std::vector<Model> offered(const Upstream& upstream, const std::vector<wire::ListedModel>& listed,
                           const std::vector<std::string>& wanted, const std::string& origin);

}  // namespace lm::backend

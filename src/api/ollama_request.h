// A question as Ollama's clients ask it, and the same as the OpenAI-shaped routes of workers and providers
// take it. Pure: values in, values out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "base/time.h"

namespace lm::api {

enum class OllamaCall : std::uint8_t { kChat, kGenerate, kEmbed, kEmbeddings };

// "/api/chat", …
std::string_view path_of(OllamaCall call);

// What has to be known of a request whoever answers it.
struct OllamaRequest {
  std::string model;  // as the client says it
  bool stream = true;
  std::optional<Duration> keep_alive;  // negative: for ever
  bool asks = false;   // false: nothing is to be answered, only the model's stay in memory is meant
  bool shows = false;  // there are pictures in it
};

// kInvalidArgument with Ollama's own words where it has some: "model is required", "time: invalid duration
// …".
Result<OllamaRequest> read_ollama(const boost::json::object& body, OllamaCall call);

// Go's durations: "300ms", "1.5h", "2h45m", "-1m", "0". kInvalidArgument: time: invalid duration "…".
Result<Duration> parse_go_duration(std::string_view text);

// Who answers: our own engine knows more words than a provider may.
enum class Answerer : std::uint8_t { kWorker, kProvider };

struct OpenaiRequest {
  std::string_view path;             // "/v1/chat/completions", …
  std::string body;                  // asks for a stream with its usage, where that path streams
  std::vector<std::string> ignored;  // what the client asked for and does not get: "num_ctx"
};

// `model`: the name to ask for. kInvalidArgument where something cannot be had and leaving it out would
// change the answer's meaning: a template, a context in tokens, a suffix.
Result<OpenaiRequest> to_openai(const boost::json::object& body, OllamaCall call, const std::string& model,
                                Answerer answerer);

}  // namespace lm::api

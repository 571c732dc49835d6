// A streaming answer that may be broken off in the middle and continued later: what it has said, the request
// that continues it, and how the rest has to be told so that the client sees one answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "base/time.h"
#include "http/sse.h"

namespace lm::api {

// Owned by the request's way through the relay. While nothing is broken off it only remembers bytes; parsing
// begins when somebody asks, or when many have come.
class AnswerSoFar {
 public:
  enum class Shape : std::uint8_t { kChat, kCompletion };
  explicit AnswerSoFar(Shape shape);
  AnswerSoFar(const AnswerSoFar&) = delete;
  AnswerSoFar& operator=(const AnswerSoFar&) = delete;

  // A piece of the stream that was passed on, or that is about to be.
  void keep(std::string_view bytes);

  // The stream was broken off; what is left of an event that had not come whole is forgotten. `generating`:
  // how long tokens came, for the timings.
  void break_off(Duration generating);

  // ---- after break_off()

  // Nothing was said: the same request is simply asked again.
  bool empty();
  // The model had finished. What the stream still lacks is `ending()`.
  bool finished();
  std::string ending() const;
  // The request that goes on where the answer stands. kFailedPrecondition "not_continuable" where its prompt
  // cannot be extended. `most`: the model's own limit of tokens for requests without one.
  Result<std::string> continued(std::string_view original, std::optional<int> most);
  // How many tokens the original request's prompt and the continued one's have; where the engine was asked
  // before the continuation is sent.
  void measured(int original_prompt, int continued_prompt);
  // No more tokens are allowed: the rest of the stream, finished by length.
  bool used_up() const { return left_ && *left_ <= 0; }
  std::string used_up_ending(std::string_view original);
  // An event of the continuation, as it has to be passed on: nothing, or whole events. It is kept, too.
  std::string rewrite(const http::SseEvent& event);

  const std::string& text() const { return content_; }

 private:
  void digest();
  void take(const http::SseEvent& event);

  Shape shape_;
  std::string raw_;  // not parsed yet
  http::SseParser parser_;

  // Of what was told to the client, all parts together.
  boost::json::object first_;  // the first chunk: its id and its time of creation are the answer's
  std::string content_, reasoning_;
  bool role_told_ = false;
  bool finish_told_ = false;
  bool done_told_ = false;
  int tokens_ = 0;  // pieces of text that came: each is a token, but where several make one character
  // The parts before this one.
  int given_ = 0;  // tokens
  Duration generated_for_{};
  std::optional<int> prompt_;  // tokens of the original request's
  std::optional<int> left_;    // tokens that this part may still have
};

// How many tokens a worker counted in a prompt, by its answer; empty where it says nothing of the kind.
std::optional<int> input_tokens(std::string_view answer);

}  // namespace lm::api

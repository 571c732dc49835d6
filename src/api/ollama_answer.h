// Answers of OpenAI-shaped routes as Ollama tells them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "api/retelling.h"
#include "base/time.h"
#include "http/sse.h"

namespace lm::api {

// Where an answer's clocks come from.
struct OllamaClock {
  std::function<TimePoint()> now;
  std::function<std::chrono::system_clock::time_point()> date = std::chrono::system_clock::now;
};

// "2026-11-20T19:56:53.123923775Z"
std::string rfc3339(std::chrono::system_clock::time_point at);

// A chat's or a completion's event stream (or, from providers that do not stream, its object) as lines of
// NDJSON, or as one object where the client wants no stream.
class OllamaAnswer final : public Retelling {
 public:
  enum class Form : std::uint8_t { kChat, kGenerate };
  // `model`: as the client called it.
  OllamaAnswer(Form form, std::string model, bool stream, OllamaClock clock);
  OllamaAnswer(const OllamaAnswer&) = delete;
  OllamaAnswer& operator=(const OllamaAnswer&) = delete;

  std::string_view content_type() const override;
  bool streams() const override { return stream_; }
  void begin(std::string_view content_type) override;
  Result<std::string> piece(std::string_view bytes) override;
  Result<std::string> last() override;
  // An empty piece of the answer.
  std::string sign_of_life() const override;

 private:
  // A part of an answer.
  struct Said {
    std::string content, thinking;
    boost::json::array probabilities, calls;
    bool anything() const {
      return !content.empty() || !thinking.empty() || !probabilities.empty() || !calls.empty();
    }
  };
  struct ToolCall {
    std::string id, name, arguments;
  };

  void take(std::string_view datum);
  void take_choice(const boost::json::object& choice);
  void take_tool_calls(const boost::json::array& calls);
  void take_figures(const boost::json::object& chunk);
  boost::json::array tool_calls() const;
  boost::json::object line(Said said, bool done) const;
  void put_figures(boost::json::object& line) const;

  Form form_;
  std::string model_;
  bool stream_;
  OllamaClock clock_;
  TimePoint asked_at_;
  bool events_ = true;  // false: one object comes
  http::SseParser parser_;
  std::string whole_;
  std::optional<Error> error_;
  std::string told_;                        // lines that wait for the end of their piece
  Said said_;                               // all of it, where nothing is told before the end
  std::map<std::int64_t, ToolCall> calls_;  // by their index
  std::string finish_;                      // the finish_reason
  bool done_ = false;                       // [DONE] has come
  std::optional<TimePoint> first_at_;       // of the first piece
  std::optional<std::int64_t> prompt_tokens_, tokens_;
  std::optional<Duration> reading_, writing_;  // as the engine measured them
};

// Embeddings as /api/embed tells them, or with `one` as /api/embeddings does.
class OllamaEmbeddings final : public Retelling {
 public:
  // `dimensions`: vectors are cut to so many numbers and made unit length again.
  OllamaEmbeddings(std::string model, bool one, std::optional<std::size_t> dimensions, OllamaClock clock);

  std::string_view content_type() const override;
  bool streams() const override { return false; }
  void begin(std::string_view) override {}
  Result<std::string> piece(std::string_view bytes) override;
  Result<std::string> last() override;

 private:
  std::string model_;
  bool one_;
  std::optional<std::size_t> dimensions_;
  OllamaClock clock_;
  TimePoint asked_at_;
  std::string whole_;
};

// What is answered where nothing was asked: that the model was loaded, or will be unloaded.
std::string ollama_stay(OllamaAnswer::Form form, std::string_view model, std::string_view done_reason,
                        std::chrono::system_clock::time_point at);

// The same of a model that was made ready, whatever that said.
class OllamaLoaded final : public Retelling {
 public:
  explicit OllamaLoaded(std::string told) : told_(std::move(told)) {}
  std::string_view content_type() const override;
  bool streams() const override { return false; }
  void begin(std::string_view) override {}
  Result<std::string> piece(std::string_view) override { return std::string(); }
  Result<std::string> last() override { return told_; }

 private:
  std::string told_;
};

// An answer of Ollama's own: lines are told as they are, each when it is whole.
class OllamaLines final : public Retelling {
 public:
  // `quiet`: what is told while nothing comes.
  OllamaLines(bool stream, std::string quiet) : stream_(stream), quiet_(std::move(quiet)) {}
  std::string_view content_type() const override;
  bool streams() const override { return stream_; }
  void begin(std::string_view) override {}
  // An event of our own, said before Ollama's answer began or after it broke off, is known by its first
  // bytes.
  Result<std::string> piece(std::string_view bytes) override;
  Result<std::string> last() override;
  std::string sign_of_life() const override { return quiet_; }

 private:
  bool stream_;
  std::string quiet_;
  std::string partial_;
};

}  // namespace lm::api

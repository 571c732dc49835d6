#include "api/ollama_answer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <boost/json/parse.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "api/error_shape.h"
#include "api/json_text.h"

namespace lm::api {
namespace {

namespace json = boost::json;

constexpr std::string_view kNdjson = "application/x-ndjson";
constexpr std::string_view kJson = "application/json; charset=utf-8";

std::optional<json::object> object_of(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

const json::object* object_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

std::string_view text_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

std::optional<double> number_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->to_number<double>();
}

Duration from_ms(double ms) {
  constexpr double kMost = 1e12;
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, std::milli>(std::clamp(ms, 0.0, kMost)));
}

std::int64_t nanoseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::max(duration, Duration())).count();
}

Error not_an_answer(std::string_view what) {
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("the answer makes no sense: {}", what),
          .reason = "bad_upstream",
          .fields = {},
          .retry_after = {}};
}

}  // namespace

std::string rfc3339(std::chrono::system_clock::time_point at) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(at);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(whole)),
                     std::chrono::duration_cast<std::chrono::nanoseconds>(at - whole).count());
}

OllamaAnswer::OllamaAnswer(Form form, std::string model, bool stream, OllamaClock clock)
    : form_(form),
      model_(std::move(model)),
      stream_(stream),
      clock_(std::move(clock)),
      asked_at_(clock_.now()),
      parser_([this](const http::SseEvent& event) { take(event.data); }) {}

std::string_view OllamaAnswer::content_type() const {
  return stream_ ? kNdjson : kJson;
}

void OllamaAnswer::begin(std::string_view content_type) {
  events_ = !content_type.starts_with("application/json");
}

Result<std::string> OllamaAnswer::piece(std::string_view bytes) {
  if (!events_) {
    whole_ += bytes;
    return std::string();
  }
  LM_TRY_VOID(parser_.feed(bytes));
  if (error_) return fail(*error_);
  return std::exchange(told_, {});
}

void OllamaAnswer::take(std::string_view datum) {
  if (error_ || done_) return;
  if (datum == "[DONE]") {
    done_ = true;
    return;
  }
  const auto chunk = object_of(datum);
  if (!chunk) {
    error_ = not_an_answer("a piece of it is no JSON object");
    return;
  }
  error_ = error_in(*chunk);
  if (error_) return;
  take_figures(*chunk);
  const json::value* choices = chunk->if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return;
  if (const json::object* choice = choices->get_array().front().if_object()) take_choice(*choice);
}

void OllamaAnswer::take_choice(const json::object& choice) {
  const json::object* delta = object_in(choice, "delta");
  if (delta == nullptr) delta = object_in(choice, "message");
  Said said;
  if (delta != nullptr) {
    said.content = text_in(*delta, "content");
    said.thinking = text_in(*delta, "reasoning_content");
    if (said.thinking.empty()) said.thinking = text_in(*delta, "reasoning");
    if (const json::value* calls = delta->if_contains("tool_calls"); calls != nullptr && calls->is_array())
      take_tool_calls(calls->get_array());
  } else {
    said.content = text_in(choice, "text");
  }
  if (const json::object* probabilities = object_in(choice, "logprobs")) {
    const json::value* list = probabilities->if_contains("content");
    if (list != nullptr && list->is_array()) said.probabilities = list->get_array();
  }
  if (const auto finish = text_in(choice, "finish_reason"); !finish.empty()) finish_ = finish;
  if (!said.anything()) return;
  if (!first_at_) first_at_ = clock_.now();
  if (stream_) {
    told_ += json_text(line(std::move(said), false)) + "\n";
    return;
  }
  said_.content += said.content;
  said_.thinking += said.thinking;
  for (json::value& each : said.probabilities) said_.probabilities.push_back(std::move(each));
}

// They come in parts: the name first, the arguments piece by piece.
void OllamaAnswer::take_tool_calls(const json::array& calls) {
  if (!first_at_) first_at_ = clock_.now();
  std::int64_t position = 0;
  for (const json::value& value : calls) {
    const json::object* part = value.if_object();
    if (part == nullptr) continue;
    const auto index = number_in(*part, "index");
    ToolCall& call = calls_[index ? static_cast<std::int64_t>(*index) : position];
    ++position;
    if (const auto id = text_in(*part, "id"); !id.empty()) call.id = id;
    if (const json::object* function = object_in(*part, "function")) {
      if (const auto name = text_in(*function, "name"); !name.empty()) call.name = name;
      call.arguments += text_in(*function, "arguments");
    }
  }
}

void OllamaAnswer::take_figures(const json::object& chunk) {
  const auto count = [](std::optional<double> number) -> std::optional<std::int64_t> {
    if (!number) return std::nullopt;
    return static_cast<std::int64_t>(*number);
  };
  if (const json::object* usage = object_in(chunk, "usage")) {
    if (const auto n = count(number_in(*usage, "prompt_tokens"))) prompt_tokens_ = n;
    if (const auto n = count(number_in(*usage, "completion_tokens"))) tokens_ = n;
  }
  if (const json::object* timings = object_in(chunk, "timings")) {
    if (const auto ms = number_in(*timings, "prompt_ms")) reading_ = from_ms(*ms);
    if (const auto ms = number_in(*timings, "predicted_ms")) writing_ = from_ms(*ms);
  }
}

// A call whose arguments were cut off is none: the done_reason says that it was.
json::array OllamaAnswer::tool_calls() const {
  json::array out;
  for (const auto& [index, call] : calls_) {
    auto arguments = call.arguments.empty() ? json::object() : object_of(call.arguments);
    if (!arguments) continue;
    json::object told;
    if (!call.id.empty()) told["id"] = call.id;
    told["function"] = {{"index", out.size()}, {"name", call.name}, {"arguments", *std::move(arguments)}};
    out.push_back(std::move(told));
  }
  return out;
}

json::object OllamaAnswer::line(Said said, bool done) const {
  json::object line{{"model", model_}, {"created_at", rfc3339(clock_.date())}};
  json::object message{{"role", "assistant"}};
  json::object& where = form_ == Form::kChat ? message : line;
  where[form_ == Form::kChat ? "content" : "response"] = said.content;
  if (!said.thinking.empty()) where["thinking"] = said.thinking;
  if (!said.calls.empty()) where["tool_calls"] = std::move(said.calls);
  if (form_ == Form::kChat) line["message"] = std::move(message);
  line["done"] = done;
  if (!said.probabilities.empty()) line["logprobs"] = std::move(said.probabilities);
  return line;
}

void OllamaAnswer::put_figures(json::object& line) const {
  const TimePoint now = clock_.now();
  const Duration total = now - asked_at_;
  const TimePoint first = first_at_.value_or(now);
  const Duration reading = reading_.value_or(first - asked_at_), writing = writing_.value_or(now - first);
  line["total_duration"] = nanoseconds(total);
  // All that was not the model's own work: the wait for it and its load.
  line["load_duration"] = nanoseconds(total - reading - writing);
  if (prompt_tokens_) line["prompt_eval_count"] = *prompt_tokens_;
  line["prompt_eval_duration"] = nanoseconds(reading);
  if (tokens_) line["eval_count"] = *tokens_;
  line["eval_duration"] = nanoseconds(writing);
}

Result<std::string> OllamaAnswer::last() {
  if (!events_) {
    take(whole_);
    if (error_) return fail(*error_);
    if (finish_.empty()) finish_ = "stop";
  }
  if (finish_.empty() && !done_) return fail(not_an_answer("it ends in the middle"));
  std::string told = std::exchange(told_, {});
  Said end = std::exchange(said_, {});
  end.calls = tool_calls();
  if (stream_ && !end.calls.empty()) {
    told += json_text(line(std::exchange(end, {}), false)) + "\n";
  }
  json::object line = this->line(std::move(end), true);
  line["done_reason"] = finish_ == "length" ? "length" : "stop";
  put_figures(line);
  told += json_text(line);
  if (stream_) told += "\n";
  return told;
}

std::string OllamaAnswer::sign_of_life() const {
  return stream_ ? json_text(line({}, false)) + "\n" : std::string();
}

OllamaEmbeddings::OllamaEmbeddings(std::string model, bool one, std::optional<std::size_t> dimensions,
                                   OllamaClock clock)
    : model_(std::move(model)),
      one_(one),
      dimensions_(dimensions),
      clock_(std::move(clock)),
      asked_at_(clock_.now()) {}

std::string_view OllamaEmbeddings::content_type() const {
  return kJson;
}

Result<std::string> OllamaEmbeddings::piece(std::string_view bytes) {
  whole_ += bytes;
  return std::string();
}

Result<std::string> OllamaEmbeddings::last() {
  const auto answer = object_of(std::exchange(whole_, {}));
  if (!answer) return fail(not_an_answer("it is no JSON object"));
  if (auto error = error_in(*answer)) return fail(*std::move(error));
  const json::value* data = answer->if_contains("data");
  if (data == nullptr || !data->is_array()) return fail(not_an_answer("it has no embeddings"));
  json::array vectors(data->get_array().size());
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    const json::object* row = data->get_array()[i].if_object();
    const json::value* vector = row == nullptr ? nullptr : row->if_contains("embedding");
    if (vector == nullptr || !vector->is_array()) return fail(not_an_answer("an embedding is no list"));
    const double index = number_in(*row, "index").value_or(static_cast<double>(i));
    if (!(index >= 0 && index < static_cast<double>(vectors.size())))
      return fail(not_an_answer("an embedding's index is none"));
    vectors[static_cast<std::size_t>(index)] = *vector;
  }
  if (dimensions_) {
    for (json::value& value : vectors) {
      if (!value.is_array() || value.get_array().size() <= *dimensions_) continue;
      json::array& vector = value.get_array();
      vector.resize(*dimensions_);
      double sum = 0;
      const auto number = [](const json::value& x) { return x.is_number() ? x.to_number<double>() : 0; };
      for (const json::value& x : vector) sum += number(x) * number(x);
      if (sum > 0) {
        for (json::value& x : vector) x = number(x) / std::sqrt(sum);
      }
    }
  }
  if (one_) {
    return json_text(json::object{{"embedding", vectors.empty() ? json::array() : vectors.front()}});
  }
  json::object told{{"model", model_},
                    {"embeddings", std::move(vectors)},
                    {"total_duration", nanoseconds(clock_.now() - asked_at_)},
                    {"load_duration", 0}};
  const json::object* usage = object_in(*answer, "usage");
  if (const auto tokens = usage == nullptr ? std::nullopt : number_in(*usage, "prompt_tokens"))
    told["prompt_eval_count"] = static_cast<std::int64_t>(*tokens);
  return json_text(told);
}

std::string ollama_stay(OllamaAnswer::Form form, std::string_view model, std::string_view done_reason,
                        std::chrono::system_clock::time_point at) {
  json::object told{{"model", model}, {"created_at", rfc3339(at)}};
  if (form == OllamaAnswer::Form::kChat) {
    told["message"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    told["response"] = "";
  }
  told["done"] = true;
  told["done_reason"] = done_reason;
  return json_text(told);
}

std::string_view OllamaLoaded::content_type() const {
  return kJson;
}

std::string_view OllamaLines::content_type() const {
  return stream_ ? kNdjson : kJson;
}

Result<std::string> OllamaLines::piece(std::string_view bytes) {
  if (stream_ && bytes.starts_with(':')) return std::string();
  constexpr std::string_view kEvent = "data: ";
  if (stream_ && bytes.starts_with(kEvent)) {
    const auto body = object_of(bytes.substr(kEvent.size()));
    auto error = body ? error_in(*body) : std::nullopt;
    return fail(error ? *std::move(error) : not_an_answer("an event among its lines"));
  }
  partial_ += bytes;
  if (!stream_) return std::string();
  const std::size_t end = partial_.rfind('\n');
  if (end == std::string::npos) return std::string();
  std::string whole = partial_.substr(0, end + 1);
  partial_.erase(0, end + 1);
  return whole;
}

Result<std::string> OllamaLines::last() {
  return std::exchange(partial_, {});
}

}  // namespace lm::api

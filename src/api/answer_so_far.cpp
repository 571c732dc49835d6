#include "api/answer_so_far.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace lm::api {
namespace {

namespace json = boost::json;

// So much is remembered unparsed, at most.
constexpr std::size_t kMostRaw = 64u << 10;

constexpr std::string_view kLimits[] = {"max_completion_tokens", "max_tokens", "n_predict"};

std::optional<json::object> object_of(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

json::object* object_in(json::object& object, std::string_view key) {
  auto* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

std::string_view text_in(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

double number_in(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return 0;
  return value->to_number<double>();
}

json::object* choice_of(json::object& chunk) {
  auto* choices = chunk.if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->as_array().empty()) return nullptr;
  return choices->as_array().front().if_object();
}

bool has_value(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && !value->is_null();
}

Result<std::string> not_continuable(std::string why) {
  return fail(ErrorCode::kFailedPrecondition, std::move(why), "not_continuable");
}

}  // namespace

AnswerSoFar::AnswerSoFar(Shape shape)
    : shape_(shape), parser_([this](const http::SseEvent& event) { take(event); }) {}

void AnswerSoFar::keep(std::string_view bytes) {
  raw_ += bytes;
  if (raw_.size() > kMostRaw) digest();
}

void AnswerSoFar::digest() {
  // An event that is too large for the parser came from our own engine: what it said is lost to us.
  std::ignore = parser_.feed(std::exchange(raw_, {}));
}

void AnswerSoFar::take(const http::SseEvent& event) {
  if (event.data == "[DONE]") {
    done_told_ = true;
    return;
  }
  auto chunk = object_of(event.data);
  if (!chunk) return;
  if (json::object* choice = choice_of(*chunk)) {
    json::object* delta = shape_ == Shape::kChat ? object_in(*choice, "delta") : choice;
    if (delta != nullptr) {
      const auto content = text_in(*delta, shape_ == Shape::kChat ? "content" : "text");
      const auto reasoning = text_in(*delta, "reasoning_content");
      content_ += content;
      reasoning_ += reasoning;
      if (!content.empty() || !reasoning.empty()) ++tokens_;
      role_told_ = role_told_ || has_value(*delta, "role");
    }
    finish_told_ = finish_told_ || has_value(*choice, "finish_reason");
  }
  if (first_.empty()) first_ = *std::move(chunk);
}

void AnswerSoFar::break_off(Duration generating) {
  digest();
  parser_.finish();
  generated_for_ += generating;
  given_ = std::max(given_, tokens_);
  left_.reset();
}

bool AnswerSoFar::empty() {
  return first_.empty();
}

bool AnswerSoFar::finished() {
  return finish_told_;
}

std::string AnswerSoFar::ending() const {
  return done_told_ ? std::string() : http::sse_event("[DONE]");
}

Result<std::string> AnswerSoFar::continued(std::string_view original, std::optional<int> most) {
  auto body = object_of(original);
  if (!body) return not_continuable("the request is no JSON object");
  if (!content_.empty() || !reasoning_.empty()) {
    if (shape_ == Shape::kCompletion) {
      auto* prompt = body->if_contains("prompt");
      if (prompt == nullptr || !prompt->is_string()) return not_continuable("its prompt is no text");
      prompt->as_string().append(content_);
    } else {
      auto* messages = body->if_contains("messages");
      if (messages == nullptr || !messages->is_array()) return not_continuable("it has no messages");
      json::array& list = messages->as_array();
      json::object* last = list.empty() ? nullptr : list.back().if_object();
      if (last != nullptr && text_in(*last, "role") == "assistant") {
        // The client has begun the answer itself.
        auto* begun = last->if_contains("content");
        if (begun == nullptr || !begun->is_string() || !reasoning_.empty())
          return not_continuable("the answer that it begins is no text");
        begun->as_string().append(content_);
      } else {
        json::object answer{{"role", "assistant"}, {"content", content_}};
        if (!reasoning_.empty()) answer["reasoning_content"] = reasoning_;
        list.push_back(std::move(answer));
      }
      (*body)["continue_final_message"] = true;
      (*body)["add_generation_prompt"] = false;
    }
  }
  bool limited = false;
  const auto lower = [&](std::int64_t allowed) {
    const std::int64_t left = allowed - given_;
    left_ = static_cast<int>(std::min<std::int64_t>(left_.value_or(left), left));
    limited = true;
    return std::max<std::int64_t>(left, 1);
  };
  for (const std::string_view key : kLimits) {
    auto* limit = body->if_contains(key);
    if (limit != nullptr && limit->is_int64() && limit->as_int64() >= 0) *limit = lower(limit->as_int64());
  }
  if (!limited && most && *most >= 0) (*body)["max_tokens"] = lower(*most);
  return json::serialize(*body);
}

void AnswerSoFar::measured(int original_prompt, int continued_prompt) {
  prompt_ = original_prompt;
  // Of plain text each token came as a piece; only characters of several tokens do not. What the model wrote
  // in other tokens than the tokenizer takes must not count otherwise.
  const auto is_plain = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::ranges::all_of(content_, is_plain) && std::ranges::all_of(reasoning_, is_plain)) return;
  given_ = std::max(given_, continued_prompt - original_prompt);
}

std::string AnswerSoFar::used_up_ending(std::string_view original) {
  json::object last = first_;
  if (json::object* choice = choice_of(last)) {
    if (shape_ == Shape::kChat) {
      (*choice)["delta"] = json::object();
    } else {
      (*choice)["text"] = "";
    }
    (*choice)["finish_reason"] = "length";
  }
  std::string out = http::sse_event(json::serialize(last));
  auto body = object_of(original);
  json::object* options = body ? object_in(*body, "stream_options") : nullptr;
  const auto* wanted = options == nullptr ? nullptr : options->if_contains("include_usage");
  if (wanted != nullptr && *wanted == true && prompt_) {
    last["choices"] = json::array();
    last["usage"] = {
        {"prompt_tokens", *prompt_}, {"completion_tokens", given_}, {"total_tokens", *prompt_ + given_}};
    out += http::sse_event(json::serialize(last));
  }
  return out + http::sse_event("[DONE]");
}

std::optional<int> input_tokens(std::string_view answer) {
  const auto object = object_of(answer);
  if (!object || !object->contains("input_tokens")) return std::nullopt;
  return static_cast<int>(number_in(*object, "input_tokens"));
}

std::string AnswerSoFar::rewrite(const http::SseEvent& event) {
  auto chunk = object_of(event.data);
  std::string out;
  if (!chunk || first_.empty()) {
    out = http::sse_event(event.data, event.event, event.id);
    keep(out);
    return out;
  }
  for (const char* key : {"id", "created"}) {
    if (chunk->contains(key) && first_.contains(key)) (*chunk)[key] = first_[key];
  }
  json::object* choice = choice_of(*chunk);
  if (json::object* delta = choice == nullptr ? nullptr : object_in(*choice, "delta");
      delta != nullptr && role_told_ && delta->contains("role")) {
    delta->erase("role");
    if (!has_value(*delta, "content")) delta->erase("content");
    if (delta->empty() && !has_value(*choice, "finish_reason")) return {};  // it only said who speaks
  }
  if (json::object* usage = object_in(*chunk, "usage")) {
    const int all = static_cast<int>(number_in(*usage, "total_tokens"));
    const int prompt = prompt_.value_or(static_cast<int>(number_in(*usage, "prompt_tokens")) - given_);
    (*usage)["prompt_tokens"] = prompt;
    (*usage)["completion_tokens"] = all - prompt;
    if (json::object* details = object_in(*usage, "prompt_tokens_details");
        details != nullptr && number_in(*details, "cached_tokens") > prompt)
      (*details)["cached_tokens"] = prompt;
  }
  if (json::object* timings = object_in(*chunk, "timings"); timings && timings->contains("predicted_n")) {
    const double tokens = number_in(*timings, "predicted_n") + given_;
    const double ms = number_in(*timings, "predicted_ms") + 1000 * lm::seconds(generated_for_);
    (*timings)["predicted_n"] = static_cast<std::int64_t>(tokens);
    (*timings)["predicted_ms"] = ms;
    if (tokens > 0) (*timings)["predicted_per_token_ms"] = ms / tokens;
    if (ms > 0) (*timings)["predicted_per_second"] = 1000 * tokens / ms;
  }
  out = http::sse_event(json::serialize(*chunk), event.event, event.id);
  keep(out);
  return out;
}

}  // namespace lm::api

#include "api/ollama_request.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace lm::api {
namespace {

namespace json = boost::json;

std::unexpected<Error> wrong(std::string message, std::string reason = "invalid_field") {
  return fail(ErrorCode::kInvalidArgument, std::move(message), std::move(reason));
}

// Go takes null for a member that is not there.
const json::value* member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Result<std::string> text_of(const json::object& object, std::string_view name) {
  const json::value* value = member(object, name);
  if (value == nullptr) return std::string();
  if (!value->is_string()) return wrong(fmt::format("\"{}\" must be a string", name));
  return std::string(value->as_string());
}

Result<bool> flag_of(const json::object& object, std::string_view name, bool otherwise) {
  const json::value* value = member(object, name);
  if (value == nullptr) return otherwise;
  if (!value->is_bool()) return wrong(fmt::format("\"{}\" must be true or false", name));
  return value->as_bool();
}

Result<const json::array*> list_of(const json::object& object, std::string_view name) {
  const json::value* value = member(object, name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) return wrong(fmt::format("\"{}\" must be a list", name));
  return &value->as_array();
}

bool some(const json::array* list) {
  return list != nullptr && !list->empty();
}

constexpr Duration kForEver = Duration(-1);

// Seconds; what is beyond a Duration is for ever, as any negative one is.
Duration from_seconds(double seconds) {
  constexpr double kMost = 1e9;  // some thirty years
  if (!(seconds >= 0) || seconds > kMost) return kForEver;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

Result<std::optional<Duration>> keep_alive_of(const json::object& body) {
  const json::value* value = member(body, "keep_alive");
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return from_seconds(value->to_number<double>());
  if (!value->is_string())
    return wrong("\"keep_alive\" must be a number of seconds or a duration like \"5m\"");
  LM_TRY(const Duration duration, parse_go_duration(std::string_view(value->as_string())));
  return duration < Duration() ? kForEver : duration;
}

// ---- options

struct Option {
  enum class Type : std::uint8_t { kFloat, kInt, kBool };
  std::string_view name;
  Type type;
  std::string_view ours;       // empty: nobody's
  std::string_view providers;  // what OpenAI calls it; empty: it does not know it
};

constexpr Option kOptions[] = {
    {"temperature", Option::Type::kFloat, "temperature", "temperature"},
    {"top_p", Option::Type::kFloat, "top_p", "top_p"},
    {"top_k", Option::Type::kInt, "top_k", ""},
    {"min_p", Option::Type::kFloat, "min_p", ""},
    {"typical_p", Option::Type::kFloat, "typical_p", ""},
    {"seed", Option::Type::kInt, "seed", "seed"},
    {"num_predict", Option::Type::kInt, "max_tokens", "max_tokens"},
    {"num_keep", Option::Type::kInt, "n_keep", ""},
    {"repeat_last_n", Option::Type::kInt, "repeat_last_n", ""},
    {"repeat_penalty", Option::Type::kFloat, "repeat_penalty", ""},
    {"presence_penalty", Option::Type::kFloat, "presence_penalty", "presence_penalty"},
    {"frequency_penalty", Option::Type::kFloat, "frequency_penalty", "frequency_penalty"},
    {"mirostat", Option::Type::kInt, "mirostat", ""},
    {"mirostat_tau", Option::Type::kFloat, "mirostat_tau", ""},
    {"mirostat_eta", Option::Type::kFloat, "mirostat_eta", ""},
    // How a model is loaded is its owner's word.
    {"num_ctx", Option::Type::kInt, "", ""},
    {"num_batch", Option::Type::kInt, "", ""},
    {"num_gpu", Option::Type::kInt, "", ""},
    {"main_gpu", Option::Type::kInt, "", ""},
    {"num_thread", Option::Type::kInt, "", ""},
    {"numa", Option::Type::kBool, "", ""},
    {"use_mmap", Option::Type::kBool, "", ""},
    {"use_mlock", Option::Type::kBool, "", ""},
    {"low_vram", Option::Type::kBool, "", ""},
    {"penalize_newline", Option::Type::kBool, "", ""},
    {"tfs_z", Option::Type::kFloat, "", ""},
};

Result<void> check_type(const Option& option, const json::value& value) {
  json::error_code inexact;
  if (option.type == Option::Type::kInt && value.is_number()) value.to_number<std::int64_t>(inexact);
  const bool good = option.type == Option::Type::kBool ? value.is_bool() : value.is_number() && !inexact;
  if (good) return {};
  constexpr std::array<std::string_view, 3> kNames = {"float32", "integer", "boolean"};
  return wrong(fmt::format("option \"{}\" must be of type {}", option.name,
                           kNames.at(static_cast<std::size_t>(option.type))));
}

Result<void> put_options(const json::object& body, Answerer answerer, json::object& out,
                         std::vector<std::string>& ignored) {
  const json::value* value = member(body, "options");
  if (value == nullptr) return {};
  if (!value->is_object()) return wrong("\"options\" must be an object");
  for (const auto& [name, given] : value->as_object()) {
    if (given.is_null()) continue;
    if (name == "stop") {
      if (given.is_string()) {
        out["stop"] = json::array{given};
      } else if (given.is_array() &&
                 std::ranges::all_of(given.as_array(), [](const json::value& v) { return v.is_string(); })) {
        if (!given.as_array().empty()) out["stop"] = given;
      } else {
        return wrong("option \"stop\" must be of type array of strings");
      }
      continue;
    }
    const auto option = std::ranges::find(kOptions, std::string_view(name), &Option::name);
    const std::string_view theirs = option == std::end(kOptions)    ? std::string_view()
                                    : answerer == Answerer::kWorker ? option->ours
                                                                    : option->providers;
    if (option != std::end(kOptions)) LM_TRY_VOID(check_type(*option, given));
    if (theirs.empty()) {
      ignored.emplace_back(name);
    } else if (name == "num_predict") {
      // 0, -1 and -2 are Ollama's words for "as long as it takes".
      if (given.to_number<double>() > 0) out[theirs] = given.to_number<std::int64_t>();
    } else if (option->type == Option::Type::kInt) {
      out[theirs] = given.to_number<std::int64_t>();
    } else {
      out[theirs] = given;
    }
  }
  return {};
}

// ---- messages

// By the first bytes, as base64 has them.
std::string_view type_of_picture(std::string_view base64) {
  if (base64.starts_with("iVBOR")) return "image/png";
  if (base64.starts_with("R0lGOD")) return "image/gif";
  if (base64.starts_with("UklGR")) return "image/webp";
  return "image/jpeg";
}

Result<json::array> parts_of(std::string_view text, const json::array& images) {
  json::array parts;
  if (!text.empty()) parts.push_back({{"type", "text"}, {"text", text}});
  for (const json::value& image : images) {
    if (!image.is_string()) return wrong("\"images\" must be a list of pictures in base64");
    const std::string_view bytes = image.get_string();
    std::string url = bytes.starts_with("data:")
                          ? std::string(bytes)
                          : fmt::format("data:{};base64,{}", type_of_picture(bytes), bytes);
    parts.push_back({{"type", "image_url"}, {"image_url", {{"url", url}}}});
  }
  return parts;
}

// Ollama's tool calls have no ids, or did not: results belong to the calls before them by name, else in
// order.
class ToolCalls {
 public:
  json::array made(const json::array& calls) {
    json::array out;
    for (const json::value& value : calls) {
      const json::object* call = value.if_object();
      const json::value* function = call == nullptr ? nullptr : member(*call, "function");
      if (function == nullptr || !function->is_object()) continue;
      const json::object& f = function->get_object();
      const json::value* given = member(*call, "id");
      std::string id = given != nullptr && given->is_string() && !given->get_string().empty()
                           ? std::string(given->get_string())
                           : fmt::format("call_{}", ++last_);
      const json::value* named = member(f, "name");
      const json::value name = named == nullptr ? json::value("") : *named;
      const json::value* arguments = member(f, "arguments");
      std::string text = arguments == nullptr     ? "{}"
                         : arguments->is_string() ? std::string(arguments->get_string())
                                                  : json::serialize(*arguments);
      open_.push_back({id, name.is_string() ? std::string(name.get_string()) : std::string()});
      out.push_back({{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", text}}}});
    }
    return out;
  }

  // Whose result it is.
  std::string answered(std::string_view id, std::string_view name) {
    auto it = std::ranges::find_if(open_, [&](const Call& call) { return !id.empty() && call.id == id; });
    if (it == open_.end() && id.empty() && !name.empty())
      it = std::ranges::find(open_, name, [](const Call& call) { return std::string_view(call.name); });
    if (it == open_.end() && id.empty() && name.empty()) it = open_.begin();
    if (it == open_.end()) return id.empty() ? fmt::format("call_{}", ++last_) : std::string(id);
    std::string found = std::move(it->id);
    open_.erase(it);
    return found;
  }

 private:
  struct Call {
    std::string id, name;
  };
  std::deque<Call> open_;
  int last_ = 0;
};

Result<json::array> messages_of(const json::array& messages) {
  json::array out;
  ToolCalls calls;
  for (const json::value& value : messages) {
    const json::object* message = value.if_object();
    if (message == nullptr) return wrong("\"messages\" must be a list of objects");
    LM_TRY(const std::string role, text_of(*message, "role"));
    LM_TRY(const std::string content, text_of(*message, "content"));
    LM_TRY(const std::string thinking, text_of(*message, "thinking"));
    LM_TRY(const auto images, list_of(*message, "images"));
    LM_TRY(const auto tool_calls, list_of(*message, "tool_calls"));
    if (role.empty()) return wrong("a message has no \"role\"");
    json::object told{{"role", role}};
    if (some(images)) {
      LM_TRY(told["content"], parts_of(content, *images));
    } else {
      told["content"] = content;
    }
    if (!thinking.empty()) told["reasoning_content"] = thinking;
    if (some(tool_calls)) told["tool_calls"] = calls.made(*tool_calls);
    if (role == "tool") {
      LM_TRY(const std::string id, text_of(*message, "tool_call_id"));
      LM_TRY(std::string name, text_of(*message, "tool_name"));
      if (name.empty()) {
        LM_TRY(name, text_of(*message, "name"));
      }
      told["tool_call_id"] = calls.answered(id, name);
      if (!name.empty()) told["name"] = name;
    }
    out.push_back(std::move(told));
  }
  return out;
}

// ---- what chat and generate share

Result<void> put_format(const json::object& body, json::object& out) {
  const json::value* format = member(body, "format");
  if (format == nullptr || (format->is_string() && format->get_string().empty())) return {};
  if (format->is_string() && format->get_string() == "json") {
    out["response_format"] = {{"type", "json_object"}};
  } else if (format->is_object()) {
    out["response_format"] = {{"type", "json_schema"},
                              {"json_schema", {{"name", "format"}, {"schema", *format}, {"strict", true}}}};
  } else {
    return wrong(
        fmt::format("invalid format: {}; expected \"json\" or a JSON schema", json::serialize(*format)));
  }
  return {};
}

Result<void> put_think(const json::object& body, Answerer answerer, json::object& out,
                       std::vector<std::string>& ignored) {
  const json::value* think = member(body, "think");
  if (think == nullptr) return {};
  if (think->is_bool()) {
    if (answerer == Answerer::kWorker) {
      out["chat_template_kwargs"] = {{"enable_thinking", think->get_bool()}};
    } else {
      ignored.emplace_back("think");
    }
    return {};
  }
  const auto is_level = [](std::string_view word) {
    return word == "low" || word == "medium" || word == "high";
  };
  if (!think->is_string() || !is_level(think->get_string()))
    return wrong(
        fmt::format("invalid think value: {} (must be \"high\", \"medium\", \"low\", true, or false)",
                    json::serialize(*think)));
  out["reasoning_effort"] = *think;
  return {};
}

void put_probabilities(const json::object& body, json::object& out) {
  for (const char* name : {"logprobs", "top_logprobs"}) {
    if (const json::value* value = member(body, name)) out[name] = *value;
  }
}

Result<OpenaiRequest> chat_to_openai(const json::object& body, json::object out, Answerer answerer) {
  OpenaiRequest request{.path = "/v1/chat/completions", .body = {}, .ignored = {}};
  LM_TRY(const auto messages, list_of(body, "messages"));
  LM_TRY(out["messages"], messages_of(messages == nullptr ? json::array() : *messages));
  LM_TRY(const auto tools, list_of(body, "tools"));
  if (some(tools)) out["tools"] = *tools;
  LM_TRY_VOID(put_format(body, out));
  LM_TRY_VOID(put_think(body, answerer, out, request.ignored));
  LM_TRY_VOID(put_options(body, answerer, out, request.ignored));
  put_probabilities(body, out);
  request.body = json::serialize(out);
  return request;
}

Result<OpenaiRequest> generate_to_openai(const json::object& body, json::object out, const std::string& model,
                                         Answerer answerer) {
  LM_TRY(const std::string prompt, text_of(body, "prompt"));
  LM_TRY(const std::string suffix, text_of(body, "suffix"));
  LM_TRY(const std::string system, text_of(body, "system"));
  LM_TRY(const std::string form, text_of(body, "template"));
  LM_TRY(const bool raw, flag_of(body, "raw", false));
  LM_TRY(const auto context, list_of(body, "context"));
  LM_TRY(const auto images, list_of(body, "images"));
  if (!suffix.empty()) return wrong(fmt::format("\"{}\" does not support insert", model), "unsupported");
  if (raw && (!form.empty() || !system.empty() || some(context)))
    return wrong("raw mode does not support template, system, or context");
  if (!form.empty())
    return wrong(
        "\"template\" is not supported: the model's own is used; \"raw\": true takes a prompt as it is",
        "unsupported");
  if (some(context))
    return wrong("\"context\" is not supported: send the conversation to /api/chat", "unsupported");
  if (raw && some(images)) return wrong("raw mode does not support images");
  OpenaiRequest request{.path = raw ? "/v1/completions" : "/v1/chat/completions", .body = {}, .ignored = {}};
  if (raw) {
    out["prompt"] = prompt;
  } else {
    json::array messages;
    if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
    json::object question{{"role", "user"}, {"content", prompt}};
    if (some(images)) {
      LM_TRY(question["content"], parts_of(prompt, *images));
    }
    messages.push_back(std::move(question));
    out["messages"] = std::move(messages);
    LM_TRY_VOID(put_think(body, answerer, out, request.ignored));
    put_probabilities(body, out);
  }
  LM_TRY_VOID(put_format(body, out));
  LM_TRY_VOID(put_options(body, answerer, out, request.ignored));
  for (const char* picture : {"width", "height", "steps"}) {
    if (member(body, picture) != nullptr) request.ignored.emplace_back(picture);
  }
  request.body = json::serialize(out);
  return request;
}

Result<OpenaiRequest> embed_to_openai(const json::object& body, json::object out, OllamaCall call) {
  OpenaiRequest request{.path = "/v1/embeddings", .body = {}, .ignored = {}};
  if (call == OllamaCall::kEmbeddings) {
    LM_TRY(out["input"], text_of(body, "prompt"));
  } else {
    const json::value* input = member(body, "input");
    const bool good =
        input != nullptr &&
        (input->is_string() ||
         (input->is_array() &&
          std::ranges::all_of(input->get_array(), [](const json::value& v) { return v.is_string(); })));
    if (!good) return wrong("\"input\" must be a string or a list of strings");
    out["input"] = *input;
    if (member(body, "truncate") != nullptr) request.ignored.emplace_back("truncate");
  }
  json::object options;  // none of them changes an embedding
  LM_TRY_VOID(put_options(body, Answerer::kProvider, options, request.ignored));
  for (const auto& [name, value] : options) request.ignored.emplace_back(name);
  request.body = json::serialize(out);
  return request;
}

}  // namespace

std::string_view path_of(OllamaCall call) {
  constexpr std::array<std::string_view, 4> kPaths = {"/api/chat", "/api/generate", "/api/embed",
                                                      "/api/embeddings"};
  return kPaths.at(static_cast<std::size_t>(call));
}

Result<Duration> parse_go_duration(std::string_view text) {
  const auto invalid = [&] { return wrong(fmt::format("time: invalid duration \"{}\"", text)); };
  std::string_view rest = text;
  bool negative = false;
  if (!rest.empty() && (rest.front() == '-' || rest.front() == '+')) {
    negative = rest.front() == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return Duration();
  if (rest.empty()) return invalid();
  double seconds = 0;
  while (!rest.empty()) {
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789."), rest.size());
    double number = 0;
    const char* const begin = rest.data();
    const auto [end, error] = std::from_chars(begin, begin + digits, number, std::chars_format::fixed);
    if (digits == 0 || error != std::errc() || end != begin + digits) return invalid();
    rest.remove_prefix(digits);
    const std::size_t letters = std::min(rest.find_first_of("0123456789."), rest.size());
    const std::string_view unit = rest.substr(0, letters);
    struct Unit {
      std::string_view name;
      double seconds;
    };
    // Both of the signs that stand for micro.
    static constexpr Unit kUnits[] = {{"ns", 1e-9}, {"us", 1e-6}, {"\u00b5s", 1e-6}, {"\u03bcs", 1e-6},
                                      {"ms", 1e-3}, {"s", 1},     {"m", 60},         {"h", 3600}};
    const auto known = std::ranges::find(kUnits, unit, &Unit::name);
    if (unit.empty()) return wrong(fmt::format("time: missing unit in duration \"{}\"", text));
    if (known == std::end(kUnits))
      return wrong(fmt::format("time: unknown unit \"{}\" in duration \"{}\"", unit, text));
    seconds += number * known->seconds;
    rest.remove_prefix(letters);
  }
  return negative && seconds > 0 ? kForEver : from_seconds(seconds);
}

Result<OllamaRequest> read_ollama(const json::object& body, OllamaCall call) {
  OllamaRequest request;
  LM_TRY(request.model, text_of(body, "model"));
  if (request.model.empty()) return wrong("model is required", "missing_field");
  LM_TRY(request.keep_alive, keep_alive_of(body));
  const bool answers_in_words = call == OllamaCall::kChat || call == OllamaCall::kGenerate;
  LM_TRY(const bool stream, flag_of(body, "stream", true));
  request.stream = answers_in_words && stream;
  switch (call) {
    case OllamaCall::kChat: {
      LM_TRY(const auto messages, list_of(body, "messages"));
      request.asks = some(messages);
      if (!request.asks) break;
      request.shows = std::ranges::any_of(*messages, [](const json::value& value) {
        const json::object* message = value.if_object();
        const json::value* images = message == nullptr ? nullptr : member(*message, "images");
        return images != nullptr && images->is_array() && !images->get_array().empty();
      });
      break;
    }
    case OllamaCall::kGenerate: {
      LM_TRY(const std::string prompt, text_of(body, "prompt"));
      LM_TRY(const auto images, list_of(body, "images"));
      request.shows = some(images);
      request.asks = !prompt.empty() || request.shows;
      break;
    }
    case OllamaCall::kEmbed: {
      const json::value* input = member(body, "input");
      request.asks = input != nullptr && !(input->is_array() && input->get_array().empty()) &&
                     !(input->is_string() && input->get_string().empty());
      break;
    }
    case OllamaCall::kEmbeddings: {
      LM_TRY(const std::string prompt, text_of(body, "prompt"));
      request.asks = !prompt.empty();
      break;
    }
  }
  return request;
}

Result<OpenaiRequest> to_openai(const json::object& body, OllamaCall call, const std::string& model,
                                Answerer answerer) {
  json::object out{{"model", model}};
  if (call == OllamaCall::kEmbed || call == OllamaCall::kEmbeddings)
    return embed_to_openai(body, std::move(out), call);
  out["stream"] = true;
  out["stream_options"] = {{"include_usage", true}};
  return call == OllamaCall::kChat ? chat_to_openai(body, std::move(out), answerer)
                                   : generate_to_openai(body, std::move(out), model, answerer);
}

}  // namespace lm::api

// chat: a conversation, or one question.
#include <optional>
#include <string>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/clock.h"
#include "cli/chat_stream.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/line_editor.h"
#include "cli/span_text.h"
#include "config/utf8.h"
#include "http/target.h"

namespace lm::cli {
namespace {

constexpr std::string_view kDefaultModel = "chat";
constexpr double kWaitBeforeSayingSo = 0.5;

constexpr std::string_view kChatHelp =
    "  /clear          forget the conversation (the model stays)\n"
    "  /model NAME     go on with another model\n"
    "  /exit           leave; Ctrl-D does the same\n"
    "  Ctrl-C          stop the answer\n";

// One conversation: what was said so far, and with whom.
class Conversation {
 public:
  Conversation(Context& context, Daemon& daemon, const ChatOptions& options)
      : context_(context),
        daemon_(daemon),
        options_(options),
        model_(options.model.empty() ? std::string(kDefaultModel) : options.model) {
    clear();
  }

  const std::string& model() const { return model_; }
  void use(std::string model) { model_ = std::move(model); }
  void clear() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({{"role", "system"}, {"content", options_.system}});
  }

  // Whether the daemon knows the model: better before the first question than after it.
  Outcome<void> check(const std::string& model) const {
    const auto found = daemon_.get("/v1/models/" + http::percent_encode(model), Patience::kQuick);
    if (!found) return std::unexpected(found.error());
    return {};
  }

  // Asks, and shows the answer as it comes. Where there is none, the question is forgotten too.
  ExitCode ask(const std::string& question) {
    if (!config::is_utf8(question)) {
      return context_.report(
          Error{.code = ErrorCode::kInvalidArgument,
                .message = "the question is not UTF-8, which is all that the daemon is told",
                .reason = "usage",
                .fields = {},
                .retry_after = {}});
    }
    messages_.push_back({{"role", "user"}, {"content", question}});
    answer_.clear();
    in_reasoning_ = false;
    finish_.clear();
    std::optional<Failure> failed;
    const TimePoint began = clock_.now();
    waiting_ = true;

    const auto outcome = daemon_.stream(event_request("/v1/chat/completions", request()),
                                        {.on_event =
                                             [&](const http::SseEvent& event) {
                                               stop_waiting();
                                               const ChatPiece piece = parse_chat_piece(event.data);
                                               if (piece.is_end) return false;
                                               if (piece.is_error) {
                                                 failed = failure_of_answer(0, event.data, daemon_.address());
                                                 return false;
                                               }
                                               show(piece, event.data);
                                               return true;
                                             },
                                         .on_tick = [&] { still_waiting(seconds(clock_.now() - began)); }});
    stop_waiting();
    end_line();
    if (!outcome && outcome.error().code == ExitCode::kInterrupted) {
      keep_answer();
      if (!context_.json) context_.err().line(coloured(context_.err(), Colour::kDim, "(stopped)"));
      return ExitCode::kInterrupted;
    }
    if (!outcome) failed = outcome.error();
    if (failed) {
      messages_.pop_back();
      return context_.report(*failed);
    }
    if (finish_ == "length") {
      context_.err().line(
          coloured(context_.err(), Colour::kDim, "(the answer ends here because its limit was reached)"));
    }
    keep_answer();
    return ExitCode::kOk;
  }

 private:
  boost::json::object request() const {
    boost::json::object body{{"model", model_}, {"messages", messages_}, {"stream", true}};
    if (options_.temperature) body["temperature"] = *options_.temperature;
    return body;
  }

  void show(const ChatPiece& piece, const std::string& data) {
    if (!piece.finish.empty()) finish_ = piece.finish;
    answer_ += piece.text;
    if (context_.json) {
      context_.out().line(data);
      return;
    }
    // Thoughts are for people who watch, never part of an answer that goes into a file.
    if (!piece.reasoning.empty() && context_.out().is_terminal) {
      in_reasoning_ = true;
      write(coloured(context_.out(), Colour::kDim, printable(piece.reasoning)));
    }
    if (piece.text.empty()) return;
    if (in_reasoning_) {
      end_line();
      in_reasoning_ = false;
    }
    write(printable(piece.text));
  }

  void write(std::string text) {
    context_.out().write(text);
    if (text.ends_with("\x1b[0m")) text.resize(text.size() - 4);
    at_line_start_ = text.ends_with('\n');
  }
  void end_line() {
    if (!at_line_start_ && !context_.json) context_.out().write("\n");
    at_line_start_ = true;
  }

  void still_waiting(double passed) {
    if (!waiting_ || passed < kWaitBeforeSayingSo || !context_.err().can_redraw) return;
    const std::string text = fmt::format("waiting for {}  {}", printable(model_), span_text(passed));
    context_.err().write(
        "\r" + coloured(context_.err(), Colour::kDim, fit(text, context_.err().columns() - 1)) + "\x1b[K");
    drawn_ = true;
  }
  void stop_waiting() {
    waiting_ = false;
    if (drawn_) context_.err().write("\r\x1b[K");
    drawn_ = false;
  }

  // Half an answer is what the person has read, so it is what the model has said.
  void keep_answer() {
    if (answer_.empty())
      messages_.pop_back();
    else
      messages_.push_back({{"role", "assistant"}, {"content", answer_}});
  }

  Context& context_;
  Daemon& daemon_;
  const ChatOptions& options_;
  const SteadyClock clock_;
  std::string model_;
  boost::json::array messages_;
  std::string answer_;
  std::string finish_;
  bool in_reasoning_ = false;
  bool at_line_start_ = true;
  bool waiting_ = false;
  bool drawn_ = false;
};

// True where the line was a command of the conversation and not a question. Sets `leaves` for /exit.
bool take_command(Context& context, Conversation& conversation, const std::string& line, bool& leaves) {
  if (!line.starts_with('/')) return false;
  const std::size_t space = line.find(' ');
  const std::string word = line.substr(0, space);
  std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
  while (rest.ends_with(' ')) rest.pop_back();
  if (word == "/exit" || word == "/quit" || word == "/bye") {
    leaves = true;
  } else if (word == "/clear") {
    conversation.clear();
    context.err().line("the conversation is forgotten");
  } else if (word == "/model") {
    if (rest.empty()) {
      context.err().line(
          fmt::format("the model is {}; /model NAME changes it", printable(conversation.model())));
    } else if (const auto known = conversation.check(rest); !known) {
      context.report(known.error());
    } else {
      conversation.use(rest);
      context.err().line(fmt::format("now talking to {}", printable(rest)));
    }
  } else if (word == "/help" || word == "/?") {
    context.err().write(kChatHelp);
  } else {
    context.err().line(printable(fmt::format("{} is no command here; /help lists them", word)));
  }
  return true;
}

// The daemon knows it not, and nothing that is called nearly so.
bool names_no_model(Daemon& daemon, const std::string& word) {
  const auto found = daemon.get("/v1/models/" + http::percent_encode(word), Patience::kQuick);
  if (found || found.error().code != ExitCode::kNotFound) return false;
  const auto answer = parse_json(found.error().json);
  const auto* error = answer ? member_of(*answer, "error") : nullptr;
  const auto* details = error == nullptr ? nullptr : object_of(*error, "details");
  return details == nullptr || !details->contains("nearest");
}

ExitCode converse(Context& context, Conversation& conversation) {
  if (const auto known = conversation.check(conversation.model()); !known)
    return context.report(known.error());
  const Stream& screen = context.out().is_terminal ? context.out() : context.err();
  LineInput input(context.host.input, screen, context.interrupts);
  context.err().line(coloured(
      context.err(), Colour::kDim,
      printable(fmt::format("talking to {}; /help tells the keys, Ctrl-D leaves", conversation.model()))));
  bool wants_to_leave = false;
  for (bool leaves = false; !leaves;) {
    std::string line;
    switch (input.read(">>> ", line)) {
      case LineInput::Result::kEnd:
        return ExitCode::kOk;
      case LineInput::Result::kInterrupted:
        if (wants_to_leave) return ExitCode::kOk;
        wants_to_leave = true;
        context.err().line("Ctrl-C again leaves; so do Ctrl-D and /exit");
        continue;
      case LineInput::Result::kLine:
        break;
    }
    wants_to_leave = false;
    if (line.find_first_not_of(" \t\r\n") == std::string::npos) continue;
    if (take_command(context, conversation, line, leaves)) continue;
    // What went wrong was said; the conversation goes on.
    conversation.ask(line);
  }
  return ExitCode::kOk;
}

}  // namespace

ExitCode run(Context& context, const ChatOptions& given) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  ChatOptions options = given;
  // "llm-manager chat hi": a single word that names no model, nor nearly, is the question.
  if (options.model_is_first_word && options.prompt.empty() && !options.reads_input &&
      context.host.input_is_terminal && names_no_model(*daemon, options.model)) {
    context.err().line(coloured(context.err(), Colour::kDim,
                                printable(fmt::format("no model is called {}: it is the question, to the "
                                                      "default model",
                                                      options.model))));
    options.prompt = std::exchange(options.model, {});
  }
  Conversation conversation(context, *daemon, options);
  std::string question = options.prompt;
  const bool is_piped = question.empty() && !context.host.input_is_terminal;
  if (options.reads_input || is_piped) {
    if (!question.empty()) question += "\n\n";
    const auto input = context.host.read_input(context.interrupts);
    if (!input) return context.report(interrupted());
    question += *input;
    // The end of the last line is the terminal's, not the question's: a small model answers otherwise for it.
    while (question.ends_with('\n') || question.ends_with('\r')) question.pop_back();
    if (question.find_first_not_of(" \t\r\n") == std::string::npos) {
      return context.report(Error{.code = ErrorCode::kInvalidArgument,
                                  .message = "there is no question: standard input is empty",
                                  .reason = "usage",
                                  .fields = {},
                                  .retry_after = {}});
    }
  }
  if (!question.empty()) return conversation.ask(question);
  if (context.json) {
    return context.report(Error{.code = ErrorCode::kInvalidArgument,
                                .message = "--json needs a question: as words, or on standard input",
                                .reason = "usage",
                                .fields = {},
                                .retry_after = {}});
  }
  return converse(context, conversation);
}

}  // namespace lm::cli

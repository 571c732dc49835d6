// conversations: those that the daemon keeps.
#include <string>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/span_text.h"
#include "cli/table.h"
#include "http/target.h"

namespace lm::cli {
namespace {

constexpr std::string_view kPath = "/api/v1/conversations";

std::string target_of(std::string_view id) {
  return fmt::format("{}/{}", kPath, http::percent_encode(id));
}

std::string moment_of(const boost::json::value& from, std::string_view key, std::int64_t now_ms) {
  return moment_text(static_cast<std::int64_t>(number_of(from, key).value_or(0)), now_ms);
}

std::string table_of(const boost::json::value& answer, const Stream& stream, std::int64_t now_ms) {
  const auto* all = array_of(answer, "conversations");
  if (all == nullptr || all->empty()) {
    return "no conversation is kept here: a chat request with the header X-Conversation: ID is "
           "(docs/history.md)\n";
  }
  Table table({{.title = "CONVERSATION"},
               {.title = "TITLE", .shrinks = true},
               {.title = "USER", .shrinks = true, .give_up = 1},
               {.title = "CHANNEL", .shrinks = true, .give_up = 2},
               {.title = "MESSAGES", .right = true, .give_up = 3},
               {.title = "CHANGED", .give_up = 4}});
  for (const auto& one : *all) {
    const auto* match = member_of(one, "match");
    // What was found says more than what it is called.
    const std::string_view found = match == nullptr ? std::string_view() : text_of(*match, "text");
    table.add({{.text = printable(text_of(one, "id"))},
               {.text = printable(found.empty() ? text_of(one, "title") : found)},
               {.text = printable(text_of(one, "user"))},
               {.text = printable(text_of(one, "channel"))},
               {.text = fmt::format("{:.0f}", number_of(one, "message_count").value_or(0))},
               {.text = moment_of(one, "updated_ms", now_ms)}});
  }
  std::string out = table.text(stream);
  if (!text_of(answer, "next").empty()) out += "there are more: -n shows up to 200\n";
  return out;
}

std::string talk_of(const boost::json::value& conversation, const Stream& stream, std::int64_t now_ms) {
  const std::string title = printable(text_of(conversation, "title"));
  std::string out = coloured(stream, Colour::kBold, title.empty() ? "(no title)" : title) + "\n";
  const auto* messages = array_of(conversation, "messages");
  if (messages == nullptr || messages->empty()) return out + "nothing was said in it\n";
  for (const auto& message : *messages) {
    const bool answer = text_of(message, "role") == "assistant";
    const std::string who = printable(answer ? text_of(message, "model") : text_of(message, "role"));
    out += fmt::format("\n{} {}{}\n{}\n", coloured(stream, answer ? Colour::kGreen : Colour::kBlue, who),
                       coloured(stream, Colour::kDim, moment_of(message, "at_ms", now_ms)),
                       flag_of(message, "complete") ? "" : coloured(stream, Colour::kYellow, " broken off"),
                       printable(text_of(message, "content")));
  }
  return out;
}

}  // namespace

ExitCode run(Context& context, const ConversationsOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  std::string target = fmt::format("{}?limit={}", kPath, options.limit);
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!value.empty()) target += fmt::format("&{}={}", name, http::percent_encode(value));
  };
  add("user", options.user);
  add("channel", options.channel);
  add("q", options.search);
  return print_answer(context, *daemon, daemon->get(target), [&](const auto& value) {
    return table_of(value, context.out(), context.host.now_ms());
  });
}

ExitCode run(Context& context, const ConversationShowOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  return print_answer(
      context, *daemon, daemon->get(target_of(options.id) + "/export"),
      [&](const auto& value) { return talk_of(value, context.out(), context.host.now_ms()); });
}

ExitCode run(Context& context, const ConversationExportOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  const bool json = context.json || options.format == "json";
  const auto text =
      daemon->get(fmt::format("{}/export?format={}", target_of(options.id), json ? "json" : "md"));
  if (!text) return context.report(text.error());
  if (json) {
    print_json(context, *text);
  } else {
    context.out().write(context.out().is_terminal ? printable(*text) : *text);
  }
  return ExitCode::kOk;
}

ExitCode run(Context& context, const ConversationRemoveOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  for (const std::string& id : options.ids) {
    const ExitCode code = print_answer(context, *daemon, daemon->remove(target_of(id)), [&](const auto&) {
      return fmt::format("{} is removed\n", printable(id));
    });
    if (code != ExitCode::kOk) return code;
  }
  return ExitCode::kOk;
}

ExitCode run(Context& context, const ConversationRenameOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  return print_answer(context, *daemon, daemon->patch(target_of(options.id), {{"title", options.title}}),
                      [](const auto& value) {
                        return fmt::format("{} is called {} now\n", printable(text_of(value, "id")),
                                           printable(text_of(value, "title")));
                      });
}

}  // namespace lm::cli

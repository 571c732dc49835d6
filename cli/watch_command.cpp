// explain, events: what the daemon has decided, and what happens.
#include <string>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/event_text.h"
#include "cli/json_view.h"
#include "cli/span_text.h"
#include "cli/top_frame.h"
#include "http/target.h"

namespace lm::cli {
ExitCode run(Context& context, const ExplainOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  std::string target = fmt::format("/api/v1/explain?limit={}", options.limit);
  if (!options.model.empty()) target += "&model=" + http::percent_encode(options.model);
  const auto answer = daemon->get(target);
  return print_answer(context, *daemon, answer, [&](const boost::json::value& value) {
    const auto* decisions = array_of(value, "decisions");
    if (decisions == nullptr || decisions->empty()) {
      return options.model.empty()
                 ? std::string("nothing has been decided yet\n")
                 : fmt::format("nothing has been decided about {} yet\n", printable(options.model));
    }
    std::string text;
    for (const auto& decision : *decisions)
      text += decision_line(decision, context.host.now_ms(), context.out());
    return text;
  });
}

ExitCode run(Context& context, const EventsOptions&) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  const auto outcome = daemon->stream(
      {.method = http::Method::kGet,
       .target = "/api/v1/events",
       .headers = {{"Accept", "text/event-stream"}},
       .body = {}},
      {.on_event =
           [&](const http::SseEvent& event) {
             if (context.json) {
               // The datum stays as it came; what else an event has stands around it.
               context.out().line(fmt::format(R"({{"id":{},"event":{},"data":{}}})",
                                              boost::json::serialize(boost::json::string(event.id)),
                                              boost::json::serialize(boost::json::string(event.event)),
                                              event.data));
               return true;
             }
             const auto value = parse_json(event.data);
             const std::string text = value ? event_text(event.event, *value) : printable(event.data);
             const auto at = value ? number_of(*value, "at_ms") : std::nullopt;
             const std::int64_t now = context.host.now_ms();
             context.out().line(fmt::format(
                 "{}  {}  {}",
                 coloured(context.out(), Colour::kDim,
                          moment_text(at ? static_cast<std::int64_t>(*at) : now, now)),
                 coloured(context.out(), Colour::kBold, pad_right(printable(event.event), 8)), text));
             return true;
           },
       .on_tick = {}});
  // Ctrl-C is how it ends, and no event.
  if (!outcome && outcome.error().code == ExitCode::kInterrupted) return ExitCode::kInterrupted;
  if (!outcome) return context.report(outcome.error());
  // It never ends by itself.
  return context.report(connection_lost(*daemon));
}

}  // namespace lm::cli

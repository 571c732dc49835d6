// pull, pulls, rm, and the child that a pull runs in.
#include <iostream>
#include <string>
#include <sys/prctl.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/pull_text.h"
#include "hub/pull.h"

namespace lm::cli {
namespace {

// One line redrawn on a terminal, one line a stage elsewhere.
class PullDisplay {
 public:
  explicit PullDisplay(const Stream& stream) : stream_(&stream) {}
  ~PullDisplay() {
    if (drawn_) stream_->write("\r\x1b[K");
  }
  PullDisplay(const PullDisplay&) = delete;
  PullDisplay& operator=(const PullDisplay&) = delete;

  void show(const boost::json::value& pull) {
    if (const std::string note = printable(text_of(pull, "note")); !note.empty() && note != note_) {
      if (drawn_) stream_->write("\r\x1b[K");
      stream_->line(note);
      note_ = note;
    }
    if (stream_->can_redraw) {
      // One column less: some terminals wrap when the last one is written.
      stream_->write("\r" + pull_line(pull, stream_->columns() - 1) + "\x1b[K");
      drawn_ = true;
      return;
    }
    const std::string stage = pull_stage(pull);
    if (stage == stage_) return;
    stage_ = stage;
    stream_->line(fmt::format("{}: {}", printable(text_of(pull, "source")), stage));
  }

 private:
  const Stream* stream_;
  std::string note_, stage_;
  bool drawn_ = false;
};

std::string change_target(std::uint64_t id, std::string_view change) {
  return fmt::format("/api/v1/pulls/{}/{}", id, change);
}

// What has come stays, and the same command goes on with it: what people know from others' pull commands.
ExitCode pause_after_interrupt(Context& context, Daemon& daemon, std::uint64_t id) {
  const auto answer = daemon.post(change_target(id, "pause"), {});
  if (!answer) return context.report(answer.error());
  const auto value = parse_json(*answer);
  if (value) context.err().write(pull_end_text(*value));
  return ExitCode::kInterrupted;
}

}  // namespace

ExitCode run(Context& context, const PullOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  if (options.detach) {
    return print_answer(context, *daemon,
                        daemon->post("/api/v1/pull", {{"source", options.source}, {"wait", false}}),
                        [](const auto& value) { return pull_end_text(value); });
  }
  std::string done;
  std::optional<Failure> failed;
  std::uint64_t id = 0;
  Outcome<void> outcome;
  {
    PullDisplay display(context.err());
    outcome = daemon->stream(
        event_request("/api/v1/pull", {{"source", options.source}, {"stream", true}}),
        {.on_event =
             [&](const http::SseEvent& event) {
               const auto value = parse_json(event.data);
               if (event.event == "error" || (value && event.event != "progress" && event.event != "done" &&
                                              object_of(*value, "error") != nullptr)) {
                 failed = failure_of_answer(0, event.data, daemon->address());
                 return false;
               }
               if (value) id = static_cast<std::uint64_t>(number_of(*value, "id").value_or(0));
               if (event.event == "progress") {
                 if (value) display.show(*value);
                 return true;
               }
               done = event.data;
               return false;
             },
         .on_tick = {}});
  }
  if (!outcome) {
    if (outcome.error().code == ExitCode::kInterrupted && id != 0)
      return pause_after_interrupt(context, *daemon, id);
    return context.report(outcome.error());
  }
  if (failed) return context.report(*failed);
  if (done.empty()) {
    return context.report(connection_lost(*daemon));
  }
  const auto value = parse_json(done);
  const ExitCode printed =
      print_answer(context, *daemon, done, [](const auto& pull) { return pull_end_text(pull); });
  // Somebody else has paused or cancelled it: the model is not here.
  const bool here = value && text_of(*value, "state") == "done";
  return printed == ExitCode::kOk && !here ? ExitCode::kFailed : printed;
}

ExitCode run(Context& context, const PullsOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  if (options.change.empty()) {
    return print_answer(context, *daemon, daemon->get("/api/v1/pulls"),
                        [&](const auto& value) { return pull_table(value, context.out()); });
  }
  return print_answer(context, *daemon, daemon->post(change_target(options.id, options.change), {}),
                      [](const auto& value) { return pull_end_text(value); });
}

ExitCode run(Context& context, const RemoveOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  return print_answer(
      context, *daemon,
      daemon->post("/api/v1/models/remove", {{"model", options.model}, {"force", options.force}}),
      [](const boost::json::value& value) {
        std::string out =
            fmt::format("{} is removed: {} freed on the disk\n", printable(text_of(value, "model")),
                        to_string(bytes_of(value, "bytes")));
        for (const std::string_view key : {"files", "kept"}) {
          const auto* files = array_of(value, key);
          if (files == nullptr) continue;
          for (const auto& file : *files) {
            if (file.is_string())
              out += fmt::format("  {}{}\n", printable(std::string_view(file.get_string())),
                                 key == "kept" ? " stays: another model uses it" : "");
          }
        }
        return out;
      });
}

ExitCode run(Context&, const PullChildOptions& options) {
  // Started through /proc/self/exe it would be called "exe".
  ::prctl(PR_SET_NAME, "llm-pull");
  hub::PullOrder order{.source = {}, .folder = options.folder, .key = options.key};
  // Not among the arguments, which everybody on the machine may read.
  if (!options.discard) std::getline(std::cin, order.source);
  return static_cast<ExitCode>(options.discard ? hub::discard_child(order) : hub::pull_child(order));
}

}  // namespace lm::cli

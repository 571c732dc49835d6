// top: the machine as it is, drawn again every moment.
#include <limits>
#include <optional>
#include <poll.h>
#include <string>
#include <utility>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/time.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/live_screen.h"
#include "cli/top_frame.h"

namespace lm::cli {
namespace {

constexpr int kDecisions = 50;
constexpr int kNoScreen = std::numeric_limits<int>::max();  // rows where nothing is cut

Outcome<boost::json::value> asked(Daemon& daemon, const std::string& target) {
  auto answer = daemon.get(target, Patience::kQuick);
  if (!answer) return std::unexpected(std::move(answer).error());
  auto value = parse_json(*answer);
  return value ? *std::move(value) : boost::json::value();
}

Outcome<TopAnswers> look(Daemon& daemon) {
  TopAnswers answers;
  const std::pair<std::string, boost::json::value*> wanted[] = {
      {"/health", &answers.health},
      {"/api/v1/devices", &answers.devices},
      {"/api/v1/models", &answers.models},
      {fmt::format("/api/v1/explain?limit={}", kDecisions), &answers.decisions}};
  for (const auto& [target, into] : wanted) {
    auto value = asked(daemon, target);
    if (!value) return std::unexpected(std::move(value).error());
    *into = *std::move(value);
  }
  return answers;
}

std::string as_json(TopAnswers answers) {
  return boost::json::serialize(boost::json::object{{"health", std::move(answers.health)},
                                                    {"devices", std::move(answers.devices)},
                                                    {"models", std::move(answers.models)},
                                                    {"decisions", std::move(answers.decisions)}});
}

// Waits where there is no screen; false after Ctrl-C.
bool rest(const Context& context, int milliseconds) {
  if (context.interrupts == nullptr) return ::poll(nullptr, 0, milliseconds) == 0;
  context.interrupts->wait_readable(-1, milliseconds);
  return !context.interrupts->take();
}

}  // namespace

ExitCode run(Context& context, const TopOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  const auto pause = static_cast<int>(options.interval_s * 1000);
  const bool draws = !context.json && context.out().can_redraw && context.host.input_is_terminal;
  // What cannot be drawn over is one frame, unless somebody wants so many.
  const int times = options.times > 0 ? options.times : draws || context.json ? 0 : 1;

  std::optional<LiveScreen> screen;
  for (int frame = 1;; ++frame) {
    auto answers = look(*daemon);
    if (!answers && (!screen || answers.error().code == ExitCode::kInterrupted)) {
      screen.reset();
      return answers.error().code == ExitCode::kInterrupted ? ExitCode::kInterrupted
                                                            : context.report(answers.error());
    }
    if (draws && !screen) screen.emplace(context.out(), context.host.input, context.interrupts);
    if (!answers) {
      // A daemon that is started again is seen again.
      screen->show(fit(printable(answers.error().message), context.out().columns()) + "\n");
    } else if (context.json) {
      context.out().line(as_json(*std::move(answers)));
    } else {
      const std::string text = top_frame(*answers, daemon->address(), context.host.now_ms(), context.out(),
                                         screen ? screen->rows() : kNoScreen);
      if (screen)
        screen->show(text);
      else
        context.out().write(text);
    }
    if (frame == times) return ExitCode::kOk;
    if (screen ? !screen->rest(pause) : !rest(context, pause))
      return screen ? ExitCode::kOk : ExitCode::kInterrupted;
  }
}

}  // namespace lm::cli

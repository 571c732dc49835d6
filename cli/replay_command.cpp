// replay: for whoever reads a bug report. One line an event, and below it the commands that followed.
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/display_width.h"

namespace lm::cli {

ExitCode run(Context& context, const ReplayOptions& options) {
  const auto replayed = context.host.replay(options.recording, [&](const Host::ReplayedLine& line) {
    if (context.json) {
      context.out().line(boost::json::serialize(
          boost::json::object{{"at_s", line.at_s},
                              {line.is_command ? "command" : "event", line.name},
                              {"text", printable(line.text.substr(line.text.starts_with(' ') ? 1 : 0))}}));
    } else {
      context.out().line(printable(
          fmt::format("{:12.6f} {} {}{}", line.at_s, line.is_command ? "  <" : ">", line.name, line.text)));
    }
  });
  return replayed ? ExitCode::kOk : context.report(replayed.error());
}

}  // namespace lm::cli

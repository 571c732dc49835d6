#include "cli/top_frame.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/model_tables.h"
#include "cli/progress.h"
#include "cli/span_text.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

constexpr int kBar = 20;

std::string measured(const boost::json::value& device, std::string_view key, std::string_view unit) {
  const auto number = number_of(device, key);
  return number ? fmt::format("{:.0f} {}", *number, unit) : "–";
}

std::string head(const boost::json::value& health, const std::string& address, const Stream& stream) {
  std::string text = fmt::format("llm-manager {}  ", printable(text_of(health, "version")));
  const auto waiting = number_of(health, "waiting").value_or(0);
  const auto oldest = number_of(health, "oldest_waiting_s");
  if (waiting < 1) {
    text += "nobody waits";
  } else {
    text += fmt::format("{:.0f} {}", waiting, waiting < 2 ? "request waits" : "requests wait");
    if (oldest) text += fmt::format(", the oldest for {}", span_text(*oldest));
  }
  text += fmt::format("  {}", address);
  if (const auto up = number_of(health, "uptime_s")) text += fmt::format(", up {}", span_text(*up));
  return coloured(stream, Colour::kBold, fit(text, stream.columns())) + "\n";
}

std::string troubles(const boost::json::value& health, const Stream& stream) {
  std::string out;
  const auto* list = array_of(health, "troubles");
  if (list == nullptr) return out;
  for (const auto& trouble : *list) {
    if (!trouble.is_string()) continue;
    out += coloured(stream, Colour::kRed, fit(printable(trouble.get_string()), stream.columns())) + "\n";
  }
  return out;
}

std::string device_table(const boost::json::value& answer, const Stream& stream) {
  const auto* devices = array_of(answer, "devices");
  if (devices == nullptr || devices->empty()) return "";
  Table table({{.title = "DEVICE", .shrinks = true},
               {.title = "MEMORY", .give_up = 5},
               {.title = "IN USE", .right = true},
               {.title = "OF", .right = true},
               {.title = "OURS", .right = true, .give_up = 2},
               {.title = "OTHERS", .right = true, .give_up = 3},
               {.title = "BUSY", .right = true, .give_up = 4},
               {.title = "TEMP", .right = true, .give_up = 6},
               {.title = "POWER", .right = true, .give_up = 7}});
  for (const auto& device : *devices) {
    const Bytes capacity = bytes_of(device, "capacity");
    const bool is_measured = number_of(device, "free").has_value();
    const Bytes used = capacity - bytes_of(device, "free");
    const double share =
        capacity > Bytes() ? static_cast<double>(used.count()) / static_cast<double>(capacity.count()) : 0;
    const Colour colour = share > 0.95 ? Colour::kRed : share > 0.8 ? Colour::kYellow : Colour::kGreen;
    table.add({{.text = std::string(text_of(device, "id"))},
               {.text = is_measured ? bar(share, kBar) : "–", .colour = colour},
               {.text = is_measured ? to_string(used) : "–"},
               {.text = to_string(capacity)},
               {.text = to_string(bytes_of(device, "used"))},
               {.text = to_string(bytes_of(device, "external"))},
               {.text = measured(device, "utilization", "%")},
               {.text = measured(device, "celsius", "°C")},
               {.text = measured(device, "watts", "W")}});
  }
  return table.text(stream);
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

std::string decision_line(const boost::json::value& decision, std::int64_t now_ms, const Stream& stream) {
  const auto at = static_cast<std::int64_t>(number_of(decision, "at_ms").value_or(0));
  return fmt::format("{}  {}  {}  {}\n", coloured(stream, Colour::kDim, moment_text(at, now_ms)),
                     coloured(stream, Colour::kBold, printable(text_of(decision, "kind"))),
                     printable(text_of(decision, "model")), printable(text_of(decision, "why")));
}

std::string top_frame(const TopAnswers& answers, const std::string& address, std::int64_t now_ms,
                      const Stream& stream, int rows) {
  std::string text = head(answers.health, address, stream) + troubles(answers.health, stream) + "\n" +
                     device_table(answers.devices, stream) + "\n" +
                     running_models(answers.models, now_ms, stream);
  std::vector<std::string> lines = lines_of(text);
  const auto room = static_cast<std::size_t>(std::max(1, rows));
  if (const auto* decisions = array_of(answers.decisions, "decisions"); decisions != nullptr) {
    bool first = true;
    for (const auto& decision : *decisions) {
      if (lines.size() + (first ? 2 : 1) > room) break;
      if (std::exchange(first, false)) lines.emplace_back();
      std::string line = decision_line(decision, now_ms, stream);
      line.pop_back();
      lines.push_back(std::move(line));
    }
  }
  if (lines.size() > room) lines.resize(room);
  std::string out;
  for (const std::string& line : lines) out += fit(line, stream.columns()) + "\n";
  return out;
}

}  // namespace lm::cli

#include "cli/pull_text.h"

#include <algorithm>

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/progress.h"
#include "cli/span_text.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

constexpr int kWidestBar = 30;
constexpr int kNarrowestBar = 6;

double fraction_of(const boost::json::value& pull) {
  const auto total = static_cast<double>(bytes_of(pull, "total").count());
  return total > 0 ? static_cast<double>(bytes_of(pull, "done").count()) / total : 0.0;
}

// "2.4 of 4.7 GB"; both amounts in full where their units differ.
std::string amount(const boost::json::value& pull) {
  const std::string done = to_string(bytes_of(pull, "done")), total = to_string(bytes_of(pull, "total"));
  const std::size_t a = done.rfind(' '), b = total.rfind(' ');
  const bool same = a != std::string::npos && b != std::string::npos && done.substr(a) == total.substr(b);
  return fmt::format("{} of {}", same ? done.substr(0, a) : done, total);
}

std::string rate(const boost::json::value& pull) {
  const double bytes = number_of(pull, "bytes_per_s").value_or(0);
  return bytes >= 1 ? to_string(Bytes(static_cast<std::int64_t>(bytes))) + "/s" : std::string();
}

std::string error_of(const boost::json::value& pull) {
  const auto* error = member_of(pull, "error");
  return error != nullptr && error->is_object() ? printable(text_of(*error, "message")) : std::string();
}

}  // namespace

std::string pull_stage(const boost::json::value& pull) {
  const std::string_view state = text_of(pull, "state");
  if (state != "running") return std::string(state == "waiting" ? "waiting for other pulls" : state);
  const std::string_view stage = text_of(pull, "stage");
  if (stage == "listing") return "asking what there is";
  if (stage == "verifying") return "checking the hash";
  return stage.empty() ? "starting" : printable(stage);
}

std::string pull_line(const boost::json::value& pull, int columns) {
  const std::string name = printable(text_of(pull, "source"));
  if (bytes_of(pull, "total") <= Bytes() || text_of(pull, "state") != "running")
    return fit(fmt::format("{}  {}", name, pull_stage(pull)), columns);
  const bool checks = text_of(pull, "stage") == "verifying";
  std::string tail =
      fmt::format("  {:3.0f} %  {}", std::clamp(fraction_of(pull), 0.0, 1.0) * 100, amount(pull));
  if (checks) {
    tail += "  checking the hash";
  } else if (const std::string speed = rate(pull); !speed.empty()) {
    tail += "  " + speed;
    if (const auto left = number_of(pull, "left_s")) tail += fmt::format("  {} left", span_text(*left));
  }
  std::string head = name;
  const int room = columns - display_width(head) - display_width(tail) - 2;
  if (room >= kNarrowestBar) head += "  " + bar(fraction_of(pull), std::min(room, kWidestBar));
  const int for_head = columns - display_width(tail);
  return for_head <= 1 ? fit(head + tail, columns) : fit(head, for_head) + tail;
}

std::string pull_end_text(const boost::json::value& pull) {
  const std::string source = printable(text_of(pull, "source"));
  const auto id = static_cast<std::uint64_t>(number_of(pull, "id").value_or(0));
  const std::string_view state = text_of(pull, "state");
  if (state == "paused") {
    return fmt::format(
        "{0} is paused at {1}: llm-manager pulls resume {2} goes on, llm-manager pulls cancel {2} "
        "removes what has come\n",
        source, amount(pull), id);
  }
  if (state == "cancelled") return fmt::format("{} is cancelled; what had come is removed\n", source);
  if (state == "failed") return fmt::format("{} has failed: {}\n", source, error_of(pull));
  if (state != "done") {
    return fmt::format("{0} is pulled by the daemon: llm-manager pulls shows how far it is\n", source);
  }
  std::string out = fmt::format("{} is here: {}\n", source, to_string(bytes_of(pull, "total")));
  const auto* models = array_of(pull, "models");
  if (models == nullptr || models->empty()) {
    if (const auto* files = array_of(pull, "files"); files != nullptr) {
      for (const auto& file : *files)
        if (file.is_string()) out += fmt::format("  {}\n", printable(std::string_view(file.get_string())));
    }
    return out + "it is no model that can be loaded as it is: it has to be imported\n";
  }
  for (const auto& model : *models) {
    if (model.is_string())
      out += fmt::format("  llm-manager chat {}\n", printable(std::string_view(model.get_string())));
  }
  return out;
}

std::string pull_table(const boost::json::value& answer, const Stream& stream) {
  const auto* pulls = array_of(answer, "pulls");
  if (pulls == nullptr || pulls->empty()) return "nothing is pulled: llm-manager pull hf:OWNER/REPO begins\n";
  Table table({{.title = "PULL", .right = true},
               {.title = "SOURCE", .shrinks = true},
               {.title = "STATE"},
               {.title = "DONE", .right = true},
               {.title = "SIZE", .right = true, .give_up = 1},
               {.title = "SPEED", .right = true, .give_up = 2},
               {.title = "NOTE", .shrinks = true, .give_up = 3}});
  for (const auto& pull : *pulls) {
    const std::string_view state = text_of(pull, "state");
    const bool known = bytes_of(pull, "total") > Bytes();
    const std::string error = error_of(pull);
    const Colour colour = state == "done"      ? Colour::kGreen
                          : state == "failed"  ? Colour::kRed
                          : state == "running" ? Colour::kYellow
                                               : Colour::kDim;
    table.add({{.text = fmt::format("{:.0f}", number_of(pull, "id").value_or(0))},
               {.text = printable(text_of(pull, "source"))},
               {.text = printable(state), .colour = colour},
               {.text = known ? fmt::format("{:.0f} %", fraction_of(pull) * 100) : "–"},
               {.text = known ? to_string(bytes_of(pull, "total")) : "–"},
               {.text = rate(pull)},
               {.text = error.empty() ? printable(text_of(pull, "note")) : error}});
  }
  return table.text(stream);
}

}  // namespace lm::cli

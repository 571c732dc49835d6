#include "cli/event_text.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/progress.h"
#include "cli/span_text.h"

namespace lm::cli {
namespace {

std::string error_text(const boost::json::value& datum) {
  const auto* error = member_of(datum, "error");
  if (error == nullptr || !error->is_object()) return {};
  // Either the error itself or the object that answers carry.
  const auto* inner = member_of(*error, "error");
  return std::string(text_of(inner != nullptr ? *inner : *error, "message"));
}

std::string release_text(const boost::json::value& release) {
  return fmt::format("{} freed, {} left{}", to_string(bytes_of(release, "freed")),
                     to_string(bytes_of(release, "residual")),
                     flag_of(release, "proved") ? "" : ", not proved");
}

std::string list_text(const boost::json::value& datum, std::string_view key) {
  std::string out;
  const auto* list = array_of(datum, key);
  if (list == nullptr) return out;
  for (const auto& item : *list) {
    if (item.is_string()) out += fmt::format("; {}", std::string_view(item.get_string()));
  }
  return out;
}

std::string switch_text(const boost::json::value& datum) {
  const std::string_view stage = text_of(datum, "stage");
  const std::string_view model = text_of(datum, "to_model");
  std::string out = fmt::format("switch {} -> {}", text_of(datum, "from"), text_of(datum, "to"));
  if (!model.empty()) out += fmt::format(" ({})", model);
  out += ": ";
  if (stage == "began") return out + fmt::format("chosen by {}", text_of(datum, "who"));
  if (stage == "released") {
    const auto* released = array_of(datum, "released");
    if (released == nullptr || released->empty()) return out + "released";
    const boost::json::value& last = released->back();
    const auto* report = member_of(last, "report");
    out += fmt::format("{} is gone", text_of(last, "model"));
    return report == nullptr ? out : out + ", " + release_text(*report);
  }
  if (stage == "loading") return out + "loads";
  const std::string took = span_text(number_of(datum, "took_s").value_or(0.0));
  if (stage == "done") return out + "done after " + took;
  if (stage == "cancelled") return out + "cancelled after " + took;
  return out + fmt::format("{} after {}: {}", stage, took, error_text(datum));
}

}  // namespace

std::string event_text(std::string_view kind, const boost::json::value& datum) {
  const std::string_view model = text_of(datum, "model");
  if (kind == "state") {
    std::string out = fmt::format("{} is {}", model, text_of(datum, "state"));
    if (const auto detail = text_of(datum, "detail"); !detail.empty() && detail != text_of(datum, "state"))
      out += fmt::format(" ({})", detail);
    if (const auto cause = text_of(datum, "cause"); !cause.empty() && cause != "none")
      out += fmt::format(", {}", cause);
    if (const std::string error = error_text(datum); !error.empty()) out += ": " + error;
    if (const auto* release = member_of(datum, "release"); release != nullptr && release->is_object())
      out += ": " + release_text(*release);
    return printable(out);
  }
  if (kind == "pull") {
    std::string out = fmt::format("pull {:.0f} ({}) is {}", number_of(datum, "id").value_or(0),
                                  text_of(datum, "source"), text_of(datum, "state"));
    if (text_of(datum, "state") == "running" && !text_of(datum, "stage").empty()) {
      out += fmt::format(", {}: {} of {}", text_of(datum, "stage"), to_string(bytes_of(datum, "done")),
                         to_string(bytes_of(datum, "total")));
    }
    if (const std::string error = error_text(datum); !error.empty()) out += ": " + error;
    return printable(out);
  }
  if (kind == "progress") {
    std::string out = fmt::format("{}: {}", model, stage_text(text_of(datum, "stage")));
    if (const auto fraction = number_of(datum, "fraction")) out += fmt::format(" {:.0f} %", *fraction * 100);
    return printable(out);
  }
  if (kind == "phases") {
    std::string out = fmt::format("{}:", model);
    if (const auto* phases = array_of(datum, "phases"); phases != nullptr) {
      for (const auto& phase : *phases) {
        out += fmt::format("{} {} {}", out.ends_with(':') ? "" : ",", text_of(phase, "name"),
                           span_text(number_of(phase, "seconds").value_or(0.0)));
      }
    }
    return printable(out);
  }
  if (kind == "decision") {
    return printable(fmt::format("{}{}{}: {}", text_of(datum, "kind"), model.empty() ? "" : " ", model,
                                 text_of(datum, "why")));
  }
  if (kind == "switch") return printable(switch_text(datum));
  if (kind == "release") return printable(fmt::format("{}: {}", model, release_text(datum)));
  if (kind == "job") {
    const std::string error = error_text(datum);
    return printable(fmt::format("job {:.0f} {}", number_of(datum, "job").value_or(0),
                                 error.empty() ? "is done" : "failed: " + error));
  }
  if (kind == "config")
    return printable("reloaded" + list_text(datum, "changes") + list_text(datum, "warnings"));
  return printable(boost::json::serialize(datum));
}

}  // namespace lm::cli

#include "cli/release_report.h"

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/span_text.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

std::string amount(const boost::json::value& from, std::string_view key) {
  return member_of(from, key) == nullptr ? "–" : to_string(bytes_of(from, key));
}

std::string_view method_text(std::string_view method) {
  if (method == "process") return "measured on its own processes";
  if (method == "device") return "measured on the device";
  return method;
}

std::vector<Cell> amounts(std::string name, const boost::json::value& row) {
  const bool is_left = bytes_of(row, "residual") > Bytes(0);
  return {{.text = std::move(name)},
          {.text = amount(row, "before")},
          {.text = amount(row, "after")},
          {.text = amount(row, "freed"), .colour = Colour::kGreen},
          {.text = amount(row, "expected")},
          {.text = amount(row, "residual"), .colour = is_left ? Colour::kYellow : Colour::kPlain}};
}

}  // namespace

std::string release_report(const boost::json::value& answer, const std::string& what, const Stream& stream) {
  const std::string name = printable(what);
  const boost::json::value* release = member_of(answer, "release");
  if (release == nullptr || !release->is_object()) {
    const bool changed = flag_of(answer, "changed");
    if (what == "all models")
      return changed ? "all models are held now\n" : "no local model is loaded; nothing to do\n";
    return changed ? fmt::format("{} is unloaded; it held no memory\n", name)
                   : fmt::format("{} is not loaded; nothing to do\n", name);
  }

  const std::string took = span_text(number_of(*release, "took_s").value_or(0.0));
  const Bytes freed = bytes_of(*release, "freed"), residual = bytes_of(*release, "residual");
  const bool kept = freed == Bytes(0) && residual > Bytes(0);
  std::string out =
      kept ? fmt::format("{} gave nothing back: {} still held after {}\n", name, to_string(residual), took)
           : fmt::format("{} {} unloaded: {} freed in {}\n", name, what == "all models" ? "are" : "is",
                         to_string(freed), took);

  Table table({{.title = "DEVICE", .shrinks = true},
               {.title = "BEFORE", .right = true},
               {.title = "AFTER", .right = true},
               {.title = "FREED", .right = true},
               {.title = "EXPECTED", .right = true, .give_up = 2},
               {.title = "RESIDUAL", .right = true, .give_up = 1}});
  const boost::json::array* devices = array_of(*release, "devices");
  if (devices != nullptr) {
    for (const auto& device : *devices) table.add(amounts(std::string(text_of(device, "device")), device));
  }
  if (devices == nullptr || devices->size() != 1) table.add(amounts("total", *release));
  out += "\n" + table.text(stream) + "\n";

  if (const Bytes pages = bytes_of(*release, "reclaimable"); pages > Bytes(0)) {
    out += fmt::format(
        "{} of the file's pages stay in the page cache; the system gives them to whoever needs memory\n",
        to_string(pages));
  }
  if (const auto* holders = array_of(*release, "holders"); holders != nullptr && !holders->empty()) {
    out += "the rest is held by:\n";
    for (const auto& holder : *holders) {
      const std::string_view who = text_of(holder, "name");
      out += fmt::format("  {} (process {}): {}\n", printable(who.empty() ? "unknown" : who),
                         static_cast<std::int64_t>(number_of(holder, "pid").value_or(0)),
                         to_string(bytes_of(holder, "bytes")));
    }
  }
  const std::string_view method = text_of(*release, "method");
  if (flag_of(*release, "proved")) {
    out += coloured(stream, Colour::kGreen, "proved") +
           (method.empty() ? std::string() : fmt::format(": {}", printable(method_text(method)))) + "\n";
  } else if (text_of(*release, "outcome") == "unknown") {
    out += coloured(stream, Colour::kYellow, "not proved") +
           ": what it held cannot be measured here, so nothing is claimed to be free\n";
  } else if (method == "unmeasured") {
    out += coloured(stream, Colour::kYellow, "not proved") +
           ": nothing could be measured, so all of it counts as held\n";
  } else {
    out += coloured(stream, Colour::kYellow, "not proved") +
           ": the memory was not seen to come back in time; the numbers above are the last measurement\n";
  }
  return out;
}

}  // namespace lm::cli

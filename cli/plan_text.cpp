#include "cli/plan_text.h"

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

std::string amount(const boost::json::value& row, std::string_view key) {
  return to_string(bytes_of(row, key));
}

std::string verdict(const boost::json::value& plan) {
  const std::string name = printable(text_of(plan, "model"));
  const std::string_view word = text_of(plan, "verdict");
  if (word == "fits") return fmt::format("{} fits now", name);
  if (word != "fits_after_others") return fmt::format("{} does not fit", name);
  std::string others;
  if (const auto* list = array_of(plan, "evicts")) {
    for (const auto& other : *list) {
      if (!other.is_string()) continue;
      others +=
          (others.empty() ? "" : ", ") + printable({other.get_string().data(), other.get_string().size()});
    }
  }
  return fmt::format("{} fits once {} is gone", name,
                     others.empty() ? std::string("what is in its way") : others);
}

}  // namespace

std::string plan_text(const boost::json::value& plan, const Stream& stream) {
  Table table({{.title = "DEVICE", .shrinks = true},
               {.title = "LAYERS", .right = true, .give_up = 4},
               {.title = "WEIGHTS", .right = true},
               {.title = "MAPPED", .right = true, .give_up = 3},
               {.title = "KV CACHE", .right = true},
               {.title = "COMPUTE", .right = true},
               {.title = "NEEDED", .right = true},
               {.title = "FREE", .right = true, .give_up = 2},
               {.title = "CREDIT", .right = true, .give_up = 1}});
  if (const auto* rows = array_of(plan, "devices")) {
    for (const auto& row : *rows) {
      std::string layers;
      if (const auto* shares = array_of(plan, "placement")) {
        for (const auto& share : *shares) {
          if (text_of(share, "device") != text_of(row, "device")) continue;
          const auto count = number_of(share, "layers");
          layers = count ? fmt::format("{:.0f}", *count) : "all";
        }
      }
      const bool lacks = bytes_of(row, "needed") > bytes_of(row, "free") + bytes_of(row, "credit");
      const bool waits = bytes_of(row, "needed") > bytes_of(row, "free");
      table.add({{.text = printable(text_of(row, "device"))},
                 {.text = layers},
                 {.text = amount(row, "weights")},
                 {.text = amount(row, "mapped")},
                 {.text = amount(row, "context")},
                 {.text = amount(row, "compute")},
                 {.text = amount(row, "needed"),
                  .colour = lacks   ? Colour::kRed
                            : waits ? Colour::kYellow
                                    : Colour::kGreen},
                 {.text = amount(row, "free")},
                 {.text = amount(row, "credit")}});
    }
  }
  std::string out = verdict(plan) + "; " +
                    (text_of(plan, "source") == "measured" ? "what is needed was measured before"
                                                           : "what is needed is predicted") +
                    "\n" + table.text(stream);
  const std::string limit = printable(text_of(plan, "limit"));
  if (!limit.empty()) out += "the limit that is met first: " + limit + "\n";
  return out;
}

}  // namespace lm::cli

#include "cli/model_tables.h"

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/span_text.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

const boost::json::array& models_of(const boost::json::value& answer) {
  static const boost::json::array kNone;
  const auto* models = array_of(answer, "models");
  return models == nullptr ? kNone : *models;
}

// The amounts of an object {"host": 1, "cuda0": 2} together.
Bytes sum_of(const boost::json::value& from, std::string_view key) {
  Bytes sum;
  const auto* amounts = object_of(from, key);
  if (amounts == nullptr) return sum;
  for (const auto& [device, ignored] : *amounts) sum += bytes_of(*member_of(from, key), device);
  return sum;
}

std::string devices_of(const boost::json::value& instance) {
  for (const std::string_view key : {"held_bytes", "reserved"}) {
    const auto* amounts = object_of(instance, key);
    if (amounts == nullptr || amounts->empty()) continue;
    std::string out;
    for (const auto& [device, ignored] : *amounts) out += (out.empty() ? "" : ", ") + std::string(device);
    return out;
  }
  return "–";
}

Colour colour_of(std::string_view state) {
  if (state == "ready") return Colour::kGreen;
  if (state == "failed") return Colour::kRed;
  if (state == "loading" || state == "unloading") return Colour::kYellow;
  return Colour::kDim;
}

bool is_held(const boost::json::value& model) {
  return object_of(model, "held") != nullptr;
}

Cell state_cell(const boost::json::value& model) {
  const std::string_view state = text_of(model, "state");
  std::string text(state);
  if (state == "loading") {
    if (const auto* progress = member_of(model, "progress"); progress != nullptr && progress->is_object()) {
      const auto fraction = number_of(*progress, "fraction");
      text += fmt::format(" {}", text_of(*progress, "stage"));
      if (fraction) text += fmt::format(" {:.0f} %", *fraction * 100);
    }
  }
  if (is_held(model)) text += ", held";
  if (flag_of(model, "pinned")) text += ", pinned";
  return {.text = std::move(text), .colour = colour_of(state)};
}

// What has it in memory: a worker of ours, or a server that is not ours; an empty object where nobody tells.
const boost::json::value& holder_of(const boost::json::value& model) {
  static const boost::json::value kNone{boost::json::object()};
  for (const std::string_view key : {"instance", "upstream"}) {
    const auto* holder = member_of(model, key);
    if (holder != nullptr && holder->is_object()) return *holder;
  }
  return kNone;
}

// What it holds; where it holds nothing, what it would take.
std::string memory_text(const boost::json::value& model) {
  const boost::json::value& holder = holder_of(model);
  if (const Bytes held = sum_of(holder, "held_bytes"); held > Bytes(0)) return to_string(held);
  if (const Bytes reserved = sum_of(holder, "reserved"); reserved > Bytes(0))
    return "~" + to_string(reserved);
  const auto* footprint = member_of(model, "footprint");
  if (footprint == nullptr || !footprint->is_object()) return "–";
  const Bytes total = bytes_of(*footprint, "total");
  return total > Bytes(0) ? "~" + to_string(total) : "–";
}

std::string count_text(const boost::json::value& from, std::string_view key) {
  const auto number = number_of(from, key);
  return number ? fmt::format("{:.0f}", *number) : "–";
}

std::string expiry_text(const boost::json::value& model, const boost::json::value& instance) {
  if (const auto retry = number_of(instance, "retry_in_s"))
    return *retry < 0.005 ? "when it is asked for" : fmt::format("retries in {}", span_text(*retry));
  if (text_of(model, "state") != "ready") return "–";
  if (const auto left = number_of(instance, "expires_in_s")) return fmt::format("in {}", span_text(*left));
  if (number_of(instance, "id").value_or(0) == 0) return "–";  // an upstream decides
  return number_of(instance, "active").value_or(0) > 0 ? "in use" : "never";
}

// How many wait, and how long one more would: "3, 12.0 s".
std::string waiting_text(const boost::json::value& holder) {
  std::string text = count_text(holder, "waiting");
  const auto* expected = member_of(holder, "expected_wait");
  if (expected == nullptr || !expected->is_object()) return text;
  if (const auto wait = number_of(*expected, "wait_s")) text += ", " + span_text(*wait);
  return text;
}

}  // namespace

std::string model_list(const boost::json::value& answer, const Stream& stream) {
  const auto& models = models_of(answer);
  if (models.empty()) {
    return "no models yet; name a folder with GGUF files: llm-manager serve --models FOLDER\n";
  }
  Table table({{.title = "NAME", .shrinks = true},
               {.title = "KIND", .give_up = 3},
               {.title = "SIZE", .right = true, .give_up = 1},
               {.title = "STATE"},
               {.title = "MEMORY", .right = true, .give_up = 2},
               {.title = "FROM", .shrinks = true, .give_up = 4}});
  std::string errors;
  for (const auto& model : models) {
    const std::string_view name = text_of(model, "id");
    const Bytes size = bytes_of(model, "size");
    table.add({{.text = std::string(name)},
               {.text = std::string(text_of(model, "kind"))},
               {.text = size > Bytes(0) ? to_string(size) : "–"},
               state_cell(model),
               {.text = memory_text(model)},
               {.text = std::string(text_of(model, "origin"))}});
    if (const auto* error = member_of(model, "error"); error != nullptr && error->is_object()) {
      errors += fmt::format("{}: {}\n", coloured(stream, Colour::kRed, printable(name)),
                            printable(text_of(*error, "message")));
    }
  }
  return table.text(stream) + (errors.empty() ? "" : "\n" + errors);
}

namespace {

// One that failed long ago, and that nobody waits for, is history: `list` tells it.
bool is_history(const boost::json::value& model) {
  if (text_of(model, "state") != "failed") return false;
  const boost::json::value& holder = holder_of(model);
  if (number_of(holder, "waiting").value_or(0) > 0) return false;
  const auto* fields = holder.if_object();
  if (fields == nullptr || fields->empty())
    return true;  // it was never begun: its file or its entry is wrong
  return number_of(holder, "since_s").value_or(0) > 3600;
}

}  // namespace

std::string running_models(const boost::json::value& answer, std::int64_t now_ms, const Stream& stream) {
  Table table({{.title = "NAME", .shrinks = true},
               {.title = "STATE"},
               {.title = "DEVICE", .shrinks = true, .give_up = 3},
               {.title = "MEMORY", .right = true, .give_up = 2},
               {.title = "SLOTS", .right = true, .give_up = 5},
               {.title = "ACTIVE", .right = true, .give_up = 4},
               {.title = "WAITING", .right = true, .give_up = 1},
               {.title = "EXPIRES", .give_up = 6}});
  std::string held;
  std::string errors;
  int failed_before = 0;
  for (const auto& model : models_of(answer)) {
    const std::string_view name = text_of(model, "id");
    if (is_held(model)) {
      const boost::json::value& hold = *member_of(model, "held");
      const auto since = number_of(hold, "since_ms");
      const std::string_view by = text_of(hold, "by");
      held += fmt::format(
          "{} is kept unloaded{}{}; llm-manager load {} ends that\n",
          coloured(stream, Colour::kYellow, printable(name)), by.empty() ? "" : " by " + printable(by),
          since ? " since " + moment_text(static_cast<std::int64_t>(*since), now_ms) : "", printable(name));
    }
    if (text_of(model, "state") == "unloaded") continue;
    if (is_history(model)) {
      ++failed_before;
      continue;
    }
    const boost::json::value& holder = holder_of(model);
    table.add({{.text = std::string(name)},
               state_cell(model),
               {.text = devices_of(holder)},
               {.text = memory_text(model)},
               {.text = count_text(holder, "slots")},
               {.text = count_text(holder, "active")},
               {.text = waiting_text(holder)},
               {.text = expiry_text(model, holder)}});
    if (const auto* error = member_of(model, "error"); error != nullptr && error->is_object()) {
      errors += fmt::format("{}: {}\n", coloured(stream, Colour::kRed, printable(name)),
                            printable(text_of(*error, "message")));
    }
  }
  const bool all_held = table.empty() && !held.empty();
  std::string out = all_held        ? "nothing is loaded\n"
                    : table.empty() ? "nothing is loaded; the next request loads its model by itself\n"
                                    : table.text(stream);
  if (!errors.empty()) out += "\n" + errors;
  if (failed_before > 0)
    out += fmt::format("\n{} cannot be loaded; llm-manager list tells why\n",
                       failed_before == 1 ? "1 model" : fmt::format("{} models", failed_before));
  if (!held.empty()) out += "\n" + held;
  if (const auto* demand = member_of(answer, "demand"); demand != nullptr) {
    if (const std::string_view advice = text_of(*demand, "advice"); !advice.empty())
      out += "\n" + coloured(stream, Colour::kYellow, printable(advice)) + "\n";
  }
  return out;
}

}  // namespace lm::cli

#include "cli/simulation_tables.h"

#include <algorithm>

#include <boost/json/array.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/display_width.h"
#include "cli/span_text.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

namespace json = boost::json;

// Seconds for a column: three figures are enough to compare.
std::string short_seconds(double s) {
  if (s >= 100) return fmt::format("{:.0f}", s);
  return s >= 10 ? fmt::format("{:.1f}", s) : fmt::format("{:.2f}", s);
}

std::string amount(Bytes bytes) {
  return bytes == Bytes() ? "0" : to_string(bytes);
}

std::vector<Column> columns(std::string first) {
  return {{.title = std::move(first), .shrinks = true},
          {.title = "SERVED", .right = true},
          {.title = "A SECOND", .right = true, .give_up = 4},
          {.title = "REFUSED", .right = true, .give_up = 1},
          {.title = "WAIT P50", .right = true},
          {.title = "P99", .right = true},
          {.title = "MAX", .right = true},
          {.title = "TOTAL MEAN", .right = true},
          {.title = "P99", .right = true},
          {.title = "SWAPS/REQ", .right = true, .give_up = 2},
          {.title = "PREEMPTED", .right = true, .give_up = 6},
          {.title = "MOVED", .right = true, .give_up = 5}};
}

std::vector<Cell> row(std::string first, const simulate::Figures& f) {
  const std::uint64_t refused = f.refused + f.cut + f.left;
  return {{.text = std::move(first)},
          {.text = fmt::format("{}", f.served)},
          {.text = fmt::format("{:.2f}", f.served_per_s)},
          {.text = fmt::format("{}", refused), .colour = refused > 0 ? Colour::kYellow : Colour::kPlain},
          {.text = short_seconds(f.wait.p50)},
          {.text = short_seconds(f.wait.p99)},
          {.text = short_seconds(f.wait.max)},
          {.text = short_seconds(f.total.mean)},
          {.text = short_seconds(f.total.p99)},
          {.text = fmt::format("{:.3f}", f.swaps_per_request)},
          {.text = fmt::format("{}", f.preempted)},
          {.text = amount(f.moved)}};
}

// Models that are alike share a line.
std::string models_text(const SimulatedSetting& setting) {
  std::string out;
  std::vector<bool> told(setting.machine.models.size());
  for (std::size_t i = 0; i < told.size(); ++i) {
    if (told[i]) continue;
    const simulate::SimulatedModel& model = setting.machine.models[i];
    std::vector<std::string> names;
    for (std::size_t j = i; j < told.size(); ++j) {
      simulate::SimulatedModel other = setting.machine.models[j];
      other.name = model.name;
      if (!(other == model)) continue;
      told[j] = true;
      if (names.size() < 8)
        names.push_back(setting.machine.models[j].name);
      else if (names.size() == 8)
        names.emplace_back("…");
    }
    std::string speed;
    if (setting.by_tokens)
      speed = fmt::format(", reads {:g} and writes {:g} tokens a second", model.prefill, model.decode);
    out += fmt::format("{:10} {}: {}, loads in {}, unloads in {}{}, {} slot{}{}{}{}\n",
                       out.empty() ? "models" : "", printable(fmt::format("{}", fmt::join(names, ", "))),
                       to_string(model.memory), span_text(seconds(model.load)),
                       span_text(seconds(model.unload)), speed, model.slots, model.slots == 1 ? "" : "s",
                       model.weight == 1 ? "" : fmt::format(", weight {:g}", model.weight),
                       model.pinned ? ", pinned" : "", model.assumed ? " (assumed)" : "");
  }
  return out;
}

std::string setting_text(const SimulatedSetting& setting, const Stream& stream) {
  std::vector<std::string> devices;
  for (const simulate::SimulatedDevice& device : setting.machine.devices)
    devices.push_back(fmt::format("{} {}", device.name, to_string(device.memory - device.headroom)));
  std::string out =
      fmt::format("{:10} {}\n", "machine", printable(fmt::format("{}", fmt::join(devices, ", "))));
  out += models_text(setting);
  if (setting.clients > 0) {
    out += fmt::format("{:10} {} requests; {} client{} ask{} one after the other\n", "workload",
                       setting.requests, setting.clients, setting.clients == 1 ? "" : "s",
                       setting.clients == 1 ? "s" : "");
  } else {
    const double rate = setting.span_s > 0 ? static_cast<double>(setting.requests) / setting.span_s : 0;
    out += fmt::format(
        "{:10} {} requests in {}, {:.3g} a second{}: {:.0f} % of what one model at a time can answer\n",
        "workload", setting.requests, span_text(setting.span_s), rate,
        setting.scale == 1 ? "" : fmt::format(" (load scaled by {:.3g})", setting.scale),
        setting.offered_load * 100);
  }
  if (std::ranges::any_of(setting.machine.models, &simulate::SimulatedModel::assumed))
    out += "           what is assumed can be said: --models FILE, --memory, --slots, --swap\n";
  if (setting.offered_load >= 1) {
    out += coloured(stream, Colour::kYellow,
                    "           more than all of it: unless several models fit, queues fill and requests are "
                    "refused; "
                    "--load 0.8 asks for less") +
           "\n";
  }
  return out;
}

std::string rest_text(const simulate::Outcome& outcome) {
  const simulate::Figures& all = outcome.all;
  std::string out;
  if (all.refused > 0 || all.cut > 0 || all.left > 0) {
    std::vector<std::string> parts;
    if (all.refused > 0)
      parts.push_back(
          fmt::format("{} were refused: the queue was full, or they had waited too long", all.refused));
    if (all.cut > 0) parts.push_back(fmt::format("{} answers were cut off", all.cut));
    if (all.left > 0) parts.push_back(fmt::format("{} were not answered when the run ended", all.left));
    out += fmt::format("of {} requests {}\n", all.requests, fmt::join(parts, "; "));
  }
  if (const simulate::Foresight& f = all.foresight; f.told > 0) {
    out += fmt::format(
        "{} that had to wait were told {} on average, waited {}; each was told wrong by {} s\n", f.told,
        short_seconds(f.expected) + " s", short_seconds(f.actual) + " s", short_seconds(f.error));
  }
  if (!outcome.demand.advice.empty()) out += "at the end " + printable(outcome.demand.advice) + "\n";
  return out;
}

json::object spread_json(const simulate::Spread& s) {
  return {{"mean_s", s.mean}, {"p50_s", s.p50}, {"p99_s", s.p99}, {"max_s", s.max}};
}

json::object figures_json(const simulate::Figures& f) {
  return {{"requests", f.requests},
          {"served", f.served},
          {"refused", f.refused},
          {"cut", f.cut},
          {"left", f.left},
          {"served_per_s", f.served_per_s},
          {"wait", spread_json(f.wait)},
          {"total", spread_json(f.total)},
          {"foresight",
           {{"told", f.foresight.told},
            {"expected_s", f.foresight.expected},
            {"actual_s", f.foresight.actual},
            {"error_s", f.foresight.error}}},
          {"loads", f.loads},
          {"swaps_per_request", f.swaps_per_request},
          {"preempted", f.preempted},
          {"bytes_moved", f.moved.count()}};
}

json::object model_json(const simulate::SimulatedModel& m, const simulate::Machine& machine) {
  return {{"name", m.name},
          {"device", machine.find_device(m.device)->name},
          {"memory", m.memory.count()},
          {"load_s", seconds(m.load)},
          {"unload_s", seconds(m.unload)},
          {"prefill", m.prefill},
          {"decode", m.decode},
          {"slots", m.slots},
          {"weight", m.weight},
          {"pinned", m.pinned},
          {"assumed", m.assumed}};
}

}  // namespace

std::string simulation_text(const SimulatedSetting& setting, const std::vector<SimulatedRun>& runs,
                            const Stream& stream) {
  std::string out = setting_text(setting, stream);
  for (const SimulatedRun& run : runs) {
    out += fmt::format("\n{} {}, {}; times in seconds\n", coloured(stream, Colour::kBold, "policy"),
                       run.policy, span_text(run.outcome.span_s));
    Table table(columns("MODEL"));
    for (const simulate::Figures& model : run.outcome.models) table.add(row(model.name, model));
    table.add(row("all", run.outcome.all));
    out += table.text(stream) + rest_text(run.outcome);
  }
  if (runs.size() < 2) return out;
  Table table(columns("POLICY"));
  for (const SimulatedRun& run : runs) table.add(row(run.policy, run.outcome.all));
  return out + "\nin comparison\n" + table.text(stream);
}

json::object simulation_json(const SimulatedSetting& setting, const std::vector<SimulatedRun>& runs) {
  json::array devices;
  for (const simulate::SimulatedDevice& d : setting.machine.devices)
    devices.push_back({{"name", d.name}, {"memory", d.memory.count()}, {"headroom", d.headroom.count()}});
  json::array models;
  for (const simulate::SimulatedModel& m : setting.machine.models)
    models.push_back(model_json(m, setting.machine));
  json::array all;
  for (const SimulatedRun& run : runs) {
    json::array of_models;
    for (const simulate::Figures& f : run.outcome.models) {
      json::object object = figures_json(f);
      object["model"] = f.name;
      of_models.push_back(std::move(object));
    }
    const DemandView& demand = run.outcome.demand;
    all.push_back({{"policy", run.policy},
                   {"span_s", run.outcome.span_s},
                   {"all", figures_json(run.outcome.all)},
                   {"models", std::move(of_models)},
                   {"demand", {{"wanted", demand.wanted}, {"fit", demand.fit}, {"advice", demand.advice}}}});
  }
  return {{"machine",
           {{"set_aside_s",
             setting.machine.set_aside ? json::value(seconds(*setting.machine.set_aside)) : nullptr},
            {"devices", std::move(devices)},
            {"models", std::move(models)}}},
          {"workload",
           {{"requests", setting.requests},
            {"clients", setting.clients},
            {"span_s", setting.span_s},
            {"offered_load", setting.clients > 0 ? json::value() : json::value(setting.offered_load)},
            {"scale", setting.scale}}},
          {"runs", std::move(all)}};
}

}  // namespace lm::cli

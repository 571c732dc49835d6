// list, ps, load, unload, pin, unpin, inspect: one call each, shown.
#include <chrono>
#include <filesystem>
#include <functional>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/clock.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/model_tables.h"
#include "cli/plan_text.h"
#include "cli/progress.h"
#include "cli/release_report.h"
#include "cli/span_text.h"
#include "http/target.h"

namespace lm::cli {
namespace {

std::string loaded_text(const boost::json::value& done, const std::string& asked, std::int64_t now_ms) {
  std::string name = printable(text_of(done, "model"));
  if (name.empty()) name = printable(asked);
  if (!flag_of(done, "changed")) {
    const auto* instance = member_of(done, "instance");
    if ((instance == nullptr || !instance->is_object()) && text_of(done, "state") == "unloaded")
      return fmt::format("{} needs no loading by us: its server loads it when it is asked\n", name);
    const auto since = instance == nullptr ? std::nullopt : number_of(*instance, "since_s");
    if (!since) return fmt::format("{} is already loaded\n", name);
    const auto at = now_ms - static_cast<std::int64_t>(*since * 1000);
    return fmt::format("{} is already loaded (ready since {})\n", name, moment_text(at, now_ms));
  }
  std::string out =
      fmt::format("{} is ready after {}", name, span_text(number_of(done, "took_s").value_or(0.0)));
  std::string phases;
  if (const auto* list = array_of(done, "phases"); list != nullptr) {
    for (const auto& phase : *list) {
      phases += fmt::format("{}{} {}", phases.empty() ? "" : ", ", printable(text_of(phase, "name")),
                            span_text(number_of(phase, "seconds").value_or(0.0)));
    }
  }
  if (!phases.empty()) out += " (" + phases + ")";
  return out + "\n";
}

// Amounts are told by their names; everything else is printed as it is.
bool is_amount(std::string_view key) {
  return key == "size" || key == "bytes" || key == "total" || key.starts_with("predicted") ||
         key.ends_with("_size") || key.ends_with("_bytes");
}

std::string scalar_text(std::string_view key, const boost::json::value& value, bool amounts) {
  if (value.is_string()) return printable({value.get_string().data(), value.get_string().size()});
  if (value.is_bool()) return value.get_bool() ? "yes" : "no";
  if (value.is_null()) return "–";
  if (!value.is_number()) return {};
  const double number = value.to_number<double>();
  if (key == "parameters" && number >= 1e6) {
    return number >= 1e9 ? fmt::format("{:.2f} billion", number / 1e9)
                         : fmt::format("{:.0f} million", number / 1e6);
  }
  if (amounts || is_amount(key)) return to_string(Bytes(static_cast<std::int64_t>(number)));
  return value.is_double() ? fmt::format("{:g}", number) : fmt::format("{:.0f}", number);
}

void add_tree(const boost::json::object& object, int depth, bool amounts, std::string& out) {
  std::size_t width = 0;
  for (const auto& [key, value] : object) width = std::max(width, key.size());
  const std::string indent(static_cast<std::size_t>(depth) * 2, ' ');
  for (const auto& [key, value] : object) {
    const std::string name = printable(std::string_view(key.data(), key.size()));
    if (const auto* inner = value.if_object()) {
      if (inner->empty()) continue;
      out += indent + name + "\n";
      add_tree(*inner, depth + 1, amounts || is_amount(key), out);
      continue;
    }
    std::string text;
    if (const auto* list = value.if_array()) {
      for (const auto& item : *list) {
        if (item.is_object()) {
          text.clear();
          break;
        }
        text += (text.empty() ? "" : ", ") + scalar_text(key, item, amounts);
      }
      if (text.empty() && !list->empty()) {
        out += indent + name + "\n";
        for (const auto& item : *list) {
          if (item.is_object()) add_tree(item.get_object(), depth + 1, amounts, out);
        }
        continue;
      }
    } else {
      text = scalar_text(key, value, amounts);
    }
    // A chat template is many lines; the first tells which it is.
    if (const std::size_t end = text.find('\n'); end != std::string::npos) text = text.substr(0, end) + " …";
    out += fmt::format("{}{}  {}\n", indent, pad_right(name, static_cast<int>(width)), text);
  }
}

}  // namespace

Failure not_understood(const Daemon& daemon) {
  return failure_of(Error{
      .code = ErrorCode::kInternal,
      .message = fmt::format("the daemon at {} answered with something else than JSON", daemon.address()),
      .reason = "bad_answer",
      .fields = {},
      .retry_after = {}});
}

Failure connection_lost(const Daemon& daemon) {
  return failure_of_network(Error{.code = ErrorCode::kUnavailable,
                                  .message = {},
                                  .reason = "connection_lost",
                                  .fields = {},
                                  .retry_after = {}},
                            daemon.address());
}

ExitCode run(Context& context, const ListOptions&) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  return print_answer(context, *daemon, daemon->get("/api/v1/models"),
                      [&](const auto& value) { return model_list(value, context.out()); });
}

ExitCode run(Context& context, const PsOptions&) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  return print_answer(
      context, *daemon, daemon->get(context.json ? "/api/v1/instances" : "/api/v1/models"),
      [&](const auto& value) { return running_models(value, context.host.now_ms(), context.out()); });
}

namespace {

// Asks for a load or a switch and shows how it comes along; what is printed in the end is the daemon's last
// word.
ExitCode watch_load(Context& context, const char* path, const boost::json::object& body,
                    const std::function<std::string(const boost::json::value&)>& text) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  const SteadyClock clock;
  const TimePoint began = clock.now();
  const auto elapsed = [&] { return seconds(clock.now() - began); };

  std::string done;
  std::optional<Failure> failed;
  Outcome<void> outcome;
  {
    ProgressDisplay display(context.err());
    outcome = daemon->stream(
        event_request(path, body),
        {.on_event =
             [&](const http::SseEvent& event) {
               const auto value = parse_json(event.data);
               if (event.event == "error" || (value && object_of(*value, "error") != nullptr)) {
                 failed = failure_of_answer(0, event.data, daemon->address());
                 return false;
               }
               if (event.event == "progress") {
                 if (!value) return true;
                 LoadProgress progress{.model = std::string(text_of(*value, "model")),
                                       .stage = std::string(text_of(*value, "stage")),
                                       .detail = std::string(text_of(*value, "detail")),
                                       .fraction = {}};
                 // While it waits for its turn there is nothing to measure.
                 if (!progress.stage.empty()) progress.fraction = number_of(*value, "fraction");
                 display.show(std::move(progress), elapsed());
                 return true;
               }
               // "done", or the whole answer of a daemon that did not stream.
               done = event.data;
               return false;
             },
         .on_tick = [&] { display.tick(elapsed()); }});
  }
  if (!outcome) return context.report(outcome.error());
  if (failed) return context.report(*failed);
  if (done.empty()) {
    return context.report(connection_lost(*daemon));
  }
  return print_answer(context, *daemon, done, text);
}

std::string family_name(std::string_view family) {
  if (family == "ollama") return "Ollama";
  if (family == "openai") return "OpenAI-compatible";
  return std::string(family);
}

// "local -> Ollama in 1.24 s; …", and what was released on the way.
std::string switched_text(const boost::json::value& answer, const SwitchOptions& options, std::int64_t now_ms,
                          const Stream& stream) {
  const std::string name = printable(options.model);
  const std::string_view kind = text_of(answer, "kind");
  if (!flag_of(answer, "changed") && !kind.empty() && kind != "generation")
    return fmt::format("{} is used beside every other model: {} models never start a switch\n", name,
                       printable(kind));
  if (!flag_of(answer, "changed")) return fmt::format("{} is active already; nothing to do\n", name);
  const boost::json::value* change = member_of(answer, "switch");
  if (change == nullptr || !change->is_object()) return loaded_text(answer, options.model, now_ms);
  std::string out = fmt::format("{} -> {}: {} is active after {}\n", family_name(text_of(*change, "from")),
                                family_name(text_of(*change, "to")), name,
                                span_text(number_of(*change, "took_s").value_or(0.0)));
  if (const auto* released = array_of(*change, "released"); released != nullptr) {
    for (const auto& part : *released) {
      const boost::json::value* report = member_of(part, "report");
      if (report == nullptr) continue;
      out += "\n" + release_report(boost::json::object{{"changed", true}, {"release", *report}},
                                   std::string(text_of(part, "model")), stream);
    }
  }
  if (const Bytes kept = bytes_of(*change, "fit_would_have_kept"); kept > Bytes(0)) {
    out += fmt::format("\nboth would have fitted: with residency.mode: fit {} need not be loaded again\n",
                       to_string(kept));
  }
  return out;
}

}  // namespace

ExitCode run(Context& context, const LoadOptions& options) {
  return watch_load(context, "/api/v1/models/load",
                    {{"model", options.model}, {"force", options.force}, {"stream", true}},
                    [&](const boost::json::value& value) {
                      return loaded_text(value, options.model, context.host.now_ms());
                    });
}

ExitCode run(Context& context, const SwitchOptions& options) {
  if (options.model.empty()) {
    auto daemon = context.daemon();
    if (!daemon) return context.report(daemon.error());
    return print_answer(context, *daemon, daemon->get("/api/v1/switch"), [&](const auto& value) {
      const std::string model = printable(text_of(value, "model"));
      return fmt::format("the devices are for {}{}{}\n", family_name(text_of(value, "family")),
                         model.empty() ? "" : " (" + model + ")",
                         flag_of(value, "remote") ? ", which needs none of them" : "");
    });
  }
  return watch_load(context, "/api/v1/switch", {{"model", options.model}, {"stream", true}},
                    [&](const boost::json::value& value) {
                      return switched_text(value, options, context.host.now_ms(), context.out());
                    });
}

namespace {

// Which an unload drains; 0 where that is not known. `model` empty: of all.
int answers_under_way(Daemon& daemon, const std::string& model) {
  const auto answer = daemon.get("/api/v1/instances", Patience::kQuick);
  const auto value = answer ? parse_json(*answer) : std::nullopt;
  const auto* instances = value ? array_of(*value, "instances") : nullptr;
  if (instances == nullptr) return 0;
  std::string id = model;
  if (!model.empty()) {
    const auto shown = daemon.get("/v1/models/" + http::percent_encode(model), Patience::kQuick);
    if (const auto known = shown ? parse_json(*shown) : std::nullopt) id = std::string(text_of(*known, "id"));
  }
  double active = 0;
  for (const auto& instance : *instances) {
    if (model.empty() || text_of(instance, "model") == id)
      active += number_of(instance, "active").value_or(0);
  }
  return static_cast<int>(active);
}

}  // namespace

ExitCode run(Context& context, const UnloadOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  boost::json::object body;
  if (options.model.empty()) {
    body["all"] = true;
  } else {
    body["model"] = options.model;
  }
  if (options.hold) body["hold"] = true;
  const std::string what = options.model.empty() ? "all models" : options.model;
  if (context.err().is_terminal) {
    if (const int running = answers_under_way(*daemon, options.model); running > 0)
      context.err().line(coloured(
          context.err(), Colour::kDim,
          printable(fmt::format("waiting for {} of {} to end; Ctrl-C stops the waiting, not the unload",
                                running == 1 ? "1 answer" : fmt::format("{} answers", running), what))));
  }
  return print_answer(
      context, *daemon, daemon->post("/api/v1/models/unload", body, Patience::kEndless),
      [&](const auto& value) {
        std::string text = release_report(value, what, context.out());
        if (options.hold) {
          text += options.model.empty()
                      ? "all models are held: requests are refused until somebody loads one\n"
                      : fmt::format("{0} is held: its requests are refused until llm-manager load {0}\n",
                                    options.model);
        }
        return text;
      });
}

ExitCode run(Context& context, const PinOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  const auto answer =
      daemon->post(options.pin ? "/api/v1/models/pin" : "/api/v1/models/unpin", {{"model", options.model}});
  return print_answer(context, *daemon, answer, [&](const auto& value) {
    const std::string name = printable(options.model);
    if (!flag_of(value, "changed"))
      return name + (options.pin ? " is pinned already\n" : " is not pinned; nothing to do\n");
    if (!options.pin) return fmt::format("{} is no longer pinned\n", name);
    if (flag_of(value, "held"))
      return fmt::format("{0} is pinned, and kept unloaded by a hold until llm-manager load {0}\n", name);
    return fmt::format("{} is pinned: it is loaded as soon as there is room, and stays in memory\n", name);
  });
}

ExitCode run(Context& context, const InspectOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  namespace fs = std::filesystem;
  const fs::path path(options.what);
  std::error_code error;
  const bool is_there = fs::exists(path, error);
  const bool names_a_file = path.has_parent_path() || path.extension() == ".gguf";
  if (!is_there && names_a_file) {
    return context.report(Error{.code = ErrorCode::kNotFound,
                                .message = fmt::format("there is no file {}", options.what),
                                .reason = "no_such_file",
                                .fields = {},
                                .retry_after = {}});
  }
  boost::json::object body;
  if (is_there) {
    // The daemon has a working folder of its own.
    body["path"] = fs::absolute(path, error).lexically_normal().string();
  } else {
    body["model"] = options.what;
  }
  const auto answer = daemon->post("/api/v1/models/inspect", body, Patience::kEndless);
  return print_answer(context, *daemon, answer, [&](const auto& value) {
    std::string text;
    if (value.is_object()) add_tree(value.get_object(), 0, false, text);
    return text;
  });
}

ExitCode run(Context& context, const PlanOptions& options) {
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());
  boost::json::object body{{"model", options.model}};
  if (options.context) body["context"] = *options.context;
  if (options.parallel) body["parallel"] = *options.parallel;
  if (options.gpu_layers) body["gpu_layers"] = *options.gpu_layers;
  if (options.batch) body["batch"] = *options.batch;
  if (!options.kv_type.empty()) body["kv_type"] = options.kv_type;
  const auto answer = daemon->post("/api/v1/models/plan", body, Patience::kEndless);
  return print_answer(context, *daemon, answer,
                      [&](const auto& value) { return plan_text(value, context.out()); });
}

}  // namespace lm::cli

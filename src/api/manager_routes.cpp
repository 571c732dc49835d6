#include "api/manager_routes.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include <fmt/format.h>

#include "api/diagnosis.h"
#include "api/event_relay.h"
#include "api/json_body.h"
#include "api/views.h"
#include "config/settings.h"
#include "http/sse.h"

namespace lm::api {
namespace {

namespace json = boost::json;

// Administrators' waits end by the arbiter's deadlines; this is only the wait's own end.
constexpr Duration kLongest = std::chrono::hours(24);
constexpr Duration kHeartbeat = std::chrono::seconds(10);

class Administration {
 public:
  Administration(runtime::Runtime& runtime, const DaemonFacts& facts) : runtime_(runtime), facts_(facts) {}

  Task<> list_models(http::Exchange& exchange) {
    const Snapshot snapshot = runtime_.snapshot();
    json::array models;
    for (const ModelView& view : snapshot.models) {
      models.push_back(to_json(view, runtime_, snapshot.now));
      models.back().as_object()["upstream"] = upstream_of(view, snapshot);
    }
    co_await answer_json(exchange, {{"models", std::move(models)}, {"demand", to_json(snapshot.demand)}});
  }

  Task<> load(http::Exchange& exchange) { return load_or_choose(exchange, false); }
  Task<> choose(http::Exchange& exchange) { return load_or_choose(exchange, true); }

  Task<> load_or_choose(http::Exchange& exchange, bool choose) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto model = model_of(*body);
    const auto force = bool_field(*body, "force", false);
    const auto wait = bool_field(*body, "wait", true);
    const auto stream =
        bool_field(*body, "stream", exchange.request().headers.has_token("Accept", "text/event-stream"));
    for (const Error* error : {model ? nullptr : &model.error(), force ? nullptr : &force.error(),
                               wait ? nullptr : &wait.error(), stream ? nullptr : &stream.error()}) {
      if (error != nullptr) co_return co_await answer_error(exchange, *error);
    }
    co_await runtime_.look_before(*model, choose);
    auto subscription = runtime_.events().subscribe();
    const JobId job = choose ? runtime_.choose(*model, who_asks(exchange.request()))
                             : runtime_.load(*model, who_asks(exchange.request()), *force);
    if (!*wait) co_return co_await answer_json(exchange, {{"job", job.value()}}, 202);
    const AbandonedUnlessDone guard{runtime_, job};
    if (*stream) co_return co_await stream_load(exchange, *model, job, subscription);
    co_await runtime_.jobs().wait(job, kLongest);
    const runtime::Job* done = runtime_.jobs().find(job);
    if (done->error) co_return co_await answer_error(exchange, *done->error);
    co_await answer_json(exchange, loaded_json(*model, *done));
  }

  Task<> unload(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto all = bool_field(*body, "all", false);
    const auto hold = bool_field(*body, "hold", false);
    if (!all) co_return co_await answer_error(exchange, all.error());
    if (!hold) co_return co_await answer_error(exchange, hold.error());
    if (*all && body->contains("model")) {
      co_return co_await answer_error(exchange, {.code = ErrorCode::kInvalidArgument,
                                                 .message = "\"model\" or \"all\", not both",
                                                 .reason = "invalid_field",
                                                 .fields = {},
                                                 .retry_after = {}});
    }
    std::optional<ModelId> target;
    if (!*all) {
      auto model = model_of(*body);
      if (!model) co_return co_await answer_error(exchange, model.error());
      target = *std::move(model);
    }
    const JobId job = runtime_.unload(target, who_asks(exchange.request()), *hold);
    // An unload goes on when its client leaves: half of one is nobody's wish.
    co_await runtime_.jobs().wait(job, kLongest);
    const runtime::Job* done = runtime_.jobs().find(job);
    if (done->error) co_return co_await answer_error(exchange, *done->error);
    json::object answer{{"changed", done->result.changed}, {"release", nullptr}};
    if (done->result.release) answer["release"] = to_json(*done->result.release);
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> pin(http::Exchange& exchange, bool pinned) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto model = model_of(*body);
    if (!model) co_return co_await answer_error(exchange, model.error());
    const JobId job = runtime_.pin(*model, pinned);
    co_await runtime_.jobs().wait(job, kLongest);
    const runtime::Job* done = runtime_.jobs().find(job);
    if (done->error) co_return co_await answer_error(exchange, *done->error);
    const Snapshot snapshot = runtime_.snapshot();
    const bool held = std::ranges::any_of(
        snapshot.models, [&](const ModelView& v) { return v.model.id == *model && !v.held_by.empty(); });
    co_await answer_json(exchange, {{"changed", done->result.changed}, {"held", held}});
  }

  Task<> inspect(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto path = string_field(*body, "path");
    if (!path) co_return co_await answer_error(exchange, path.error());
    std::filesystem::path file;
    if (*path) {
      file = **path;
      if (!file.is_absolute() || (*path)->find('\0') != std::string::npos) {
        co_return co_await answer_error(exchange,
                                        {.code = ErrorCode::kInvalidArgument,
                                         .message = "\"path\" must be absolute and without zero bytes",
                                         .reason = "invalid_field",
                                         .fields = {},
                                         .retry_after = {}});
      }
    } else {
      const auto model = model_of(*body);
      if (!model) co_return co_await answer_error(exchange, model.error());
      const Model* known = runtime_.catalog().find(*model);
      if (known->remote) {
        co_return co_await answer_error(
            exchange, {.code = ErrorCode::kInvalidArgument,
                       .message = fmt::format("{} is no file of ours: {} has it, and knows what it is",
                                              model->str(), known->remote->upstream.str()),
                       .reason = "not_a_file",
                       .fields = {{"param", "model"}},
                       .retry_after = {}});
      }
      file = known->artifact.path;
    }
    auto found = co_await runtime_.inspect(file);
    if (!found) co_return co_await answer_error(exchange, std::move(found).error());
    json::object answer = to_json(*found);
    answer["path"] = file.string();
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> plan(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto model = model_of(*body);
    const auto context = int_field(*body, "context", 1);
    const auto parallel = int_field(*body, "parallel", 1);
    const auto gpu_layers = int_field(*body, "gpu_layers", 0);
    const auto batch = int_field(*body, "batch", 1);
    const auto kv_type = string_field(*body, "kv_type");
    for (const Error* error :
         {model ? nullptr : &model.error(), context ? nullptr : &context.error(),
          parallel ? nullptr : &parallel.error(), gpu_layers ? nullptr : &gpu_layers.error(),
          batch ? nullptr : &batch.error(), kv_type ? nullptr : &kv_type.error()}) {
      if (error != nullptr) co_return co_await answer_error(exchange, *error);
    }
    if (runtime_.catalog().find(*model)->remote) {
      co_return co_await answer_error(
          exchange,
          {.code = ErrorCode::kInvalidArgument,
           .message = fmt::format("{} is loaded by its upstream, which decides where", model->str()),
           .reason = "not_local",
           .fields = {{"param", "model"}},
           .retry_after = {}});
    }
    LoadOptions changed;
    changed.context = *context;
    changed.parallel = *parallel;
    changed.gpu_layers = *gpu_layers;
    changed.batch = *batch;
    changed.kv_type = kv_type->value_or("");
    auto plan = co_await runtime_.plan(*model, std::move(changed));
    if (!plan) co_return co_await answer_error(exchange, std::move(plan).error());
    json::object answer = to_json(*plan);
    answer["model"] = model->str();
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> job(http::Exchange& exchange) {
    const std::string_view text = exchange.request().path_value("job");
    std::uint64_t id = 0;
    std::from_chars(text.data(), text.data() + text.size(), id);
    const runtime::Job* job = runtime_.jobs().find(JobId(id));
    if (job == nullptr) {
      co_return co_await answer_error(exchange, {.code = ErrorCode::kNotFound,
                                                 .message = fmt::format("no job {}", text.substr(0, 32)),
                                                 .reason = "job_not_found",
                                                 .fields = {},
                                                 .retry_after = {}});
    }
    json::object told = to_json(*job);
    const bool loads = job->kind == "load" || job->kind == "switch";
    if (loads && job->done && !job->error) told["result"] = loaded_json(job->model, *job);
    co_await answer_json(exchange, std::move(told));
  }

  // Which family has the devices, and what is under way.
  Task<> selection(http::Exchange& exchange) {
    const Snapshot snapshot = runtime_.snapshot();
    json::object answer{{"family", to_string(snapshot.family)},
                        {"model", snapshot.selected.str()},
                        {"remote", snapshot.remote_selected},
                        {"switching", nullptr}};
    if (snapshot.switching) answer["switching"] = to_json(*snapshot.switching);
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> list_switches(http::Exchange& exchange) {
    const auto limit = limit_of(exchange.request(), 50);
    if (!limit) co_return co_await answer_error(exchange, limit.error());
    json::array switches;
    for (const std::string& report : runtime_.switches(*limit)) {
      boost::system::error_code broken;
      json::value value = json::parse(report, broken);
      if (!broken) switches.push_back(std::move(value));
    }
    co_await answer_json(exchange, {{"switches", std::move(switches)}});
  }

  Task<> list_upstreams(http::Exchange& exchange) {
    const Snapshot snapshot = runtime_.snapshot();
    json::array upstreams;
    for (const UpstreamView& view : snapshot.upstreams) upstreams.push_back(to_json(view, snapshot.now));
    co_await answer_json(exchange, {{"upstreams", std::move(upstreams)}});
  }

  Task<> list_instances(http::Exchange& exchange) {
    const Snapshot snapshot = runtime_.snapshot();
    json::array instances;
    for (const ModelView& view : snapshot.models) {
      if (view.instance)
        instances.push_back(to_json(*view.instance, runtime_.report(view.instance->id), snapshot.now));
    }
    json::array upstreams;  // that hold something, or for whose models somebody waits
    for (const UpstreamView& view : snapshot.upstreams) {
      if (view.instance) upstreams.push_back(to_json(view, snapshot.now));
    }
    co_await answer_json(exchange, {{"instances", std::move(instances)},
                                    {"upstreams", std::move(upstreams)},
                                    {"demand", to_json(snapshot.demand)}});
  }

  Task<> list_devices(http::Exchange& exchange) {
    const Snapshot snapshot = runtime_.snapshot();
    const std::vector<DeviceReading> readings = runtime_.readings();
    json::array devices;
    for (const DeviceView& view : snapshot.devices) {
      const auto reading = std::ranges::find(readings, view.device.id, &DeviceReading::device);
      devices.push_back(to_json(view, reading == readings.end() ? nullptr : &*reading));
    }
    co_await answer_json(exchange, {{"devices", std::move(devices)}});
  }

  Task<> events(http::Exchange& exchange) {
    std::optional<std::uint64_t> after;
    if (const auto text = exchange.request().headers.get("Last-Event-ID")) {
      std::uint64_t id = 0;
      if (std::from_chars(text->data(), text->data() + text->size(), id).ec == std::errc()) after = id;
    }
    auto subscription = runtime_.events().subscribe(after);
    if (!exchange.begin(200, event_stream_headers())) co_return;
    if (!co_await exchange.write(http::sse_comment("llm-manager"))) co_return;
    for (;;) {
      const auto happening = co_await subscription.next(kHeartbeat);
      std::string text;
      if (subscription.take_missed()) text += http::sse_comment("some events were missed");
      text += happening ? http::sse_event(json_text(to_json(*happening)), kind_of(happening->news),
                                          std::to_string(happening->id))
                        : http::sse_comment("");
      if (!co_await exchange.write(text)) co_return;
    }
  }

  Task<> explain(http::Exchange& exchange) {
    std::string model;
    bool is_model = false;
    if (const auto name = exchange.request().query_value("model"); name && !name->empty()) {
      const auto resolved = runtime_.catalog().resolve(*name);
      is_model = resolved.has_value();
      // Decisions name upstreams as well.
      const bool is_upstream =
          std::ranges::any_of(runtime_.snapshot().upstreams,
                              [&](const UpstreamView& view) { return view.upstream.id.str() == *name; });
      if (!is_model && !is_upstream) co_return co_await answer_error(exchange, resolved.error());
      model = is_model ? resolved->str() : std::string(*name);
    }
    const auto limit = limit_of(exchange.request(), 50);
    if (!limit) co_return co_await answer_error(exchange, limit.error());
    std::vector<runtime::StoredDecision> decisions = runtime_.decisions(model, *limit);
    // What concerns the upstream concerns its models.
    const Model* known = model.empty() ? nullptr : runtime_.catalog().find(ModelId(model));
    if (known != nullptr && known->remote) {
      std::ranges::copy(runtime_.decisions(known->remote->upstream.str(), *limit),
                        std::back_inserter(decisions));
      std::ranges::sort(decisions, std::greater(), &runtime::StoredDecision::at_ms);
      if (decisions.size() > *limit) decisions.resize(*limit);
    }
    json::array told;
    for (const runtime::StoredDecision& decision : decisions) told.push_back(to_json(decision));
    json::object answer{{"decisions", std::move(told)}, {"now", nullptr}};
    if (is_model) answer["now"] = situation_of(ModelId(model));
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> system(http::Exchange& exchange) {
    co_await answer_json(exchange, {{"version", facts_.version},
                                    {"engine", runtime_.engine()},
                                    {"pid", static_cast<std::int64_t>(::getpid())},
                                    {"uptime_s", seconds(runtime_.now() - facts_.started_at)},
                                    {"data", runtime_.places().data.string()},
                                    {"log_file", runtime_.places().log_file.string()},
                                    {"config_file", runtime_.config().file.string()},
                                    {"listening", json::value_from(facts_.listening)},
                                    {"warnings", json::value_from(runtime_.warnings())}});
  }

  // What the configuration comes to. For administrators: it tells how the machine is guarded.
  Task<> settings(http::Exchange& exchange) {
    json::array all;
    for (const config::Setting& one : config::settings(runtime_.config())) {
      const auto or_null = [](const std::string& yaml) -> json::value {
        if (yaml.empty()) return nullptr;
        return json::value_from(yaml);
      };
      all.push_back({{"key", one.key},
                     {"meaning", one.meaning},
                     {"type", one.type},
                     {"value", or_null(one.value)},
                     {"otherwise", or_null(one.otherwise)},
                     {"written", one.line > 0},
                     {"line", one.line},
                     {"restart", one.restart}});
    }
    co_await answer_json(exchange, {{"file", runtime_.config().file.string()}, {"settings", std::move(all)}});
  }

  Task<> diagnose(http::Exchange& exchange) {
    json::array checks;
    for (const Check& check : api::diagnose(find_out(runtime_))) {
      checks.push_back(
          {{"name", check.name}, {"status", check.status}, {"message", check.message}, {"fix", check.fix}});
    }
    if (facts_.has_dashboard) {
      checks.push_back(
          {{"name", "dashboard"}, {"status", "ok"}, {"message", "it is in the program, at /"}, {"fix", ""}});
    } else {
      checks.push_back({{"name", "dashboard"},
                        {"status", "warning"},
                        {"message", "this program was built without it"},
                        {"fix", "scripts/bootstrap builds both, with a network to npm's registry"}});
    }
    co_await answer_json(exchange, {{"checks", std::move(checks)}});
  }

 private:
  // A load that only this client wanted is given up when it leaves.
  struct AbandonedUnlessDone {
    runtime::Runtime& runtime;
    JobId job;
    ~AbandonedUnlessDone() {
      const runtime::Job* found = runtime.jobs().find(job);
      if (found != nullptr && !found->done) runtime.abandon(job);
    }
  };

  static Result<std::size_t> limit_of(const http::Request& request, std::size_t otherwise) {
    const auto text = request.query_value("limit");
    if (!text) return otherwise;
    std::size_t limit = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), limit);
    if (error != std::errc() || end != text->data() + text->size() || limit == 0)
      return fail(ErrorCode::kInvalidArgument, "limit is a number from 1 to 1000", "invalid_field");
    return std::min<std::size_t>(limit, 1000);
  }

  // Why it is as it is now, and why whoever waits for it waits.
  json::value situation_of(const ModelId& model) const {
    const Snapshot snapshot = runtime_.snapshot();
    const auto view =
        std::ranges::find(snapshot.models, model, [](const ModelView& v) { return v.model.id; });
    if (view == snapshot.models.end()) return nullptr;
    std::optional<InstanceView> instance = view->instance;
    if (view->model.remote) {
      const auto upstream = std::ranges::find(snapshot.upstreams, view->model.remote->upstream,
                                              [](const UpstreamView& v) { return v.upstream.id; });
      if (upstream != snapshot.upstreams.end()) instance = upstream->instance;
    }
    json::object now{{"state", to_string(view->state)},
                     {"detail", instance ? to_string(instance->state) : "absent"},
                     {"waiting", instance ? instance->waiting : 0},
                     {"expected_wait", nullptr},
                     {"why", instance ? instance->why : std::string()}};
    if (instance && instance->expected) now["expected_wait"] = to_json(*instance->expected);
    if (view->model.problem) now["why"] = view->model.problem->message;
    return now;
  }

  // Whose the model is, where it is not ours; and what it is measured to hold, where it is alone there.
  static json::value upstream_of(const ModelView& view, const Snapshot& snapshot) {
    if (!view.model.remote) return nullptr;
    const UpstreamId& id = view.model.remote->upstream;
    json::object answer{{"id", id.str()}, {"held_bytes", json::object()}};
    const auto upstream =
        std::ranges::find(snapshot.upstreams, id, [](const UpstreamView& v) { return v.upstream.id; });
    if (upstream == snapshot.upstreams.end() || !upstream->instance) return answer;
    if (view.state == PublishedState::kLoading) answer["waiting"] = upstream->instance->waiting;
    if (view.state != PublishedState::kReady || upstream->residents.size() != 1) return answer;
    answer["held_bytes"] = to_json(upstream->instance->held);
    answer["active"] = upstream->instance->active;
    answer["waiting"] = upstream->instance->waiting;
    return answer;
  }

  Result<ModelId> model_of(const json::object& body) const {
    LM_TRY(const auto name, string_field(body, "model"));
    if (!name || name->empty())
      return fail(ErrorCode::kInvalidArgument, "\"model\" is missing: say which", "missing_field");
    return runtime_.catalog().resolve(*name);
  }

  json::object loaded_json(const ModelId& model, const runtime::Job& job) const {
    const Snapshot snapshot = runtime_.snapshot();
    json::object answer{{"model", model.str()},    {"changed", job.result.changed},
                        {"state", "unloaded"},     {"kind", nullptr},
                        {"phases", json::array()}, {"took_s", seconds(job.ended_at - job.asked_at)},
                        {"instance", nullptr},     {"release", nullptr},
                        {"switch", nullptr}};
    if (job.result.release) answer["release"] = to_json(*job.result.release);
    if (job.result.switched) answer["switch"] = to_json(*job.result.switched);
    const auto view =
        std::ranges::find(snapshot.models, model, [](const ModelView& v) { return v.model.id; });
    if (view == snapshot.models.end()) return answer;
    answer["state"] = to_string(view->state);
    answer["kind"] = to_string(view->model.kind);
    if (view->instance) {
      answer["phases"] = to_json(runtime_.phases(view->instance->id));
      answer["instance"] = to_json(*view->instance, runtime_.report(view->instance->id), snapshot.now);
    }
    return answer;
  }

  Task<> stream_load(http::Exchange& exchange, ModelId model, JobId job,
                     runtime::EventHub::Subscription subscription) {
    if (!exchange.begin(200, event_stream_headers())) co_return;
    for (;;) {
      const runtime::Job* found = runtime_.jobs().find(job);
      if (found == nullptr) co_return;
      if (found->done) {
        const std::string text = found->error
                                     ? http::sse_event(json_text(error_json(*found->error)), "error")
                                     : http::sse_event(json_text(loaded_json(model, *found)), "done");
        co_await exchange.end(text);
        co_return;
      }
      const auto happening = co_await subscription.next(kHeartbeat);
      std::string text =
          happening ? progress_text(*happening, model) : http::sse_comment(runtime_.waiting_note(model));
      if (!text.empty() && !co_await exchange.write(text)) co_return;
    }
  }

  std::string progress_text(const runtime::Happening& happening, const ModelId& model) const {
    json::object datum;
    if (const auto* progress = std::get_if<runtime::Progress>(&happening.news);
        progress != nullptr && progress->model == model) {
      const Model* known = runtime_.catalog().find(model);
      datum = {{"model", model.str()}, {"state", "loading"}, {"detail", "loading"}};
      const json::object seen =
          load_progress(known != nullptr && known->remote, progress->stage, progress->fraction);
      for (const auto& [name, value] : seen) datum[name] = value;
    } else if (const auto* import = std::get_if<runtime::ImportProgressed>(&happening.news);
               import != nullptr && import->model == model) {
      datum = {{"model", model.str()},
               {"state", "loading"},
               {"detail", "importing"},
               {"stage", "importing"},
               {"fraction", import->fraction}};
    } else if (const auto* pull = std::get_if<runtime::Pull>(&happening.news);
               pull != nullptr && pull->id == runtime_.fetch_of(model)) {
      const auto total = static_cast<double>(pull->total.count());
      datum = {{"model", model.str()},
               {"state", "loading"},
               {"detail", "fetching"},
               {"stage", "fetching"},
               {"fraction", total > 0 ? static_cast<double>(pull->done.count()) / total : 0}};
    } else if (const auto* state = std::get_if<PublishState>(&happening.news);
               state != nullptr && state->model == model && state->state != InstanceState::kAbsent) {
      datum = {{"model", model.str()},
               {"state", to_string(published(state->state))},
               {"detail", to_string(state->state)},
               {"stage", nullptr},
               {"fraction", 0.0}};
    } else {
      return {};
    }
    return http::sse_event(json_text(datum), "progress");
  }

  runtime::Runtime& runtime_;
  const DaemonFacts& facts_;
};

}  // namespace

std::string who_asks(const http::Request& request) {
  if (const auto name = request.headers.get("X-Client-Name")) return std::string(name->substr(0, 64));
  return request.peer.kind == http::Peer::Kind::kRemote ? "a client at " + request.peer.address
                                                        : "a local client";
}

std::string switch_report(const Switch& change, std::int64_t at_ms) {
  json::object report = to_json(change);
  report["at_ms"] = at_ms;
  return json_text(report);
}

void add_manager_routes(http::Router& router, runtime::Runtime& runtime, const DaemonFacts& facts) {
  const auto manager = std::make_shared<Administration>(runtime, facts);
  using enum http::Method;
  using Call = Task<> (Administration::*)(http::Exchange&);
  const auto add = [&](http::Method method, std::string_view pattern, Call call, http::Principal needs) {
    router.add(method, pattern,
               http::Route{[manager, call](http::Exchange& exchange) { return ((*manager).*call)(exchange); },
                           needs});
  };
  constexpr auto kUser = http::Principal::kUser;
  constexpr auto kAdmin = http::Principal::kAdmin;
  add(kGet, "/api/v1/models", &Administration::list_models, kUser);
  add(kPost, "/api/v1/models/load", &Administration::load, kAdmin);
  add(kPost, "/api/v1/models/unload", &Administration::unload, kAdmin);
  add(kPost, "/api/v1/models/inspect", &Administration::inspect, kAdmin);
  add(kPost, "/api/v1/models/plan", &Administration::plan, kAdmin);
  add(kGet, "/api/v1/switch", &Administration::selection, kUser);
  add(kPost, "/api/v1/switch", &Administration::choose, kAdmin);
  add(kGet, "/api/v1/switches", &Administration::list_switches, kUser);
  add(kGet, "/api/v1/upstreams", &Administration::list_upstreams, kUser);
  add(kGet, "/api/v1/jobs/{job}", &Administration::job, kUser);
  add(kGet, "/api/v1/instances", &Administration::list_instances, kUser);
  add(kGet, "/api/v1/devices", &Administration::list_devices, kUser);
  add(kGet, "/api/v1/events", &Administration::events, kUser);
  add(kGet, "/api/v1/explain", &Administration::explain, kUser);
  add(kGet, "/api/v1/system", &Administration::system, kUser);
  add(kGet, "/api/v1/settings", &Administration::settings, kAdmin);
  add(kGet, "/api/v1/diagnose", &Administration::diagnose, kUser);
  router.add(
      kPost, "/api/v1/models/pin",
      http::Route{[manager](http::Exchange& exchange) { return manager->pin(exchange, true); }, kAdmin});
  router.add(
      kPost, "/api/v1/models/unpin",
      http::Route{[manager](http::Exchange& exchange) { return manager->pin(exchange, false); }, kAdmin});
}

}  // namespace lm::api

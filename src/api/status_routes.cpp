// What machines ask: is it alive, what is there, what are the numbers.
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "api/diagnosis.h"
#include "api/json_body.h"
#include "api/manager_routes.h"

namespace lm::api {
namespace {

namespace json = boost::json;

json::value age(const std::optional<TimePoint>& at, TimePoint now) {
  if (!at) return nullptr;
  return seconds(now - *at);
}

class Status {
 public:
  Status(runtime::Runtime& runtime, const DaemonFacts& facts) : runtime_(runtime), facts_(facts) {}

  Task<> health(http::Exchange& exchange) {
    const Snapshot snapshot = runtime_.snapshot();
    json::array troubles;
    for (const UpstreamView& view : snapshot.upstreams) {
      if (view.stuck) troubles.push_back(json::value_from(view.stuck->message));
      if (view.intrudes) troubles.push_back(json::value_from(intrusion_text(view)));
    }
    // Answers that run are finished, and whoever asks anew had better ask elsewhere.
    const char* status = runtime_.ending() ? "stopping" : troubles.empty() ? "ok" : "degraded";
    co_await answer_json(exchange,
                         {{"status", status},
                          {"troubles", troubles},
                          {"version", facts_.version},
                          {"uptime_s", seconds(snapshot.now - facts_.started_at)},
                          {"waiting", snapshot.waiting},
                          {"oldest_waiting_s", age(snapshot.oldest_waiting, snapshot.now)},
                          {"last_transition_s", age(snapshot.last_transition, snapshot.now)}},
                         runtime_.ending() ? 503 : 200);
  }

  Task<> metrics(http::Exchange& exchange) {
    // Made anew for each scrape out of one snapshot, so that the numbers belong together.
    prometheus::Registry registry;
    const auto gauge = [&](const char* name, const char* help) -> prometheus::Family<prometheus::Gauge>& {
      return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
    };
    const Snapshot snapshot = runtime_.snapshot();
    gauge("llm_manager_uptime_seconds", "Seconds since the daemon started")
        .Add({})
        .Set(seconds(snapshot.now - facts_.started_at));
    gauge("llm_manager_requests_waiting", "Requests that wait for their model").Add({}).Set(snapshot.waiting);
    gauge("llm_manager_oldest_waiting_seconds", "Age of the oldest waiting request")
        .Add({})
        .Set(snapshot.oldest_waiting ? seconds(snapshot.now - *snapshot.oldest_waiting) : 0);
    auto& state = gauge("llm_manager_model_ready", "1 where the model is in memory and serves");
    auto& active = gauge("llm_manager_model_active_requests", "Requests that the model serves now");
    auto& held = gauge("llm_manager_model_held_bytes", "Memory that the model's worker holds");
    for (const ModelView& view : snapshot.models) {
      const prometheus::Labels labels{{"model", view.model.id.str()}};
      state.Add(labels).Set(view.state == PublishedState::kReady ? 1 : 0);
      if (!view.instance) continue;
      active.Add(labels).Set(view.instance->active);
      for (const auto& [device, bytes] : view.instance->held) {
        held.Add({{"model", view.model.id.str()}, {"device", device.str()}})
            .Set(static_cast<double>(bytes.count()));
      }
    }
    gauge("llm_manager_models_wanted",
          "Models that are wanted at the same time, expected: the sum of 1 - e^-lambda T")
        .Add({})
        .Set(snapshot.demand.wanted);
    gauge("llm_manager_models_fit", "Of the models that are asked for, those that fit together")
        .Add({})
        .Set(snapshot.demand.fit);
    auto& rates =
        gauge("llm_manager_model_requests_per_second", "Rate at which the model is asked for, lately");
    for (const DemandView::Row& row : snapshot.demand.rows)
      rates.Add({{"model", row.model.str()}}).Set(row.rate);
    struct Column {
      const char* name;
      const char* help;
      Bytes DeviceView::* field;
    };
    constexpr Column kColumns[] = {
        {"llm_manager_device_reserved_bytes", "Promised to our models", &DeviceView::reserved},
        {"llm_manager_device_used_bytes", "Measured use of our models", &DeviceView::used},
        {"llm_manager_device_external_bytes", "Measured use of processes that are not ours",
         &DeviceView::external},
        {"llm_manager_device_available_bytes", "What a further model may take", &DeviceView::available}};
    for (const Column& column : kColumns) {
      auto& family = gauge(column.name, column.help);
      for (const DeviceView& view : snapshot.devices)
        family.Add({{"device", view.device.id.str()}}).Set(static_cast<double>((view.*column.field).count()));
    }
    const runtime::StateKeeper::Figures kept = runtime_.conversations();
    auto& states = gauge("llm_manager_states_bytes", "Kept conversations of unloaded models");
    states.Add({{"place", "memory"}}).Set(static_cast<double>(kept.memory.count()));
    states.Add({{"place", "disk"}}).Set(static_cast<double>(kept.disk.count()));
    gauge("llm_manager_states", "Kept conversations").Add({}).Set(kept.conversations);
    const auto count = [&](const char* name, const char* help) -> prometheus::Family<prometheus::Counter>& {
      return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
    };
    count("llm_manager_preemptions_total", "Answers that were set aside for others and continued later")
        .Add({})
        .Increment(static_cast<double>(runtime_.preemptions()));
    auto& saves = count("llm_manager_state_saves_total", "Conversations saved; failed: whole attempts");
    saves.Add({{"result", "ok"}}).Increment(static_cast<double>(kept.saved));
    saves.Add({{"result", "failed"}}).Increment(static_cast<double>(kept.save_failures));
    auto& restores = count("llm_manager_state_restores_total",
                           "Conversations put back; mismatch: of them, those that were read again");
    restores.Add({{"result", "ok"}}).Increment(static_cast<double>(kept.restored));
    restores.Add({{"result", "mismatch"}}).Increment(static_cast<double>(kept.mismatches));
    restores.Add({{"result", "failed"}}).Increment(static_cast<double>(kept.restore_failures));
    count("llm_manager_state_tokens_reused_total",
          "Tokens of restored conversations that were not read again")
        .Add({})
        .Increment(static_cast<double>(kept.tokens_reused));
    co_await exchange.respond({.status = 200,
                               .headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
                               .body = prometheus::TextSerializer().Serialize(registry.Collect())});
  }

  Task<> list(http::Exchange& exchange) {
    json::array data;
    for (const Model& model : runtime_.catalog().models()) data.push_back(openai_model(model));
    co_await answer_json(exchange, {{"object", "list"}, {"data", std::move(data)}});
  }

  Task<> show(http::Exchange& exchange) {
    const auto id = runtime_.catalog().resolve(exchange.request().path_value("model"));
    if (!id) co_return co_await answer_error(exchange, id.error());
    co_await answer_json(exchange, openai_model(*runtime_.catalog().find(*id)));
  }

 private:
  static json::object openai_model(const Model& model) {
    return {{"id", model.id.str()}, {"object", "model"}, {"created", 0}, {"owned_by", "llm-manager"}};
  }

  runtime::Runtime& runtime_;
  const DaemonFacts& facts_;
};

}  // namespace

void add_status_routes(http::Router& router, runtime::Runtime& runtime, const DaemonFacts& facts) {
  const auto status = std::make_shared<Status>(runtime, facts);
  const auto add = [&](std::string_view pattern, Task<> (Status::*call)(http::Exchange&),
                       http::Principal needs) {
    router.add(
        http::Method::kGet, pattern,
        http::Route{[status, call](http::Exchange& exchange) { return ((*status).*call)(exchange); }, needs});
  };
  add("/health", &Status::health, http::Principal::kNone);
  add("/metrics", &Status::metrics, http::Principal::kUser);
  add("/v1/models", &Status::list, http::Principal::kUser);
  add("/v1/models/{model...}", &Status::show, http::Principal::kUser);
}

}  // namespace lm::api

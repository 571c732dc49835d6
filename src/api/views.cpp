#include "api/views.h"

#include "api/error_shape.h"

namespace lm::api {
namespace {

namespace json = boost::json;

json::value seconds_until(const std::optional<TimePoint>& at, TimePoint now) {
  if (!at) return nullptr;
  return std::max(0.0, seconds(*at - now));
}

json::value error_or_null(const std::optional<Error>& error) {
  if (!error) return nullptr;
  return error_json(*error).at("error");
}

json::array holders_json(const std::vector<Holder>& holders) {
  json::array array;
  for (const Holder& holder : holders)
    array.push_back({{"pid", holder.pid}, {"name", holder.name}, {"bytes", holder.bytes.count()}});
  return array;
}

json::object fields_json(const std::vector<Error::Field>& fields) {
  json::object object;
  for (const auto& [name, value] : fields) std::visit([&](const auto& v) { object[name] = v; }, value);
  return object;
}

// The engine's own account, device by device.
json::object engine_account(const std::vector<DeviceMemory>& memory) {
  json::object devices;
  for (const DeviceMemory& device : memory) {
    devices[device.device.str()] = {{"weights", device.weights.count()},
                                    {"mapped", device.mapped.count()},
                                    {"context", device.context.count()},
                                    {"compute", device.compute.count()}};
  }
  return devices;
}

// Where its layers are; null of a single device: all that are not the host's.
json::array shares_json(const std::vector<LayerShare>& shares) {
  json::array array;
  for (const LayerShare& share : shares) {
    json::value layers;
    if (share.layers > 0) layers = share.layers;
    array.push_back({{"device", share.device.str()}, {"layers", std::move(layers)}});
  }
  return array;
}

// Of a worker that is still there: once it is reaped, the number may be anybody's.
json::value running_pid(const InstanceView& view) {
  const bool gone = view.state == InstanceState::kReclaiming || view.state == InstanceState::kFailed;
  if (gone || view.pid == 0) return nullptr;
  return view.pid;
}

}  // namespace

json::object to_json(const DeviceBytes& bytes) {
  json::object object;
  for (const auto& [device, amount] : bytes) object[device.str()] = amount.count();
  return object;
}

json::object to_json(const ExpectedWait& wait) {
  json::object object{{"position", wait.position},
                      {"wait_s", seconds(wait.wait)},
                      {"holder", nullptr},
                      {"held_for_s", nullptr}};
  if (wait.holder.empty()) return object;
  object["holder"] = wait.holder.str();
  object["held_for_s"] = seconds(wait.held_for);
  return object;
}

json::object to_json(const ReleaseReport& report) {
  json::array devices;
  for (const auto& row : report.devices) {
    devices.push_back({{"device", row.device.str()},
                       {"before", row.before.count()},
                       {"after", row.after.count()},
                       {"freed", row.freed.count()},
                       {"expected", row.expected.count()},
                       {"residual", row.residual.count()},
                       {"device_free_before", row.device_free_before.count()},
                       {"device_free_after", row.device_free_after.count()}});
  }
  return {{"devices", std::move(devices)},
          {"before", report.before.count()},
          {"after", report.after.count()},
          {"freed", report.freed.count()},
          {"expected", report.expected.count()},
          {"residual", report.residual.count()},
          {"reclaimable", report.reclaimable.count()},
          {"holders", holders_json(report.holders)},
          {"proved", report.proved()},
          {"outcome", to_string(report.outcome)},
          {"method", report.method},
          {"took_s", seconds(report.took)}};
}

json::object load_progress(bool is_upstreams, LoadStage stage, double fraction) {
  if (is_upstreams) return {{"stage", "upstream"}, {"fraction", nullptr}};
  return {{"stage", to_string(stage)}, {"fraction", fraction}};
}

json::object to_json(const InstanceView& view, const std::optional<backend::WorkerReport>& report,
                     TimePoint now) {
  json::object object{{"id", view.id.value()},
                      {"model", view.model.str()},
                      {"state", to_string(published(view.state))},
                      {"detail", to_string(view.state)},
                      {"reason", view.why},
                      {"since_s", std::max(0.0, seconds(now - view.since))},
                      {"slots", view.slots},
                      {"context", view.context},
                      {"active", view.active},
                      {"waiting", view.waiting},
                      {"expected_wait", nullptr},
                      {"pid", running_pid(view)},
                      {"reserved", to_json(view.reserved)},
                      {"held_bytes", to_json(view.held)},
                      {"placement", shares_json(view.shares)},
                      {"reclaimable", view.reclaimable.count()},
                      {"expires_in_s", seconds_until(view.expires_at, now)},
                      {"retry_in_s", seconds_until(view.retry_at, now)},
                      {"memory", nullptr},
                      {"context_train", nullptr},
                      {"capabilities", json::array()}};
  if (view.expected) object["expected_wait"] = to_json(*view.expected);
  if (report) {
    object["memory"] = engine_account(report->memory);
    object["context_train"] = report->context_train;
    object["capabilities"] = json::value_from(report->capabilities);
  }
  return object;
}

json::object to_json(const ModelView& view, const runtime::Runtime& runtime, TimePoint now) {
  const Model& model = view.model;
  json::object object{
      {"id", model.id.str()},
      {"kind", to_string(model.kind)},
      {"family", to_string(model.family)},
      {"aliases", json::value_from(model.aliases)},
      {"roles", json::value_from(runtime.catalog().roles_of(model.id))},
      {"state", to_string(view.state)},
      {"detail", view.instance ? to_string(view.instance->state) : to_string(InstanceState::kAbsent)},
      {"reason", view.instance ? view.instance->why : std::string()},
      {"pinned", view.pinned},
      {"held", nullptr},
      {"path", model.artifact.path.string()},
      {"size", model.artifact.size.count()},
      {"origin", model.origin},
      {"footprint", nullptr},
      {"progress", nullptr},
      {"instance", nullptr},
      {"error", nullptr}};
  if (!view.held_by.empty()) object["held"] = {{"by", view.held_by}, {"since_ms", view.held_since_ms}};
  if (view.footprint) {
    object["footprint"] = {{"bytes", to_json(view.footprint->bytes)},
                           {"total", view.footprint->bytes.total().count()},
                           {"source", to_string(view.footprint->source)}};
  }
  if (view.instance) {
    object["instance"] = to_json(*view.instance, runtime.report(view.instance->id), now);
    object["error"] = error_or_null(view.instance->error);
    if (view.state == PublishedState::kLoading)
      object["progress"] =
          load_progress(view.model.remote.has_value(), view.instance->stage, view.instance->fraction);
  }
  if (view.error) {
    object["error"] = error_or_null(view.error);
    object["reason"] = view.error->message;
  }
  if (model.problem) {
    object["error"] = error_json(*model.problem).at("error");
    object["reason"] = model.problem->message;
    object["state"] = to_string(PublishedState::kFailed);
  }
  return object;
}

json::object to_json(const DeviceView& view, const DeviceReading* reading) {
  const Device& device = view.device;
  json::object object{{"id", device.id.str()},
                      {"kind", to_string(device.kind)},
                      {"name", device.name},
                      {"capacity", device.capacity.count()},
                      {"headroom", device.headroom.count()},
                      {"limit", nullptr},
                      {"reserved", view.reserved.count()},
                      {"used", view.used.count()},
                      {"external", view.external.count()},
                      {"available", view.available.count()},
                      {"free", nullptr},
                      {"holders", json::array()}};
  if (device.kind != DeviceKind::kHost) {
    object["driver"] = device.driver;
    object["display"] = device.display;
    object["part_of_a_card"] = device.is_part;
    object["usable"] = device.usable;
    if (!device.server.empty()) object["server"] = device.server;
  }
  if (device.limit) object["limit"] = device.limit->count();
  if (reading != nullptr) {
    object["free"] = reading->free.count();
    object["holders"] = holders_json(reading->holders);
    object["per_process"] = reading->per_process;
    if (!reading->unknown.empty()) object["unknown"] = reading->unknown;
    if (reading->utilization) object["utilization"] = *reading->utilization;
    if (reading->celsius) object["celsius"] = *reading->celsius;
    if (reading->milliwatts) object["watts"] = *reading->milliwatts / 1000.0;
  }
  return object;
}

json::object to_json(const LoadPlan& plan) {
  json::array rows;
  Bytes total;
  for (const LoadPlan::Row& row : plan.rows) {
    total += row.needed;
    rows.push_back({{"device", row.parts.device.str()},
                    {"weights", row.parts.weights.count()},
                    {"mapped", row.parts.mapped.count()},
                    {"context", row.parts.context.count()},
                    {"compute", row.parts.compute.count()},
                    {"needed", row.needed.count()},
                    {"free", row.free.count()},
                    {"credit", row.credit.count()}});
  }
  json::array evicts;
  for (const ModelId& model : plan.evicts) evicts.push_back(json::string(model.str()));
  json::object object{{"verdict", to_string(plan.verdict)},
                      {"source", to_string(plan.source)},
                      {"placement", shares_json(plan.shares)},
                      {"devices", std::move(rows)},
                      {"needed", total.count()},
                      {"evicts", std::move(evicts)},
                      {"limit", plan.limit},
                      {"limiting_device", nullptr}};
  if (plan.device) object["limiting_device"] = plan.device->str();
  return object;
}

json::object to_json(const backend::Inspection& i) {
  json::object predicted = engine_account(i.predicted);
  Bytes total;
  for (const DeviceMemory& device : i.predicted) total += device.weights + device.context + device.compute;
  return {{"name", i.name},
          {"architecture", i.architecture},
          {"kind", to_string(i.kind)},
          {"quantization", i.quantization},
          {"parameters", i.parameters},
          {"size", i.size.count()},
          {"layers", i.layers},
          {"context_train", i.context_train},
          {"chat_template", i.chat_template},
          {"fingerprint", i.fingerprint},
          {"conversations", {{"kept", i.keeps_conversations}, {"why", i.conversations}}},
          {"predicted", std::move(predicted)},
          {"predicted_total", total.count()}};
}

json::object to_json(const runtime::StoredDecision& stored) {
  return {{"at_ms", stored.at_ms},
          {"kind", to_string(stored.decision.kind)},
          {"model", stored.decision.model.str()},
          {"why", stored.decision.why},
          {"fields", fields_json(stored.decision.fields)}};
}

json::array to_json(const std::vector<Phase>& phases) {
  json::array array;
  for (const Phase& phase : phases) array.push_back({{"name", phase.name}, {"seconds", seconds(phase.took)}});
  return array;
}

json::object to_json(const runtime::Job& job) {
  json::object object{
      {"job", job.id.value()}, {"kind", job.kind}, {"model", job.model.str()}, {"done", job.done}};
  if (job.done) {
    object["error"] = error_or_null(job.error);
    json::object result{{"changed", job.result.changed}, {"release", nullptr}};
    if (job.result.release) result["release"] = to_json(*job.result.release);
    if (job.result.switched) result["switch"] = to_json(*job.result.switched);
    object["result"] = std::move(result);
  }
  return object;
}

json::object to_json(const Switch& change) {
  json::array released;
  for (const Switch::Release& release : change.released)
    released.push_back({{"model", release.model.str()}, {"report", to_json(release.report)}});
  json::object object{{"id", change.id},
                      {"from", to_string(change.from)},
                      {"to", to_string(change.to)},
                      {"from_model", change.from_model.str()},
                      {"to_model", change.to_model.str()},
                      {"to_remote", change.to_remote},
                      {"who", change.who},
                      {"stage", to_string(change.stage)},
                      {"released", std::move(released)},
                      {"release", nullptr},
                      {"fit_would_have_kept", change.fit_would_have_kept.count()},
                      {"took_s", seconds(change.took)},
                      {"error", error_or_null(change.error)}};
  if (change.release) object["release"] = to_json(*change.release);
  return object;
}

json::object to_json(const UpstreamView& view, TimePoint now) {
  json::array residents;
  for (const Resident& resident : view.residents)
    residents.push_back(
        {{"name", resident.name}, {"kind", to_string(resident.kind)}, {"bytes", resident.bytes.count()}});
  json::object object{{"id", view.upstream.id.str()}, {"family", to_string(view.upstream.family)},
                      {"url", view.upstream.url},     {"shares_devices", view.upstream.shares_devices},
                      {"reachable", view.reachable},  {"residents", std::move(residents)},
                      {"instance", nullptr},          {"stuck", error_or_null(view.stuck)}};
  if (view.instance) object["instance"] = to_json(*view.instance, {}, now);
  return object;
}

json::object to_json(const DemandView& demand) {
  json::array models;
  for (const DemandView::Row& row : demand.rows) {
    models.push_back({{"model", row.model.str()},
                      {"requests_per_s", row.rate},
                      {"wanted", row.wanted},
                      {"fits", row.fits}});
  }
  return {{"wanted", demand.wanted},
          {"fit", demand.fit},
          {"advice", demand.advice},
          {"models", std::move(models)}};
}

json::object to_json(const runtime::Pull& pull) {
  json::array models;
  for (const ModelId& model : pull.models) models.emplace_back(model.str());
  json::object out{{"id", pull.id},
                   {"source", pull.source},
                   {"folder", pull.folder.string()},
                   {"state", to_string(pull.state)},
                   {"stage", pull.stage},
                   {"done", pull.done.count()},
                   {"total", pull.total.count()},
                   {"bytes_per_s", pull.rate},
                   {"left_s", nullptr},
                   {"who", pull.who},
                   {"asked_at_ms", pull.asked_at_ms},
                   {"note", pull.note},
                   {"error", error_or_null(pull.error)},
                   {"files", json::value_from(pull.files)},
                   {"models", std::move(models)}};
  if (pull.rate > 0) out["left_s"] = static_cast<double>((pull.total - pull.done).count()) / pull.rate;
  return out;
}

std::string_view kind_of(const runtime::News& news) {
  struct Visitor {
    std::string_view operator()(const PublishState&) const { return "state"; }
    std::string_view operator()(const runtime::Progress&) const { return "progress"; }
    std::string_view operator()(const runtime::PhasesMeasured&) const { return "phases"; }
    std::string_view operator()(const Decision&) const { return "decision"; }
    std::string_view operator()(const runtime::ImportProgressed&) const { return "import"; }
    std::string_view operator()(const runtime::JobFinished&) const { return "job"; }
    std::string_view operator()(const runtime::ConfigReloaded&) const { return "config"; }
    std::string_view operator()(const Switch&) const { return "switch"; }
    std::string_view operator()(const runtime::Pull&) const { return "pull"; }
  };
  return std::visit(Visitor(), news);
}

json::object to_json(const runtime::Happening& happening) {
  struct Visitor {
    json::object operator()(const PublishState& s) const {
      json::object object{{"model", s.model.str()},
                          {"instance", s.instance.value()},
                          {"state", to_string(published(s.state))},
                          {"detail", to_string(s.state)},
                          {"cause", to_string(s.cause)},
                          {"error", error_or_null(s.error)}};
      if (s.release) object["release"] = to_json(*s.release);
      return object;
    }
    json::object operator()(const runtime::Progress& p) const {
      return {{"model", p.model.str()},
              {"instance", p.instance.value()},
              {"stage", to_string(p.stage)},
              {"fraction", p.fraction}};
    }
    json::object operator()(const runtime::PhasesMeasured& p) const {
      return {{"model", p.model.str()}, {"instance", p.instance.value()}, {"phases", to_json(p.phases)}};
    }
    json::object operator()(const Decision& d) const {
      return {{"kind", to_string(d.kind)},
              {"model", d.model.str()},
              {"why", d.why},
              {"fields", fields_json(d.fields)}};
    }
    json::object operator()(const runtime::ImportProgressed& p) const {
      return {{"model", p.model.str()}, {"job", p.job.value()}, {"fraction", p.fraction}};
    }
    json::object operator()(const runtime::JobFinished& j) const {
      return {{"job", j.job.value()}, {"error", error_or_null(j.error)}};
    }
    json::object operator()(const runtime::ConfigReloaded& c) const {
      return {{"changes", json::value_from(c.changes)}, {"warnings", json::value_from(c.warnings)}};
    }
    json::object operator()(const Switch& s) const { return to_json(s); }
    json::object operator()(const runtime::Pull& p) const { return to_json(p); }
  };
  json::object object = std::visit(Visitor(), happening.news);
  object["at_ms"] = happening.at_ms;
  return object;
}

}  // namespace lm::api

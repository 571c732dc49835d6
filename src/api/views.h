// The daemon's values as JSON, as docs/api.md describes them.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value_from.hpp>

#include "backend/workers.h"
#include "domain/snapshot.h"
#include "runtime/event_hub.h"
#include "runtime/jobs.h"
#include "runtime/runtime.h"

namespace lm::api {

boost::json::object to_json(const DeviceBytes& bytes);
boost::json::object to_json(const ReleaseReport& report);
boost::json::object to_json(const ExpectedWait& wait);
// `report`: what its worker told when it was ready; null before that.
boost::json::object to_json(const InstanceView& instance, const std::optional<backend::WorkerReport>& report,
                            TimePoint now);
// How far a load is: {"stage": …, "fraction": 0…1}. Of an upstream's model only that its upstream loads it.
boost::json::object load_progress(bool is_upstreams, LoadStage stage, double fraction);
boost::json::object to_json(const ModelView& view, const runtime::Runtime& runtime, TimePoint now);
boost::json::object to_json(const DeviceView& view, const DeviceReading* reading);
boost::json::object to_json(const LoadPlan& plan);
boost::json::object to_json(const backend::Inspection& inspection);
boost::json::object to_json(const runtime::StoredDecision& decision);
boost::json::array to_json(const std::vector<Phase>& phases);
boost::json::object to_json(const runtime::Job& job);
boost::json::object to_json(const Switch& change);
boost::json::object to_json(const UpstreamView& view, TimePoint now);
boost::json::object to_json(const DemandView& demand);
boost::json::object to_json(const runtime::Pull& pull);

// The kind of a happening ("state", "progress", …) and its datum.
std::string_view kind_of(const runtime::News& news);
boost::json::object to_json(const runtime::Happening& happening);

}  // namespace lm::api

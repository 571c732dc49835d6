// /api/v1: models, jobs, instances, devices, events, explain, system, diagnose. docs/api.md describes them.
#pragma once

#include <string>
#include <vector>

#include "http/router.h"
#include "runtime/runtime.h"

namespace lm::api {

// What only whoever wired the daemon knows.
struct DaemonFacts {
  std::string version;
  std::vector<std::string> listening;
  TimePoint started_at;
  bool has_dashboard = false;
};

// A switch that has ended as GET /api/v1/switches tells it: JSON.
std::string switch_report(const Switch& change, std::int64_t at_ms);

// `runtime` and `facts` must outlive the router.
void add_manager_routes(http::Router& router, runtime::Runtime& runtime, const DaemonFacts& facts);
// /api/v1/pull, /api/v1/pulls, /api/v1/models/remove. `runtime` must outlive the router.
void add_pull_routes(http::Router& router, runtime::Runtime& runtime);
// Who asks, as decisions, holds and pulls name him.
std::string who_asks(const http::Request& request);
// /health, /metrics, /v1/models.
void add_status_routes(http::Router& router, runtime::Runtime& runtime, const DaemonFacts& facts);

}  // namespace lm::api

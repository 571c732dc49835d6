// What `simulate` shows of its runs: tables for people, an object for programs. Pure.
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "cli/console.h"
#include "simulate/figures.h"

namespace lm::cli {

struct SimulatedRun {
  std::string policy;
  simulate::Outcome outcome;
};

// What was played: for both.
struct SimulatedSetting {
  simulate::Machine machine;
  double span_s = 0;  // of the workload
  std::size_t requests = 0;
  int clients = 0;  // that ask one after the other
  double offered_load =
      0;  // of what one model at a time can answer; 0 with clients: they ask for what they get
  double scale = 1;
  bool by_tokens = true;
};

// The setting in a few lines; a table for each run, and where there are several one that compares them.
std::string simulation_text(const SimulatedSetting& setting, const std::vector<SimulatedRun>& runs,
                            const Stream& stream);
boost::json::object simulation_json(const SimulatedSetting& setting, const std::vector<SimulatedRun>& runs);

}  // namespace lm::cli

#include "simulate/figures.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace lm::simulate {
namespace {

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  const auto at = [&](double share) {
    const auto place =
        std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())));
    std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(place));
    return values[place];
  };
  Spread spread{.mean = 0, .p50 = at(0.5), .p99 = at(0.99), .max = std::ranges::max(values)};
  // Added up in order of size, so that the same values give the same mean whoever counts them.
  std::ranges::sort(values);
  for (const double value : values) spread.mean += value;
  spread.mean /= static_cast<double>(values.size());
  return spread;
}

struct Sample {
  Figures figures;
  std::vector<double> waits, totals;

  void add(const Answered& answer) {
    switch (answer.fate) {
      case Answered::Fate::kNotAsked:
        return;
      case Answered::Fate::kAnswered:
        ++figures.served;
        waits.push_back(seconds(answer.granted - answer.asked));
        totals.push_back(seconds(answer.ended - answer.asked));
        if (answer.expected) {
          Foresight& f = figures.foresight;
          ++f.told;
          f.expected += seconds(*answer.expected);
          f.actual += waits.back();
          f.error += std::abs(waits.back() - seconds(*answer.expected));
        }
        break;
      case Answered::Fate::kRefused:
        ++figures.refused;
        break;
      case Answered::Fate::kCut:
        ++figures.cut;
        break;
      case Answered::Fate::kWaiting:
      case Answered::Fate::kAnswering:
        ++figures.left;
        break;
    }
    ++figures.requests;
  }

  Figures result(double span) {
    figures.wait = spread_of(std::move(waits));
    figures.total = spread_of(std::move(totals));
    if (Foresight& f = figures.foresight; f.told > 0) {
      for (double* mean : {&f.expected, &f.actual, &f.error}) *mean /= static_cast<double>(f.told);
    }
    const auto served = static_cast<double>(figures.served);
    if (span > 0) figures.served_per_s = served / span;
    if (figures.served > 0) figures.swaps_per_request = static_cast<double>(figures.loads) / served;
    return std::move(figures);
  }
};

// For each of the workload's models, which of the machine's it is.
std::vector<std::size_t> places_of(const Machine& machine, const Workload& workload) {
  std::vector<std::size_t> places;
  for (const std::string& name : workload.models) {
    places.push_back(static_cast<std::size_t>(std::ranges::find(machine.models, name, &SimulatedModel::name) -
                                              machine.models.begin()));
  }
  return places;
}

}  // namespace

Outcome figures(const RunRecord& run, const Machine& machine, const Workload& workload) {
  const std::vector<std::size_t> places = places_of(machine, workload);
  Sample all;
  std::vector<Sample> models(machine.models.size());
  for (std::size_t i = 0; i < models.size(); ++i) {
    Figures& f = models[i].figures;
    f.name = machine.models[i].name;
    f.assumed = machine.models[i].assumed;
    f.loads = run.models[i].loads;
    f.preempted = run.models[i].preempted;
    f.moved = run.models[i].moved;
    all.figures.loads += f.loads;
    all.figures.preempted += f.preempted;
    all.figures.moved += f.moved;
  }
  for (std::size_t i = 0; i < workload.arrivals.size(); ++i) {
    const Arrival& arrival = workload.arrivals[i];
    all.add(run.answers[i]);
    models[places[static_cast<std::size_t>(arrival.model)]].add(run.answers[i]);
  }
  Outcome outcome{.all = {}, .models = {}, .span_s = seconds(run.ended), .demand = run.demand};
  outcome.all = all.result(outcome.span_s);
  for (Sample& model : models) outcome.models.push_back(model.result(outcome.span_s));
  return outcome;
}

double offered_load(const Machine& machine, const Workload& workload) {
  if (workload.clients > 0) return 0;
  const std::vector<std::size_t> places = places_of(machine, workload);
  double work = 0;
  for (const Arrival& arrival : workload.arrivals) {
    const SimulatedModel& model = machine.models[places[static_cast<std::size_t>(arrival.model)]];
    const Duration service =
        workload.by_tokens ? model.service(arrival.context, arrival.generated) : arrival.service;
    work += seconds(service) / model.slots;
  }
  const double span = seconds(workload.span());
  return span > 0 ? work / span : 0;
}

}  // namespace lm::simulate

// The control loop: the one owner of the arbiter. Whatever happens is posted here as an event; what the
// arbiter decides is handed to the command runner, in order.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>

#include "base/clock.h"
#include "core/arbiter.h"

namespace lm::runtime {

// The daemon's one thread. post() may be called from anywhere on it, also while commands run: then the event
// waits its turn, so that the arbiter never sees two at a time.
class ControlLoop {
 public:
  using Runner = std::function<void(const Command&)>;
  using Recorder = std::function<void(const Event&, TimePoint)>;

  // `clock` must outlive it.
  ControlLoop(boost::asio::any_io_executor executor, const Clock& clock, Settings settings);
  ~ControlLoop();

  // Set once, before the first event.
  void run_commands_with(Runner runner) { runner_ = std::move(runner); }
  // Sees every event before the arbiter does: a recorded day replays.
  void record_with(Recorder recorder) { recorder_ = std::move(recorder); }

  void post(Event event);
  Snapshot snapshot() const { return arbiter_.snapshot(clock_.now()); }
  std::optional<ExpectedWait> expected_wait(RequestId request) const {
    return arbiter_.expected_wait(request, clock_.now());
  }
  LoadPlan plan(const ModelId& model, const LoadOptions& options, const Forecast& forecast) const {
    return arbiter_.plan(model, options, forecast);
  }
  TimePoint now() const { return clock_.now(); }

 private:
  void arm(TimePoint at);

  struct Timer;
  const Clock& clock_;
  core::Arbiter arbiter_;
  Runner runner_;
  Recorder recorder_;
  std::deque<Event> events_;
  bool stepping_ = false;
  std::shared_ptr<Timer> timer_;
};

}  // namespace lm::runtime

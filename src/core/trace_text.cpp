#include "core/trace_text.h"

#include <fmt/format.h>

namespace lm::core {
namespace {

std::string text_of(const DeviceBytes& bytes) {
  std::string text;
  for (const auto& [device, n] : bytes) text += fmt::format(" {}={}", device.str(), to_string(n));
  return text;
}

// What most events and commands have in common, by the names of their members.
template <class T>
std::string describe(const T& x) {
  std::string text;
  if constexpr (requires { x.request.value(); }) text += fmt::format(" r{}", x.request.value());
  if constexpr (requires { x.requests.front().value(); }) {
    for (const auto& request : x.requests) text += fmt::format(" r{}", request.value());
  }
  if constexpr (requires { x.preemptible; }) text += x.preemptible ? " preemptible" : "";
  if constexpr (requires { x.job.value(); }) text += fmt::format(" j{}", x.job.value());
  if constexpr (requires { x.instance.value(); }) text += fmt::format(" i{}", x.instance.value());
  if constexpr (requires { x.model.str(); }) text += fmt::format(" {}", x.model.str());
  if constexpr (requires { x.model->str(); }) text += fmt::format(" {}", x.model ? x.model->str() : "all");
  if constexpr (requires { x.wait.position; })
    text += fmt::format(" position {} in {:.3f} s", x.wait.position, seconds(x.wait.wait));
  if constexpr (requires { x.reservation; }) text += text_of(x.reservation);
  if constexpr (requires { x.held.begin(); }) text += text_of(x.held);
  if constexpr (requires { x.residual.begin(); }) text += " residual" + text_of(x.residual);
  if constexpr (requires { x.footprint->bytes; }) {
    if (x.footprint) text += text_of(x.footprint->bytes);
  }
  if constexpr (requires { x.how; }) text += " " + x.how;
  if constexpr (requires { x.decision; })
    text += fmt::format(" {} {}: {}", to_string(x.decision.kind), x.decision.model.str(), x.decision.why);
  if constexpr (requires { x.state; }) text += fmt::format(" {}", to_string(x.state));
  if constexpr (requires { x.cause; }) text += fmt::format(" {}", to_string(x.cause));
  if constexpr (requires { x.error.message; }) text += " error: " + x.error.message;
  if constexpr (requires { x.error->message; }) {
    if (x.error) text += " error: " + x.error->message;
  }
  if constexpr (requires { x.at.time_since_epoch(); })
    text += fmt::format(" at {:.3f}", seconds(x.at.time_since_epoch()));
  if constexpr (requires { x.devices.front().free; }) {
    for (const auto& reading : x.devices)
      text += fmt::format(" {}:free={}", reading.device.str(), to_string(reading.free));
  }
  return text;
}

}  // namespace

std::string trace_text(const Event& event) {
  return std::visit([](const auto& e) { return describe(e); }, event);
}

std::string trace_text(const Command& command) {
  return std::visit([](const auto& c) { return describe(c); }, command);
}

}  // namespace lm::core

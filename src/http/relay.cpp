#include "http/relay.h"

#include <array>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace lm::http {

Headers end_to_end_headers(const Headers& headers) {
  static constexpr std::array<std::string_view, 9> kHopByHop = {"Connection",
                                                                "Keep-Alive",
                                                                "Proxy-Authenticate",
                                                                "Proxy-Authorization",
                                                                "Proxy-Connection",
                                                                "TE",
                                                                "Trailer",
                                                                "Transfer-Encoding",
                                                                "Upgrade"};
  std::vector<std::string> named;
  for (const Header& field : headers) {
    if (!equals_ignoring_case(field.name, "Connection")) continue;
    for_each_token(field.value, [&](std::string_view name) { named.emplace_back(name); });
  }
  const auto is_hop_by_hop = [&](std::string_view name) {
    for (const std::string_view one : kHopByHop) {
      if (equals_ignoring_case(one, name)) return true;
    }
    for (const std::string& one : named) {
      if (equals_ignoring_case(one, name)) return true;
    }
    return false;
  };
  Headers kept;
  for (const Header& field : headers) {
    if (!is_hop_by_hop(field.name)) kept.add(field.name, field.value);
  }
  return kept;
}

Task<Result<RelayReport>> relay(ClientResponse response, Exchange& exchange, PieceObserver observe) {
  const auto started = std::chrono::steady_clock::now();
  RelayReport report;
  if (!exchange.begun()) {
    Headers headers = end_to_end_headers(response.headers());
    LM_CO_TRY_VOID(exchange.begin(response.status(), std::move(headers)));
  }
  for (;;) {
    auto piece = co_await response.read();
    if (!piece) {
      Error error = std::move(piece).error();
      error.fields.emplace_back("relayed", static_cast<std::int64_t>(report.bytes));
      co_return std::unexpected(std::move(error));
    }
    if (!*piece) break;
    if (report.bytes == 0) report.first_piece = std::chrono::steady_clock::now() - started;
    report.bytes += (*piece)->size();
    if (observe) observe(**piece);
    // The end travels with the last bytes, where they came together too.
    if (response.complete()) {
      LM_CO_TRY_VOID(co_await exchange.end(**piece));
      co_await response.read();  // gives the connection back
      co_return report;
    }
    LM_CO_TRY_VOID(co_await exchange.write(**piece));
  }
  LM_CO_TRY_VOID(co_await exchange.end());
  co_return report;
}

}  // namespace lm::http

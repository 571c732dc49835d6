// An exchange that stands before a client's own and tells it the answer in another API's words. Whoever
// answers asks no differently than of any other.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/retelling.h"
#include "base/time.h"
#include "http/exchange.h"

namespace lm::api {

// Owned by its route, for as long as that runs. `client` outlives it and is used by nobody else meanwhile.
//
// The client's header is held back until there is something to tell: what fails before that is told with its
// own status, also where whoever answers has begun already. A stream that has nothing to tell for kQuiet gets
// its header and a sign of life all the same, and one after each further kQuiet.
class RetoldExchange final : public http::Exchange {
 public:
  // Real Ollama is silent until its model is loaded, so its clients wait; proxies between give up after a
  // minute, Node's fetch after five.
  static constexpr Duration kQuiet = std::chrono::seconds(20);

  // `question`: the request as whoever answers is to see it.
  RetoldExchange(http::Exchange& client, http::Request question, std::unique_ptr<Retelling> retelling,
                 std::function<TimePoint()> now);

  // Whoever answered has returned. An answer that was left in the middle is ended with an error, as far as
  // that can still be told.
  Task<> close();

  boost::asio::any_io_executor executor() const override { return to_.executor(); }
  Task<Result<void>> respond(http::Response response) override;
  Task<Result<void>> fail(int status, Error error) override;
  void add_header(std::string_view name, std::string_view value) override;
  Result<void> begin(int status, http::Headers headers) override;
  Task<Result<void>> write(std::string_view bytes) override;
  Task<Result<void>> end(std::string_view last = {}) override;
  bool begun() const override { return begun_; }
  bool ended() const override { return ended_; }
  bool client_gone() const override { return to_.client_gone(); }
  // An answer that is retold is no connection.
  http::RawStream take_over() override;

 private:
  Task<Result<void>> tell(std::string text);
  Task<Result<void>> end_with(int status, Error error);
  http::Headers head() const;

  http::Exchange& to_;
  std::unique_ptr<Retelling> retelling_;
  std::function<TimePoint()> now_;
  TimePoint told_at_;
  bool begun_ = false;
  bool ended_ = false;
  int refused_ = 0;               // the status of an answer that is none
  std::string refusal_;           // and its body
  std::optional<Error> failure_;  // of the answer: told when it has ended
};

}  // namespace lm::api

// A chat that is asked from inside the daemon, for a client that is not at the other end of an HTTP request.
// Whoever answers asks no differently than of any other.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/exchange.h"
#include "http/sse.h"

namespace lm::api {

// Owned by whoever asks, for as long as the answering route runs. The question is one for
// /v1/chat/completions, streaming; the answer comes in pieces of text as the model says them.
class InnerExchange final : public http::Exchange {
 public:
  struct Piece {
    bool is_thinking = false;  // reasoning, which is no part of the answer
    std::string text;
  };
  // May wait, which holds the answer up. An error ends the answer: its listener has left.
  using Say = std::function<Task<Result<void>>(Piece piece)>;

  InnerExchange(boost::asio::any_io_executor executor, std::string body, http::Principal principal,
                std::string client, Say say);

  // After the route has returned: why there is no answer, or no whole one.
  std::optional<Error> error() const;
  // "stop", "length", …; empty where it did not come to its end.
  const std::string& finish() const { return finish_; }

  boost::asio::any_io_executor executor() const override { return executor_; }
  Task<Result<void>> respond(http::Response response) override;
  Task<Result<void>> fail(int status, Error error) override;
  void add_header(std::string_view, std::string_view) override {}
  Result<void> begin(int status, http::Headers headers) override;
  Task<Result<void>> write(std::string_view bytes) override;
  Task<Result<void>> end(std::string_view last = {}) override;
  bool begun() const override { return begun_; }
  bool ended() const override { return ended_; }
  bool client_gone() const override { return gone_; }
  // There is no connection.
  http::RawStream take_over() override;

 private:
  void take(std::string_view datum);

  boost::asio::any_io_executor executor_;
  Say say_;
  http::SseParser parser_;
  std::vector<Piece> pieces_;  // read, not yet said
  std::optional<Error> error_;
  std::string finish_;
  std::string refusal_;  // the body of an answer that is none
  bool refused_ = false;
  bool begun_ = false;
  bool ended_ = false;
  bool gone_ = false;
};

}  // namespace lm::api

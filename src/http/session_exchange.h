// The exchange of a connection: frames the answer and hands it to the socket. Inside of the room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/exchange.h"

namespace lm::http {

// Owned by its session, for one request.
class SessionExchange final : public Exchange {
 public:
  SessionExchange(Session& session, Request request);

  boost::asio::any_io_executor executor() const override;
  Task<Result<void>> respond(Response response) override;
  Task<Result<void>> fail(int status, Error error) override;
  void add_header(std::string_view name, std::string_view value) override;
  Result<void> begin(int status, Headers headers) override;
  Task<Result<void>> write(std::string_view bytes) override;
  Task<Result<void>> end(std::string_view last = {}) override;
  bool begun() const override { return state_ != State::kOpen; }
  bool ended() const override { return state_ == State::kEnded || state_ == State::kUpgraded; }
  bool client_gone() const override;
  RawStream take_over() override;

 private:
  friend class Session;
  enum class State : std::uint8_t { kOpen, kBegun, kEnded, kFailed, kUpgraded };
  enum class Framing : std::uint8_t { kNone, kLength, kChunked, kUntilClose };

  std::string make_head(int status, const Headers& headers, std::optional<std::uint64_t> length);
  Task<Result<void>> send(std::string_view bytes, bool last);
  Result<void> check_alive() const;
  void flush_head();

  Session& session_;
  Headers extra_headers_;  // CORS, add_header()
  std::string head_;       // not yet written
  std::uint64_t remaining_ = 0;
  State state_ = State::kOpen;
  Framing framing_ = Framing::kNone;
  bool keep_alive_ = false;
  bool writing_ = false;
};

}  // namespace lm::http

// An exchange that stands before a client's own: it passes the answer on as it is and has what is said in it
// stored, the end of it before the client sees that end.
#pragma once

#include <string>
#include <string_view>

#include "http/exchange.h"
#include "http/sse.h"
#include "runtime/transcript_keeper.h"

namespace lm::api {

// Owned by its route, for as long as that runs. `client` outlives it and is used by nobody else meanwhile.
// Understands answers of /v1/chat/completions, whole and streamed; of several choices the first. An answer
// that could not be stored is passed on all the same, with `X-Conversation-Kept: no` or, in a stream, a
// comment.
class KeptExchange final : public http::Exchange {
 public:
  // `question`: the request as whoever answers is to see it.
  KeptExchange(http::Exchange& client, http::Request question, runtime::TranscriptKeeper::Answer answer);

  // Whoever answered has returned. An answer that was left in its middle, and of which the client has seen
  // nothing yet, becomes an error.
  Task<> close();

  boost::asio::any_io_executor executor() const override { return to_.executor(); }
  Task<Result<void>> respond(http::Response response) override;
  Task<Result<void>> fail(int status, Error error) override { return to_.fail(status, std::move(error)); }
  void add_header(std::string_view name, std::string_view value) override { to_.add_header(name, value); }
  Result<void> begin(int status, http::Headers headers) override;
  Task<Result<void>> write(std::string_view bytes) override;
  Task<Result<void>> end(std::string_view last = {}) override;
  bool begun() const override { return is_held_ || to_.begun(); }
  bool ended() const override { return to_.ended(); }
  bool client_gone() const override { return to_.client_gone(); }
  http::RawStream take_over() override { return to_.take_over(); }

 private:
  void take(const http::SseEvent& event);
  Task<Result<void>> store();

  http::Exchange& to_;
  runtime::TranscriptKeeper::Answer answer_;
  http::SseParser parser_;
  bool is_stream_ = false;  // of events
  bool is_whole_ = false;   // the model has finished
  bool is_stored_ = false;
  // An answer that is no stream is held until it is stored.
  bool is_held_ = false;
  http::Response held_;
};

}  // namespace lm::api

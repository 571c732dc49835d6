// What a loaded fake answers on its socket: the engine's inference routes with words by the clock, and, for
// tests that connect to the socket themselves, what it has seen.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "base/latch.h"
#include "behaviour.h"
#include "http/router.h"

namespace lm::fake {

// GET /fake/stats tells it. GET /fake/wait?cancelled=1 (or active, served, asked) answers once the number is
// reached: how a test waits for what happens in here.
struct Seen {
  int asked = 0;      // requests that have come
  int active = 0;     // of those, being answered
  int served = 0;     // answered to the end
  int cancelled = 0;  // whose client left
  int most_active = 0;
  std::string last_head, last_body;  // of the last request: GET /fake/last
};

class Answers {
 public:
  // `alias` is the name that answers carry.
  Answers(boost::asio::any_io_executor executor, Behaviour behaviour, std::string alias);
  ~Answers();

  // Routes keep what they need alive.
  http::Router router() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lm::fake

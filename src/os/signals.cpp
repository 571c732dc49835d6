#include "os/signals.h"

#include <csignal>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/assert.h"

namespace asio = boost::asio;

namespace lm::os {

SignalEvents::SignalEvents(const asio::any_io_executor& executor) : signals_(executor) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    boost::system::error_code error;
    signals_.add(signal, error);
    LM_ASSERT(!error, "SIGTERM, SIGINT and SIGHUP can be caught");
  }
}

Task<Result<DaemonSignal>> SignalEvents::next() {
  if (closed_) co_return fail(ErrorCode::kCancelled, "no longer waiting for signals");
  const auto [error, signal] = co_await signals_.async_wait(asio::as_tuple(asio::use_awaitable));
  if (error) co_return fail(ErrorCode::kCancelled, "no longer waiting for signals");
  switch (signal) {
    case SIGTERM:
      co_return DaemonSignal::kTerminate;
    case SIGINT:
      co_return DaemonSignal::kInterrupt;
    default:
      co_return DaemonSignal::kHangup;
  }
}

void SignalEvents::close() {
  closed_ = true;
  boost::system::error_code ignored;
  signals_.cancel(ignored);
}

void ignore_broken_pipes() {
  std::signal(SIGPIPE, SIG_IGN);
}

}  // namespace lm::os

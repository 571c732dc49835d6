// The signals that people and service managers send to the daemon, as events to await.
#pragma once

#include <cstdint>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/signal_set.hpp>

#include "base/result.h"
#include "base/task.h"

namespace lm::os {

enum class DaemonSignal : std::uint8_t { kTerminate, kInterrupt, kHangup };

// From its construction on, SIGTERM, SIGINT and SIGHUP no longer end the process: each arrives here once, in
// order, also those that come while nobody awaits. One per process, on the io_context's thread.
class SignalEvents {
 public:
  explicit SignalEvents(const boost::asio::any_io_executor& executor);

  // One caller at a time. kCancelled after close() or when the coroutine is cancelled.
  Task<Result<DaemonSignal>> next();
  void close();

 private:
  boost::asio::signal_set signals_;
  bool closed_ = false;
};

// A closed pipe or socket is an error of the write from now on, for the whole process. Children get the
// default back.
void ignore_broken_pipes();

}  // namespace lm::os

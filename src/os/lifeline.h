// What a daemon hangs on that one program has started for itself: a descriptor whose other end that program
// holds.
#pragma once

#include <functional>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/result.h"
#include "os/file.h"

namespace lm::os {

// On the io_context's thread, owned by whoever it keeps alive.
class Lifeline {
 public:
  // `on_cut` is called once, when the other end has been closed: by its owner, or by the kernel, however its
  // owner ended. Never after this object's end. What is written at the other end counts as a cut.
  // kInvalidArgument where the descriptor cannot be waited for.
  static Result<Lifeline> hold(boost::asio::any_io_executor executor, UniqueFd end,
                               std::function<void()> on_cut);

 private:
  explicit Lifeline(boost::asio::posix::stream_descriptor end) : end_(std::move(end)) {}
  boost::asio::posix::stream_descriptor end_;
};

}  // namespace lm::os

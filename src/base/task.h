// Task<T>: a coroutine of the edges (http, backend, worker link, api). Everything runs on the daemon's one thread; a task's
// parameters are passed by value, since the caller's frame may be gone after a suspension.
#pragma once

#include <boost/asio/awaitable.hpp>

namespace lm {

template <class T = void>
using Task = boost::asio::awaitable<T>;

}  // namespace lm

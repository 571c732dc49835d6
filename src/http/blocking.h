// Running one task to its end from code that is no coroutine: command-line programs and tests.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include <boost/asio/any_io_executor.hpp>

#include "base/assert.h"
#include "base/task.h"

namespace lm::http {

// Makes an io_context, starts the task on it, and runs it until the task is done; work that the task left
// behind is dropped. Blocks. An exception of the task comes out here.
void run_blocking_void(std::function<Task<void>(boost::asio::any_io_executor)> make_task);

// As above, with the task's value.
template <class T>
T run_blocking(std::function<Task<T>(boost::asio::any_io_executor)> make_task) {
  std::optional<T> value;
  // No capturing coroutine lambda: what it captures would have to outlive it.
  struct Store {
    static Task<void> run(std::function<Task<T>(boost::asio::any_io_executor)> make,
                          boost::asio::any_io_executor executor, std::optional<T>* into) {
      into->emplace(co_await make(executor));
    }
  };
  run_blocking_void(
      [&](boost::asio::any_io_executor executor) { return Store::run(make_task, executor, &value); });
  LM_ASSERT(value.has_value(), "a task that ends has a value");
  return *std::move(value);
}

}  // namespace lm::http

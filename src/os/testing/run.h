// For tests: runs one coroutine to its end on an io_context of its own thread, and fails the test when that
// takes too long.
#pragma once

#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "base/task.h"

namespace lm::os::testing {

// Runs `io` until `task` has ended or `limit` has passed; then throws, which fails the test.
template <class T>
T run(boost::asio::io_context& io, Task<T> task, std::chrono::seconds limit = std::chrono::seconds(30)) {
  std::exception_ptr thrown;
  bool ended = false;
  std::optional<std::conditional_t<std::is_void_v<T>, bool, T>> value;
  const auto done = [&](std::exception_ptr error, auto... result) {
    thrown = error;
    if constexpr (sizeof...(result) > 0) {
      if (!error) value.emplace(std::move(result)...);
    }
    ended = true;
    io.stop();
  };
  boost::asio::co_spawn(io, std::move(task), done);
  io.restart();
  io.run_for(limit);
  if (!ended) throw std::runtime_error("the coroutine has not ended in time");
  if (thrown) std::rethrow_exception(thrown);
  if constexpr (!std::is_void_v<T>) return std::move(*value);
}

// Runs `io` until `condition` holds; false when `limit` has passed before.
inline bool run_until(boost::asio::io_context& io, const std::function<bool()>& condition,
                      std::chrono::seconds limit = std::chrono::seconds(30)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  io.restart();
  while (!condition()) {
    if (io.run_one_until(deadline) == 0) return condition();
  }
  return true;
}

// Calls `action` when everything that is ready to run on `io` has had a few turns: what is awaited then, is
// pending.
inline void when_idle(boost::asio::io_context& io, std::function<void()> action, int turns = 10) {
  boost::asio::post(io, [&io, action = std::move(action), turns]() mutable {
    if (turns == 0) return action();
    when_idle(io, std::move(action), turns - 1);
  });
}

// A fresh folder, removed with everything in it at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "lm-os-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lm::os::testing

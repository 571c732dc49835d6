// A daemon that this process has started for itself and that ends with it, however it ends.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "base/result.h"

namespace lm::client {

struct PrivateDaemonOptions {
  std::filesystem::path program;
  std::string configuration;                 // text; empty: the file
  std::filesystem::path configuration_file;  // empty too: the daemon's search path
  std::filesystem::path data;                // empty: the user's
  std::chrono::milliseconds start_limit{};
};

// Owned by a session, used from one thread at a time. Its lifeline is a pipe: the daemon ends when our end of
// it is closed, which the kernel does where nobody else can. A child that this process forks gives its copy
// away at once, so that it does not keep the daemon.
class PrivateDaemon {
 public:
  // Blocks until it can be used. Errors: kNotFound "no_program", kUnavailable "no_daemon" with what it said,
  // kDeadlineExceeded "start_timeout".
  static Result<std::unique_ptr<PrivateDaemon>> start(const PrivateDaemonOptions& options);
  PrivateDaemon(const PrivateDaemon&) = delete;
  PrivateDaemon& operator=(const PrivateDaemon&) = delete;
  ~PrivateDaemon();  // as stop()

  // As it says itself: "unix:/…/daemon.sock".
  const std::string& address() const { return address_; }
  int pid() const { return pid_; }

  // Blocks until it is gone: it has ten seconds to end by itself. In a forked child it does nothing. Twice is
  // fine.
  void stop();

 private:
  PrivateDaemon() = default;
  Result<void> wait_until_it_listens(int output, int errors, std::chrono::milliseconds limit);

  int pid_ = 0;
  int owner_ = 0;
  int process_ = -1;   // a pidfd
  int lifeline_ = -1;  // our end
  std::string address_;
};

// The daemon's program: what is named, else the first that is there of LLM_MANAGER_PROGRAM, beside or near
// this library, PATH. kNotFound "no_program".
Result<std::filesystem::path> find_program(const std::filesystem::path& named);

}  // namespace lm::client

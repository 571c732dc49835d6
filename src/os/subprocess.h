// A supervised child: started with exactly what it is given, awaited by a pidfd, never left behind.
// Everything here runs on the main thread (the parent-death signal fires when the *thread* that started a
// child ends) and the io_context must outlive every Subprocess.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/types.h>
#include <utility>
#include <variant>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/bytes.h"
#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "os/process.h"

namespace lm::os {

// How a child ended, and what it used.
struct ExitStatus {
  int code = 0;    // of exit(), meaningless where signal is set
  int signal = 0;  // that ended it, 0 for exit()
  bool core_dumped = false;
  Bytes peak_resident;  // of the child and the children it has waited for

  bool success() const { return signal == 0 && code == 0; }
};

// "exited with code 3", "killed by SIGKILL", "killed by SIGSEGV (core dumped)".
std::string to_string(const ExitStatus& status);

// Where a child's output goes.
class Output {
 public:
  // Called on the io_context's thread, once per line, without the newline; a line longer than
  // SpawnOptions::longest_line comes in pieces. What the child wrote before its end has been delivered before
  // wait() returns. Must not destroy the Subprocess.
  using LineSink = std::function<void(std::string_view line)>;

  static Output discard() { return Output(Discard{}); }
  static Output inherit() { return Output(Inherit{}); }
  static Output to(int fd) { return Output(fd); }  // borrowed for the duration of spawn()
  static Output lines(LineSink sink) { return Output(std::move(sink)); }

  struct Discard {};
  struct Inherit {};
  using Choice = std::variant<Discard, Inherit, int, LineSink>;
  const Choice& choice() const { return choice_; }

 private:
  explicit Output(Choice choice) : choice_(std::move(choice)) {}
  Choice choice_;
};

struct InheritedFd {
  int ours = -1;    // borrowed for the duration of spawn()
  int childs = -1;  // the number it has in the child; 3 or more, each at most once
};

struct ResourceLimit {
  int resource = RLIMIT_CORE;  // RLIMIT_...
  rlim_t value = 0;            // soft and hard
};

struct SpawnOptions {
  std::vector<std::string> arguments;    // [0] is the program: a path, or a name to be searched in our PATH
  std::vector<std::string> environment;  // "NAME=value"; exactly these
  std::filesystem::path working_folder;  // empty: ours
  std::optional<int> standard_input;     // borrowed for the duration of spawn(); none: /dev/null
  Output standard_output = Output::discard();
  Output standard_error = Output::discard();
  std::vector<InheritedFd> inherit;  // every other descriptor is closed
  std::vector<ResourceLimit> limits = {{RLIMIT_CORE, 0}};
  int nice = 0;                             // added to ours
  std::optional<int> oom_score_adjustment;  // -1000 … 1000, higher dies first
  bool dies_with_parent = true;
  std::size_t longest_line = 8192;
  // Called once, on the io_context's thread, when the child has ended and is reaped, behind its last output
  // and before those who wait go on; not where the Subprocess is destroyed first. Must not destroy it.
  std::function<void(const ExitStatus&)> on_end;
};

// "NAME=value" for each of these names that our environment has.
std::vector<std::string> environment_of_ours(const std::vector<std::string>& names);

// Move-only. The child leads a process group of its own; when the leader ends, what is left of the group is
// killed, so a grandchild outlives it only by leaving the group. The child is reaped as soon as it ends,
// waited for or not.
class Subprocess {
 public:
  // Blocks until exec has succeeded or failed (well under a millisecond). A program that cannot be started is
  // an error here, not an exit code: kNotFound or kPermissionDenied where that is why, with the program's
  // name.
  static Result<Subprocess> spawn(boost::asio::any_io_executor executor, SpawnOptions options);

  Subprocess(Subprocess&&) noexcept;
  Subprocess& operator=(Subprocess&&) noexcept;
  // Kills the group with SIGKILL and blocks until the child is reaped; whoever still waits is given its
  // status.
  ~Subprocess();

  pid_t pid() const { return identity().pid; }
  // Good for telling this child from a later process with its number, after it has ended too.
  const ProcessIdentity& identity() const;
  // Set once the child has ended and is reaped.
  const std::optional<ExitStatus>& status() const;
  // Whether it has ended, reaped or not: asks the kernel.
  bool has_ended() const;

  // The whole group gets it. After the end of the child: nothing happens.
  void signal(int signal);

  // Any number may wait; the tasks may outlive the Subprocess. A wait that is cancelled throws asio's
  // operation_aborted, as every cancelled coroutine does.
  Task<ExitStatus> wait() const;
  // nullopt when it has not ended in time.
  Task<std::optional<ExitStatus>> wait_for(Duration limit) const;
  // SIGTERM to the group, SIGKILL after `grace` (at once where it is zero or less), then waits for the end.
  Task<ExitStatus> stop(Duration grace);

 private:
  struct State;
  explicit Subprocess(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace lm::os

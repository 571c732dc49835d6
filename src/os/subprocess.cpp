#include "os/subprocess.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>

#include "base/assert.h"
#include "os/spawn.h"
#include "os/system_error.h"

namespace asio = boost::asio;

namespace lm::os {
namespace {

// What one turn of the loop reads of a child that talks without end, so that everything else has its turn
// too.
constexpr std::size_t kOneTurn = std::size_t{64} * 1024;
// A dead child's pipe holds at most this much; more can only come from a process that left its group.
constexpr std::size_t kLargestPipe = std::size_t{1} << 20;

// Splits what a child writes into lines.
class LineReader : public std::enable_shared_from_this<LineReader> {
 public:
  LineReader(const asio::any_io_executor& executor, UniqueFd fd, Output::LineSink sink, std::size_t longest)
      : descriptor_(executor, fd.release()),
        sink_(std::move(sink)),
        longest_(std::max<std::size_t>(longest, 1)) {}

  void start() {
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                           [weak = weak_from_this()](const boost::system::error_code& error) {
                             const auto self = weak.lock();
                             if (!self || error || !self->descriptor_.is_open()) return;
                             self->read(kOneTurn);
                             if (self->descriptor_.is_open()) self->start();
                           });
  }

  // Everything that is there now, then no more.
  void finish() {
    if (!descriptor_.is_open()) return;
    read(kLargestPipe);
    end();
  }

 private:
  void read(std::size_t budget) {
    std::array<char, 4096> chunk;
    while (budget > 0) {
      const ssize_t n = ::read(descriptor_.native_handle(), chunk.data(), chunk.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) return end();
      const auto count = static_cast<std::size_t>(n);
      split(std::string_view(chunk.data(), count));
      budget -= std::min(budget, count);
    }
  }

  void split(std::string_view text) {
    while (!text.empty()) {
      const auto newline = text.find('\n');
      const auto length = std::min(newline, text.size());
      const auto taken = std::min(length, longest_ - line_.size());
      line_.append(text.substr(0, taken));
      const bool whole = newline != std::string_view::npos && taken == length;
      text.remove_prefix(whole ? taken + 1 : taken);
      if (whole || line_.size() == longest_) deliver();
    }
  }

  void deliver() {
    std::string line;
    line.swap(line_);
    sink_(line);
  }

  void end() {
    boost::system::error_code ignored;
    descriptor_.close(ignored);
    if (!line_.empty()) deliver();
  }

  asio::posix::stream_descriptor descriptor_;
  Output::LineSink sink_;
  std::size_t longest_;
  std::string line_;
};

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(system_error(errno, "making a pipe"));
  Pipe pipe{.reader = UniqueFd(fds[0]), .writer = UniqueFd(fds[1])};
  // Only our end: the child's own end must not answer EAGAIN to it.
  if (::fcntl(pipe.reader.get(), F_SETFL, O_NONBLOCK) != 0) return fail(system_error(errno, "making a pipe"));
  return pipe;
}

}  // namespace

std::string to_string(const ExitStatus& status) {
  if (status.signal == 0) return fmt::format("exited with code {}", status.code);
  return fmt::format("killed by {}{}", signal_name(status.signal),
                     status.core_dumped ? " (core dumped)" : "");
}

std::vector<std::string> environment_of_ours(const std::vector<std::string>& names) {
  std::vector<std::string> environment;
  for (const auto& name : names) {
    if (const char* value = std::getenv(name.c_str()))
      environment.push_back(fmt::format("{}={}", name, value));
  }
  return environment;
}

struct Subprocess::State : std::enable_shared_from_this<State> {
  State(const asio::any_io_executor& executor, ProcessIdentity who, UniqueFd fd)
      : identity(who), pidfd(executor, fd.release()) {}

  void watch() {
    pidfd.async_wait(asio::posix::descriptor_base::wait_read,
                     [weak = weak_from_this()](const boost::system::error_code& error) {
                       const auto self = weak.lock();
                       if (!self || self->status || error) return;
                       // The reactor may tell of a descriptor that had this one's place before it.
                       if (self->has_ended()) {
                         self->reap();
                       } else {
                         self->watch();
                       }
                     });
  }

  bool has_ended() {
    pollfd ended{.fd = pidfd.native_handle(), .events = POLLIN, .revents = 0};
    return ::poll(&ended, 1, 0) > 0;
  }

  void send(int number) const {
    // Until it is reaped the child, dead or not, keeps the group's number from being given to others.
    if (!status) ::kill(-identity.pid, number);
  }

  // Blocks until the child has ended, which it has where the pidfd is readable.
  void reap() {
    pollfd ended{.fd = pidfd.native_handle(), .events = POLLIN, .revents = 0};
    while (::poll(&ended, 1, -1) < 0 && errno == EINTR) {
    }
    send(SIGKILL);  // what is left of the group

    // The reactor has made the descriptor one that does not wait. It tells of the end a moment before the
    // kernel lets go of the child (seen on Linux 6.18); waitid would answer EAGAIN in that moment.
    ::fcntl(pidfd.native_handle(), F_SETFL, 0);
    siginfo_t info{};
    rusage usage{};
    long rc = 0;
    do {
      rc = ::syscall(SYS_waitid, P_PIDFD, pidfd.native_handle(), &info, WEXITED, &usage);
    } while (rc != 0 && errno == EINTR);
    LM_ASSERT(rc == 0, "nobody else reaps our children");

    ExitStatus ended_as{.peak_resident = kib(usage.ru_maxrss)};
    if (info.si_code == CLD_EXITED) {
      ended_as.code = info.si_status;
    } else {
      ended_as.signal = info.si_status;
      ended_as.core_dumped = info.si_code == CLD_DUMPED;
    }
    boost::system::error_code ignored;
    pidfd.close(ignored);
    for (const auto& output : outputs) output->finish();
    status = ended_as;
    if (const auto tell = std::exchange(on_end, nullptr)) tell(ended_as);
    for (auto* waiter : waiters) waiter->cancel();
  }

  static Task<std::optional<ExitStatus>> await_end(std::shared_ptr<State> state,
                                                   std::optional<Duration> limit);
  static Task<ExitStatus> await_end(std::shared_ptr<State> state);
  static Task<ExitStatus> stop(std::shared_ptr<State> state, Duration grace);

  ProcessIdentity identity;
  asio::posix::stream_descriptor pidfd;
  std::optional<ExitStatus> status;
  std::vector<asio::steady_timer*> waiters;
  std::vector<std::shared_ptr<LineReader>> outputs;
  std::function<void(const ExitStatus&)> on_end;
};

Task<std::optional<ExitStatus>> Subprocess::State::await_end(std::shared_ptr<State> state,
                                                             std::optional<Duration> limit) {
  if (state->status) co_return *state->status;

  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  if (limit) {
    timer.expires_after(*limit);
  } else {
    timer.expires_at(asio::steady_timer::time_point::max());
  }
  struct Enrolment {
    std::vector<asio::steady_timer*>& list;
    asio::steady_timer* timer;
    ~Enrolment() { std::erase(list, timer); }
  } const enrolment{state->waiters, &timer};
  state->waiters.push_back(&timer);

  const auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  if (state->status) co_return *state->status;
  if (error) throw boost::system::system_error(error);  // cancelled from outside
  co_return std::nullopt;
}

Task<ExitStatus> Subprocess::State::await_end(std::shared_ptr<State> state) {
  const auto status = co_await await_end(std::move(state), std::nullopt);
  LM_ASSERT(status.has_value(), "a wait without a limit ends with a status");
  co_return *status;
}

Task<ExitStatus> Subprocess::State::stop(std::shared_ptr<State> state, Duration grace) {
  if (grace > Duration::zero()) {
    state->send(SIGTERM);
    const auto status = co_await await_end(state, grace);
    if (status) co_return *status;
  }
  state->send(SIGKILL);
  const auto status = co_await await_end(std::move(state));
  co_return status;
}

Result<Subprocess> Subprocess::spawn(asio::any_io_executor executor, SpawnOptions options) {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail(system_error(errno, "opening /dev/null"));

  struct Reader {
    UniqueFd fd;
    Output::LineSink sink;
  };
  std::vector<Reader> readers;
  std::vector<UniqueFd> writers;
  const auto descriptor_for = [&](const Output& output, int ours) -> Result<int> {
    if (std::holds_alternative<Output::Inherit>(output.choice())) return ours;
    if (const int* fd = std::get_if<int>(&output.choice())) return *fd;
    const auto* sink = std::get_if<Output::LineSink>(&output.choice());
    if (sink == nullptr) return null.get();
    LM_TRY(Pipe pipe, make_pipe());
    readers.push_back({std::move(pipe.reader), *sink});
    writers.push_back(std::move(pipe.writer));
    return writers.back().get();
  };
  LM_TRY(const int standard_output, descriptor_for(options.standard_output, STDOUT_FILENO));
  LM_TRY(const int standard_error, descriptor_for(options.standard_error, STDERR_FILENO));

  LM_TRY(Spawned spawned, spawn_process(options, options.standard_input.value_or(null.get()), standard_output,
                                        standard_error));
  // Not reaped yet, so /proc still has it even where it has ended already.
  const auto identity = identify(spawned.pid);
  auto state = std::make_shared<State>(executor, identity.value_or(ProcessIdentity{.pid = spawned.pid}),
                                       std::move(spawned.pidfd));
  for (auto& reader : readers) {
    state->outputs.push_back(std::make_shared<LineReader>(executor, std::move(reader.fd),
                                                          std::move(reader.sink), options.longest_line));
    state->outputs.back()->start();
  }
  state->on_end = std::move(options.on_end);
  state->watch();
  return Subprocess(std::move(state));
}

Subprocess::Subprocess(std::shared_ptr<State> state) : state_(std::move(state)) {}
Subprocess::Subprocess(Subprocess&&) noexcept = default;

Subprocess& Subprocess::operator=(Subprocess&& other) noexcept {
  if (this != &other) {
    const Subprocess ended(std::move(*this));
    state_ = std::move(other.state_);
  }
  return *this;
}

Subprocess::~Subprocess() {
  if (!state_ || state_->status) return;
  state_->on_end = nullptr;
  state_->send(SIGKILL);
  state_->reap();
}

const ProcessIdentity& Subprocess::identity() const {
  return state_->identity;
}
const std::optional<ExitStatus>& Subprocess::status() const {
  return state_->status;
}
bool Subprocess::has_ended() const {
  return state_->status || state_->has_ended();
}
void Subprocess::signal(int signal) {
  state_->send(signal);
}
Task<ExitStatus> Subprocess::wait() const {
  return State::await_end(state_);
}
Task<std::optional<ExitStatus>> Subprocess::wait_for(Duration limit) const {
  return State::await_end(state_, limit);
}
Task<ExitStatus> Subprocess::stop(Duration grace) {
  return State::stop(state_, grace);
}

}  // namespace lm::os

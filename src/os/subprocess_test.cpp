#include "os/subprocess.h"

#include <array>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <set>
#include <string>
#include <thread>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::os {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
using os::testing::run_until;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace asio = boost::asio;

using Lines = std::vector<std::string>;

Output into(Lines& lines) {
  return Output::lines([&lines](std::string_view line) { lines.emplace_back(line); });
}

SpawnOptions shell(std::string script) {
  return {.arguments = {"/bin/sh", "-c", std::move(script)}};
}

std::size_t open_descriptors() {
  const auto entries = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(entries, std::filesystem::directory_iterator()));
}

// Waits for the end of a process that need not be our child.
::testing::AssertionResult ends(const UniqueFd& pidfd) {
  pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ended, 1, 20'000) == 1) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "still running after 20 s";
}

class SubprocessTest : public ::testing::Test {
 protected:
  Subprocess spawn(SpawnOptions options) {
    auto spawned = Subprocess::spawn(io.get_executor(), std::move(options));
    if (!spawned) throw std::runtime_error(spawned.error().message);
    return std::move(*spawned);
  }

  // Everything that the script says, once it has ended with success.
  Lines output_of(SpawnOptions options) {
    Lines lines;
    options.standard_output = into(lines);
    options.standard_error = into(lines);
    const auto child = spawn(std::move(options));
    const auto status = run(io, child.wait());
    EXPECT_TRUE(status.success()) << to_string(status);
    return lines;
  }

  asio::io_context io;
};

TEST_F(SubprocessTest, TellsExitCodes) {
  EXPECT_TRUE(run(io, spawn(shell("exit 0")).wait()).success());
  const auto child = spawn(shell("exit 37"));
  const auto status = run(io, child.wait());
  EXPECT_EQ(status.code, 37);
  EXPECT_EQ(status.signal, 0);
  EXPECT_FALSE(status.success());
  EXPECT_EQ(to_string(status), "exited with code 37");
  EXPECT_GT(status.peak_resident, kib(100));
  // The answer stays, for later waits as well.
  EXPECT_EQ(run(io, child.wait()).code, 37);
}

TEST_F(SubprocessTest, TellsSignals) {
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  EXPECT_FALSE(child.status());
  child.signal(SIGKILL);
  const auto status = run(io, child.wait());
  EXPECT_EQ(status.signal, SIGKILL);
  EXPECT_FALSE(status.success());
  EXPECT_EQ(to_string(status), "killed by SIGKILL");
  ASSERT_TRUE(child.status());
  child.signal(SIGKILL);  // nobody is hit
}

TEST_F(SubprocessTest, AProgramThatCannotStartIsAnError) {
  const auto missing = Subprocess::spawn(io.get_executor(), {.arguments = {"/nonexistent/program"}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message,
              HasSubstr("starting /nonexistent/program: running the program: No such file"));

  const auto unnamed = Subprocess::spawn(io.get_executor(), {.arguments = {"no-such-program-in-path"}});
  ASSERT_FALSE(unnamed);
  EXPECT_EQ(unnamed.error().reason, "program_not_found");

  const auto folder = Subprocess::spawn(io.get_executor(), {.arguments = {"/"}});
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kPermissionDenied);

  EXPECT_FALSE(Subprocess::spawn(io.get_executor(), {.arguments = {}}));
  // No zombie is left of any of them.
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(SubprocessTest, AWrongFolderOrLimitIsAnErrorThatSaysSo) {
  auto options = shell("exit 0");
  options.working_folder = "/nonexistent";
  auto refused = Subprocess::spawn(io.get_executor(), options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("changing to the folder /nonexistent"));

  options = shell("exit 0");
  options.limits = {{1000, 1}};
  refused = Subprocess::spawn(io.get_executor(), options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("setting resource limits"));
}

TEST_F(SubprocessTest, FindsProgramsInPath) {
  EXPECT_TRUE(run(io, spawn({.arguments = {"true"}}).wait()).success());
}

TEST_F(SubprocessTest, TheEnvironmentIsExact) {
  ::setenv("LM_OS_TEST_SECRET", "do not leak", 1);
  EXPECT_THAT(output_of({.arguments = {"/usr/bin/env"}}), ElementsAre());
  EXPECT_THAT(output_of({.arguments = {"/usr/bin/env"}, .environment = {"A=1", "B=two words"}}),
              ElementsAre("A=1", "B=two words"));
  EXPECT_THAT(environment_of_ours({"LM_OS_TEST_SECRET", "LM_OS_TEST_UNSET"}),
              ElementsAre("LM_OS_TEST_SECRET=do not leak"));
  ::unsetenv("LM_OS_TEST_SECRET");
}

TEST_F(SubprocessTest, StandardInputIsEmptyAndTheFolderIsSet) {
  auto options = shell("cat; pwd");
  options.working_folder = "/usr";
  EXPECT_THAT(output_of(std::move(options)), ElementsAre("/usr"));
}

TEST_F(SubprocessTest, OutputCanGoToADescriptor) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const UniqueFd reader(pipe[0]);
  UniqueFd writer(pipe[1]);
  auto options = shell("cat; echo hidden >&2");
  const UniqueFd input(::open("/proc/sys/kernel/ostype", O_RDONLY | O_CLOEXEC));
  options.standard_input = input.get();
  options.standard_output = Output::to(writer.get());
  EXPECT_TRUE(run(io, spawn(std::move(options)).wait()).success());
  writer.reset();
  std::array<char, 64> text{};
  EXPECT_EQ(::read(reader.get(), text.data(), text.size()), 6);
  EXPECT_STREQ(text.data(), "Linux\n");
  EXPECT_EQ(::read(reader.get(), text.data(), text.size()), 0)
      << "the end is seen: nobody else has the writing end";
}

TEST_F(SubprocessTest, LinesAreWholeAndLongOnesComeInPieces) {
  auto options = shell("printf 'a\\n\\nlonger than eight\\nend'");
  options.longest_line = 8;
  EXPECT_THAT(output_of(std::move(options)), ElementsAre("a", "", "longer t", "han eigh", "t", "end"));
}

TEST_F(SubprocessTest, EverythingWrittenBeforeTheEndIsDelivered) {
  const auto lines = output_of(shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"));
  ASSERT_EQ(lines.size(), 20000U);
  for (std::size_t i = 0; i < lines.size(); ++i) ASSERT_EQ(lines[i], fmt::format("line {}", i));
}

TEST_F(SubprocessTest, OnlyTheDescriptorsAskedForAreInherited) {
  // Without close-on-exec: a library might open it so.
  const UniqueFd careless(::open("/dev/null", O_RDONLY));
  const UniqueFd one(::open("/proc/sys/kernel/ostype", O_RDONLY | O_CLOEXEC));
  const UniqueFd two(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  SpawnOptions options{.arguments = {"/bin/ls", "-v", "/proc/self/fd"}};
  // Crossed over on purpose, and one of ours twice.
  options.inherit = {{one.get(), 9}, {two.get(), one.get()}, {one.get(), two.get()}};
  std::set<int> expected = {0, 1, 2, 9, one.get(), two.get()};
  int lowest_free = 3;
  while (expected.contains(lowest_free)) ++lowest_free;
  expected.insert(lowest_free);  // ls itself has the folder open
  Lines numbers;
  for (const int fd : expected) numbers.push_back(std::to_string(fd));
  EXPECT_EQ(output_of(options), numbers);

  options = shell(fmt::format("cat <&9; read id <&{} && echo ${{#id}}", one.get()));
  options.environment = {"PATH=/usr/bin:/bin"};
  options.inherit = {{one.get(), 9}, {two.get(), one.get()}};
  EXPECT_THAT(output_of(std::move(options)), ElementsAre("Linux", "36"));
}

TEST_F(SubprocessTest, SignalsStartFresh) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto lines = output_of({.arguments = {"/bin/grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"}});
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, &before, &now);
  ::signal(SIGPIPE, SIG_DFL);
  EXPECT_THAT(lines, ElementsAre("SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"));
  EXPECT_EQ(sigismember(&now, SIGTERM), 1) << "ours is as it was";
  EXPECT_EQ(sigismember(&now, SIGINT), 0);
}

TEST_F(SubprocessTest, LimitsPriorityAndOutOfMemoryScoreAreSet) {
  auto options = shell("ulimit -n; ulimit -c; ulimit -v; nice; cat /proc/self/oom_score_adj");
  options.environment = {"PATH=/usr/bin:/bin"};
  options.limits = {{RLIMIT_NOFILE, 64}, {RLIMIT_CORE, 0}, {RLIMIT_AS, rlim_t{1} << 30}};
  options.nice = 3;
  options.oom_score_adjustment = 500;
  const int ours = ::getpriority(PRIO_PROCESS, 0);
  const auto score = read_file("/proc/self/oom_score_adj").value();
  EXPECT_THAT(output_of(std::move(options)),
              ElementsAre("64", "0", "1048576", std::to_string(std::min(ours + 3, 19)), "500"));
  EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), ours);
  EXPECT_EQ(read_file("/proc/self/oom_score_adj").value(), score);
}

TEST_F(SubprocessTest, TheChildLeadsItsOwnGroup) {
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  EXPECT_EQ(::getpgid(child.pid()), child.pid());
  EXPECT_EQ(identify(child.pid()).value(), child.identity());
}

TEST_F(SubprocessTest, ASignalReachesGrandchildren) {
  Lines lines;
  auto options = shell("sleep infinity & echo $!; wait");
  options.environment = {"PATH=/usr/bin:/bin"};
  options.standard_output = into(lines);
  auto child = spawn(std::move(options));
  ASSERT_TRUE(run_until(io, [&] { return !lines.empty(); }));
  const auto grandchild = open_pidfd(std::stoi(lines.front()));
  ASSERT_TRUE(grandchild) << grandchild.error().message;
  child.signal(SIGKILL);
  EXPECT_EQ(run(io, child.wait()).signal, SIGKILL);
  EXPECT_TRUE(ends(*grandchild));
}

TEST_F(SubprocessTest, GrandchildrenEndWithTheChild) {
  Lines lines;
  std::array<int, 2> gate{};
  ASSERT_EQ(::pipe2(gate.data(), O_CLOEXEC), 0);
  const UniqueFd reader(gate[0]);
  UniqueFd writer(gate[1]);
  auto options = shell("sleep infinity >/dev/null & echo $!; read line; exit 5");
  options.environment = {"PATH=/usr/bin:/bin"};
  options.standard_input = reader.get();
  options.standard_output = into(lines);
  auto child = spawn(std::move(options));
  ASSERT_TRUE(run_until(io, [&] { return !lines.empty(); }));
  const auto grandchild = open_pidfd(std::stoi(lines.front()));
  ASSERT_TRUE(grandchild) << grandchild.error().message;
  writer.reset();
  EXPECT_EQ(run(io, child.wait()).code, 5);
  EXPECT_TRUE(ends(*grandchild));
}

TEST_F(SubprocessTest, DestructionKillsAndReaps) {
  UniqueFd pidfd;
  pid_t pid = 0;
  {
    auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
    pid = child.pid();
    pidfd = open_pidfd(pid).value();
    auto moved = std::move(child);
    EXPECT_EQ(moved.pid(), pid);
  }
  EXPECT_TRUE(ends(pidfd));
  EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), -1) << "it is reaped";
  EXPECT_EQ(errno, ECHILD);
}

// The kernel tells of an end a moment before it lets go of the child: the reaping has to wait for that.
TEST_F(SubprocessTest, KilledAtAnyMomentOfItsStartItIsReaped) {
  for (int i = 0; i < 200; ++i) {
    auto child = Subprocess::spawn(io.get_executor(), {.arguments = {"/bin/sleep", "infinity"}});
    ASSERT_TRUE(child) << child.error().message;
    io.restart();
    io.poll();  // the reactor has the descriptor now
  }
}

TEST_F(SubprocessTest, AWaitOutlivesTheSubprocess) {
  auto child = std::make_unique<Subprocess>(spawn({.arguments = {"/bin/sleep", "infinity"}}));
  auto wait = child->wait();
  os::testing::when_idle(io, [&] { child.reset(); });
  EXPECT_EQ(run(io, std::move(wait)).signal, SIGKILL);
}

TEST_F(SubprocessTest, ItIsReapedAlsoWhenNobodyWaits) {
  const auto child = spawn(shell("exit 4"));
  ASSERT_TRUE(run_until(io, [&] { return child.status().has_value(); }));
  EXPECT_EQ(child.status()->code, 4);
  EXPECT_EQ(::waitpid(child.pid(), nullptr, WNOHANG), -1);
}

TEST_F(SubprocessTest, ItsEndIsToldOnceBehindItsLastWords) {
  Lines lines;
  std::vector<std::string> told;
  auto options = shell("echo last; exit 3");
  options.standard_output = into(lines);
  options.on_end = [&](const ExitStatus& status) {
    EXPECT_THAT(lines, ElementsAre("last"));
    told.push_back(to_string(status));
  };
  auto child = Subprocess::spawn(io.get_executor(), std::move(options)).value();
  EXPECT_TRUE(run_until(io, [&] { return !told.empty(); }));
  run(io, child.wait());
  EXPECT_THAT(told, ElementsAre("exited with code 3"));
}

TEST_F(SubprocessTest, ItsEndIsNotToldWhereItIsDestroyed) {
  bool told = false;
  auto options = shell("sleep 100");
  options.on_end = [&](const ExitStatus&) { told = true; };
  {
    const auto child = Subprocess::spawn(io.get_executor(), std::move(options)).value();
  }
  io.restart();
  io.poll();
  EXPECT_FALSE(told);
}

TEST_F(SubprocessTest, TheGroupIsListedLeaderFirst) {
  Lines lines;
  auto options = shell("sleep 100 & sleep 100 & echo ready; wait");
  options.standard_output = into(lines);
  auto child = Subprocess::spawn(io.get_executor(), std::move(options)).value();
  ASSERT_TRUE(run_until(io, [&] { return !lines.empty(); }));
  const auto members = group_members(child.pid());
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members.front(), child.identity());
  run(io, child.stop(0s));
  // The others were killed with it, but nobody waits for their ends.
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (!group_members(child.identity().pid).empty() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_TRUE(group_members(child.identity().pid).empty());
}

TEST_F(SubprocessTest, ManyMayWait) {
  using asio::experimental::awaitable_operators::operator&&;
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  const auto all = [](Subprocess& one) -> Task<int> {
    const auto [first, second, third] = co_await (one.wait() && one.stop(10s) && one.wait());
    co_return first.signal + second.signal + third.signal;
  };
  EXPECT_EQ(run(io, all(child)), 3 * SIGTERM);
}

TEST_F(SubprocessTest, WaitForEndsWithItsLimit) {
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  EXPECT_EQ(run(io, child.wait_for(1ms)), std::nullopt);
  child.signal(SIGKILL);
  const auto status = run(io, child.wait_for(20s));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->signal, SIGKILL);
}

TEST_F(SubprocessTest, ACancelledWaitThrowsAndLeavesTheChildAlone) {
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  asio::cancellation_signal cancel;
  std::exception_ptr thrown;
  bool ended = false;
  asio::co_spawn(io, child.wait(),
                 asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr error, ExitStatus) {
                   thrown = error;
                   ended = true;
                 }));
  os::testing::when_idle(io, [&] { cancel.emit(asio::cancellation_type::terminal); });
  ASSERT_TRUE(run_until(io, [&] { return ended; }));
  EXPECT_THROW(std::rethrow_exception(thrown), boost::system::system_error);
  EXPECT_FALSE(child.status());
  EXPECT_EQ(run(io, child.stop(20s)).signal, SIGTERM);
}

TEST_F(SubprocessTest, StopEscalatesWhereTermIsIgnored) {
  Lines lines;
  auto options = shell("trap '' TERM; echo ready; while :; do sleep 1000; done");
  options.environment = {"PATH=/usr/bin:/bin"};
  options.standard_output = into(lines);
  auto child = spawn(std::move(options));
  ASSERT_TRUE(run_until(io, [&] { return !lines.empty(); }));
  const auto status = run(io, child.stop(50ms));
  EXPECT_EQ(status.signal, SIGKILL);
}

TEST_F(SubprocessTest, StopLetsACleanEndHappen) {
  Lines lines;
  auto options = shell("trap 'echo bye; exit 3' TERM; echo ready; sleep infinity & wait");
  options.environment = {"PATH=/usr/bin:/bin"};
  options.standard_output = into(lines);
  auto child = spawn(std::move(options));
  ASSERT_TRUE(run_until(io, [&] { return !lines.empty(); }));
  EXPECT_EQ(run(io, child.stop(20s)).code, 3);
  EXPECT_THAT(lines, ElementsAre("ready", "bye"));
  EXPECT_EQ(run(io, child.stop(20s)).code, 3) << "stopping twice is fine";
}

TEST_F(SubprocessTest, StopWithoutGraceKillsAtOnce) {
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  EXPECT_EQ(run(io, child.stop(0s)).signal, SIGKILL);
}

TEST_F(SubprocessTest, TheChildDiesWithItsParent) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const pid_t middle = ::fork();
  if (middle == 0) {
    asio::io_context inner;
    const auto child = Subprocess::spawn(inner.get_executor(), {.arguments = {"/bin/sleep", "infinity"}});
    const pid_t pid = child ? child->pid() : 0;
    if (::write(pipe[1], &pid, sizeof pid) != sizeof pid) ::_exit(1);
    while (true) ::pause();
  }
  const UniqueFd reader(pipe[0]);
  UniqueFd(pipe[1]).reset();
  pid_t pid = 0;
  ASSERT_EQ(::read(reader.get(), &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  ASSERT_GT(pid, 1);
  const auto child = open_pidfd(pid);
  ASSERT_TRUE(child);
  ::kill(middle, SIGKILL);
  EXPECT_EQ(::waitpid(middle, nullptr, 0), middle);
  EXPECT_TRUE(ends(*child));
}

TEST_F(SubprocessTest, NoDescriptorIsLeftOpen) {
  EXPECT_TRUE(run(io, spawn(shell("exit 0")).wait()).success());  // what is opened once is open now
  const auto before = open_descriptors();
  for (int i = 0; i < 200; ++i) {
    Lines lines;
    auto options = i % 3 == 0 ? SpawnOptions{.arguments = {"/nonexistent"}} : shell("echo $$");
    options.standard_output = into(lines);
    auto child = Subprocess::spawn(io.get_executor(), std::move(options));
    ASSERT_EQ(child.has_value(), i % 3 != 0);
    if (!child || i % 3 == 1) continue;  // the destructor ends it
    EXPECT_TRUE(run(io, child->wait()).success());
    EXPECT_EQ(lines.size(), 1U);
  }
  EXPECT_EQ(open_descriptors(), before);
}

// A fork would have to copy our page tables, and each page that we write to afterwards would cost a fault.
#if !__has_feature(thread_sanitizer)  // there, children are forked
TEST_F(SubprocessTest, StartingDoesNotCopyOurMemory) {
  constexpr std::size_t kSize = 32UL << 20;
  void* memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ::madvise(memory, kSize, MADV_NOHUGEPAGE);
  auto* bytes = static_cast<volatile char*>(memory);
  const auto touch = [&] {
    for (std::size_t at = 0; at < kSize; at += 4096) bytes[at] = 'x';
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
  };
  touch();
  const auto before = touch();
  auto child = spawn({.arguments = {"/bin/sleep", "infinity"}});
  EXPECT_LT(touch() - before, 1000) << "of 8192 pages";
  ::munmap(memory, kSize);
}
#endif

}  // namespace
}  // namespace lm::os

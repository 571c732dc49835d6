#include "os/orphans.h"

#include <csignal>
#include <cstring>
#include <fstream>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/subprocess.h"
#include "os/testing/run.h"

namespace lm::os {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class OrphansTest : public ::testing::Test {
 protected:
  Subprocess sleeper() {
    return std::move(*Subprocess::spawn(io.get_executor(), {.arguments = {"/bin/sleep", "infinity"}}));
  }

  // As a killed daemon leaves it: the record's owner never gets to remove anything.
  void leave_record(ProcessIdentity process, const fs::path& socket = {}) {
    const auto file = folder.path() / fmt::format("{}.run", process.pid);
    const auto kept_record = fs::path(file) += ".kept";
    const auto kept_socket = fs::path(socket) += ".kept";
    {
      const auto record = RunRecord::write(folder.path(), process, "tinyllama", socket);
      ASSERT_TRUE(record) << record.error().message;
      fs::rename(file, kept_record);
      if (!socket.empty()) fs::rename(socket, kept_socket);
    }
    fs::rename(kept_record, file);
    if (!socket.empty()) fs::rename(kept_socket, socket);
  }

  fs::path make_socket(const std::string& name) {
    const auto path = folder.path() / name;
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return path;
  }

  boost::asio::io_context io;
  os::testing::TemporaryFolder folder;
};

TEST_F(OrphansTest, ARecordEndsWithItsOwner) {
  const auto child = sleeper();
  const auto socket = make_socket("w.sock");
  {
    const auto record = RunRecord::write(folder.path(), child.identity(), "tiny\nllama", socket);
    ASSERT_TRUE(record);
    const auto text = read_file(folder.path() / fmt::format("{}.run", child.pid())).value();
    EXPECT_THAT(text,
                HasSubstr(fmt::format("pid {}\nstart {}\n", child.pid(), child.identity().start_ticks)));
    EXPECT_THAT(text, HasSubstr("name tinyllama\n"));
  }
  EXPECT_EQ(entries(folder.path()), 0U);
}

TEST_F(OrphansTest, ALivingOrphanIsKilledWithItsGroup) {
  std::vector<std::string> lines;
  SpawnOptions options{.arguments = {"/bin/sh", "-c", "sleep infinity & echo $!; wait"},
                       .environment = {"PATH=/bin:/usr/bin"}};
  options.standard_output = Output::lines([&](std::string_view line) { lines.emplace_back(line); });
  const auto child = Subprocess::spawn(io.get_executor(), std::move(options));
  ASSERT_TRUE(child);
  ASSERT_TRUE(os::testing::run_until(io, [&] { return !lines.empty(); }));
  const auto grandchild = open_pidfd(std::stoi(lines.front()));
  ASSERT_TRUE(grandchild);
  const auto socket = make_socket("w.sock");
  leave_record(child->identity(), socket);

  const auto reaped = reap_orphans(folder.path(), 20s);
  ASSERT_TRUE(reaped) << reaped.error().message;
  ASSERT_EQ(reaped->size(), 1U);
  EXPECT_EQ(reaped->front().process, child->identity());
  EXPECT_EQ(reaped->front().name, "tinyllama");
  EXPECT_TRUE(reaped->front().ended);
  EXPECT_EQ(os::testing::run(io, child->wait()).signal, SIGKILL);
  EXPECT_EQ(entries(folder.path()), 0U) << "record and socket are gone";
}

TEST_F(OrphansTest, AReusedPidIsLeftAlone) {
  auto child = sleeper();
  auto earlier = child.identity();
  earlier.start_ticks -= 1;
  leave_record(earlier, make_socket("w.sock"));
  const auto reaped = reap_orphans(folder.path(), 20s);
  ASSERT_TRUE(reaped);
  EXPECT_TRUE(reaped->empty());
  EXPECT_EQ(entries(folder.path()), 0U);
  EXPECT_EQ(os::testing::run(io, child.wait_for(1ms)), std::nullopt) << "the other process lives";
}

TEST_F(OrphansTest, AnotherBootIsLeftAlone) {
  auto child = sleeper();
  std::ofstream(folder.path() / fmt::format("{}.run", child.pid()))
      << fmt::format("pid {}\nstart {}\nboot 00000000-0000-0000-0000-000000000000\nname x\nsocket \n",
                     child.pid(), child.identity().start_ticks);
  EXPECT_TRUE(reap_orphans(folder.path(), 20s).value().empty());
  EXPECT_EQ(entries(folder.path()), 0U);
  EXPECT_EQ(os::testing::run(io, child.wait_for(1ms)), std::nullopt);
}

TEST_F(OrphansTest, RecordsOfDeadProcessesAreRemoved) {
  auto child = sleeper();
  leave_record(child.identity());
  os::testing::run(io, child.stop(0s));
  EXPECT_TRUE(reap_orphans(folder.path(), 20s).value().empty());
  EXPECT_EQ(entries(folder.path()), 0U);
}

TEST_F(OrphansTest, NonsenseIsRemovedAndHarmsNobody) {
  const auto precious = folder.path() / "precious";
  std::ofstream(precious) << "keep";
  std::ofstream(folder.path() / "1.run")
      << "pid 1\nstart 0\nboot x\nname x\nsocket " << precious.string() << "\n";
  std::ofstream(folder.path() / "2.run")
      << "pid -1\nstart 0\nboot " << boot_id().value() << "\nname x\nsocket \n";
  std::ofstream(folder.path() / "3.run") << std::string(100'000, 'x');
  std::ofstream(folder.path() / "4.run") << "";
  std::ofstream(folder.path() / "5.run.a1B2c3") << "pid 5";
  std::ofstream(folder.path() / "6.run")
      << "pid 999999\nstart 0\nboot x\nname x\nsocket " << precious.string() << "\n";
  EXPECT_TRUE(reap_orphans(folder.path(), 20s).value().empty());
  EXPECT_EQ(entries(folder.path()), 1U);
  EXPECT_EQ(read_file(precious).value(), "keep") << "only sockets are removed";
}

TEST_F(OrphansTest, StraysAreThoseOfThatNameWhoseParentHasEnded) {
  const auto process = [&](int pid, const std::string& name, char state, int parent) {
    fs::create_directories(folder.path() / "proc" / std::to_string(pid));
    std::ofstream(folder.path() / "proc" / std::to_string(pid) / "stat")
        << fmt::format("{} ({}) {} {} {} {} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {} 0 0 0\n", pid, name, state,
                       parent, pid, pid, pid * 10);
  };
  process(100, "llm-worker", 'S', 1);
  process(101, "llm-worker", 'S', 77);
  process(102, "llm-worker", 'Z', 1);
  process(103, "llm-workers", 'S', 1);
  process(104, "sleep", 'S', 1);
  fs::create_directories(folder.path() / "proc/net");
  const auto strays = find_strays("llm-worker", folder.path());
  ASSERT_EQ(strays.size(), 1U);
  EXPECT_EQ(strays[0], (ProcessIdentity{.pid = 100, .start_ticks = 1000}));
  EXPECT_TRUE(find_strays("llm-worker", folder.path() / "nowhere").empty());
}

TEST_F(OrphansTest, AMissingFolderIsNothingToDo) {
  EXPECT_TRUE(reap_orphans(folder.path() / "missing", 1s).value().empty());
}

}  // namespace
}  // namespace lm::os

#include "probe/process_memory.h"

#include <fstream>
#include <string>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/socket.h"
#include "os/subprocess.h"
#include "os/testing/run.h"
#include "probe/holders.h"
#include "probe/host_probe.h"
#include "probe/status_text.h"

namespace lm::probe {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr Bytes kTaken = mib(64);

// Within two per cent.
::testing::AssertionResult is_about(Bytes measured, Bytes expected) {
  const auto off = measured.count() - expected.count();
  if (std::abs(off) * 50 <= expected.count()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << to_string(measured) << " instead of " << to_string(expected);
}

class MemoryHolder : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = os::make_socket_pair().value();
    os::SpawnOptions options{.arguments = {MEMORY_HOLDER}};
    options.inherit = {{pair.childs.get(), 3}};
    auto spawned = os::Subprocess::spawn(io.get_executor(), std::move(options));
    ASSERT_TRUE(spawned) << spawned.error().message;
    child.emplace(std::move(*spawned));
    link.emplace(io.get_executor(), std::move(pair.ours));
    take("anonymous 0");  // it has started
  }

  void take(const std::string& what) {
    ASSERT_TRUE(link->write_line(what));
    ASSERT_EQ(os::testing::run(io, link->read_line(100, 20s)).value_or("no answer"), "ready");
  }

  ProcessMemory measure() { return read_process_memory(child->identity()).value(); }

  boost::asio::io_context io;
  std::optional<os::Subprocess> child;
  std::optional<os::LineLink> link;
};

TEST_F(MemoryHolder, AnonymousMemoryIsHeld) {
  const auto before = measure();
  take("anonymous 64");
  const auto after = measure();
  EXPECT_TRUE(is_about(after.held() - before.held(), kTaken));
  EXPECT_TRUE(is_about(after.held(), kTaken)) << "a small program holds next to nothing itself";
  EXPECT_LT(after.reclaimable - before.reclaimable, mib(1));
}

TEST_F(MemoryHolder, SharedMemoryIsHeld) {
  const auto before = measure();
  take("shared 64");
  const auto after = measure();
  EXPECT_TRUE(is_about(after.held() - before.held(), kTaken));
  EXPECT_TRUE(is_about(after.shared - before.shared, kTaken));
}

TEST_F(MemoryHolder, PagesOfFilesAreReclaimable) {
  const os::testing::TemporaryFolder folder;
  const auto file = folder.path() / "weights";
  std::ofstream(file) << std::string(static_cast<std::size_t>(kTaken.count()), 'w');
  const auto before = measure();
  take("file " + file.string());
  const auto after = measure();
  EXPECT_TRUE(is_about(after.reclaimable - before.reclaimable, kTaken));
  EXPECT_LT(after.held() - before.held(), mib(1));
  EXPECT_GE(read_proportional_size(child->identity()).value(), kTaken);
}

TEST_F(MemoryHolder, ADeadProcessIsNotFound) {
  const auto identity = child->identity();
  os::testing::run(io, child->stop(0s));
  const auto gone = read_process_memory(identity);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(gone.error().number("pid"), identity.pid);
  EXPECT_EQ(read_proportional_size(identity).error().code, ErrorCode::kNotFound);
}

TEST_F(MemoryHolder, AReusedPidIsNotFound) {
  auto earlier = child->identity();
  earlier.start_ticks -= 1;
  EXPECT_EQ(read_process_memory(earlier).error().code, ErrorCode::kNotFound);
}

TEST_F(MemoryHolder, IsAmongTheHoldersAndInTheReading) {
  take("anonymous 64");
  auto gone = child->identity();
  gone.start_ticks -= 1;
  HostProbe probe;
  const auto reading = probe.read({.processes = {child->identity(), gone}, .holders = 1000}).value();
  ASSERT_EQ(reading.processes.size(), 1U) << "the one that is gone is left out";
  EXPECT_EQ(reading.processes.front().pid, child->pid());
  EXPECT_TRUE(is_about(reading.processes.front().held.on(host_device()), kTaken));

  ASSERT_EQ(reading.devices.size(), 1U);
  const auto& host = reading.devices.front();
  EXPECT_EQ(host.device, host_device());
  EXPECT_TRUE(host.per_process);
  EXPECT_GT(host.capacity, mib(100));
  EXPECT_GT(host.free, Bytes());
  EXPECT_LE(host.free, host.capacity);
  EXPECT_TRUE(std::ranges::is_sorted(host.holders, std::ranges::greater(), &Holder::bytes));
  const auto found = std::ranges::find(host.holders, child->pid(), &Holder::pid);
  ASSERT_NE(found, host.holders.end());
  EXPECT_EQ(found->name, "memory_holder");
  EXPECT_TRUE(is_about(found->bytes, kTaken));

  EXPECT_TRUE(probe.read({}).value().devices.front().holders.empty());
  const auto devices = probe.devices().value();
  ASSERT_EQ(devices.size(), 1U);
  EXPECT_EQ(devices.front().capacity, host.capacity);
}

TEST(ProcessMemoryText, SumsWhatCannotBeTakenBack) {
  const os::testing::TemporaryFolder root;
  const auto folder = root.path() / "proc/42";
  fs::create_directories(folder);
  std::ofstream(folder / "stat") << "42 (x) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n";
  std::ofstream(folder / "status")
      << "Name:\tx\nVmRSS:\t 99 kB\nRssAnon:\t  1 kB\nRssFile:\t 2 kB\nRssShmem:\t 4 kB\n"
         "VmSwap:\t 8 kB\nHugetlbPages:\t 16 kB\n";
  const auto memory = read_process_memory({.pid = 42, .start_ticks = 500}, root.path()).value();
  EXPECT_EQ(memory.held(), kib(1 + 4 + 8 + 16));
  EXPECT_EQ(memory.reclaimable, kib(2));
  // A zombie keeps its number and has no memory.
  std::ofstream(folder / "stat") << "42 (x) Z 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n";
  EXPECT_EQ(read_process_memory({.pid = 42, .start_ticks = 500}, root.path()).error().code,
            ErrorCode::kNotFound);
}

TEST(StatusText, FieldsAreWholeNames) {
  constexpr std::string_view kText =
      "RssAnonymous: 7 kB\nRssAnon:\t  12 kB \nEmpty:\nBare: 5\nHuge: 99999999999999999999 kB";
  EXPECT_EQ(bytes_of(kText, "RssAnon"), kib(12));
  EXPECT_EQ(field_of(kText, "Empty"), "");
  EXPECT_EQ(field_of(kText, "Missing"), std::nullopt);
  EXPECT_EQ(bytes_of(kText, "Empty"), std::nullopt);
  EXPECT_EQ(bytes_of(kText, "Bare"), std::nullopt);
  EXPECT_EQ(bytes_of(kText, "Huge"), std::nullopt);
}

TEST(Holders, TheLargestComeFirst) {
  const os::testing::TemporaryFolder root;
  for (const auto& [pid, amount] :
       {std::pair(10, 5), std::pair(11, 50), std::pair(12, 0), std::pair(13, 20), std::pair(14, 50)}) {
    fs::create_directories(root.path() / "proc" / std::to_string(pid));
    std::ofstream(root.path() / "proc" / std::to_string(pid) / "status")
        << "Name:\tp" << pid << "\nRssAnon:\t" << amount << " kB\n";
  }
  fs::create_directories(root.path() / "proc/99");  // ended while we looked
  fs::create_directories(root.path() / "proc/sys");
  const auto top = read_host_holders(3, root.path()).value();
  EXPECT_THAT(top, ::testing::ElementsAre(Holder{11, "p11", kib(50)}, Holder{14, "p14", kib(50)},
                                          Holder{13, "p13", kib(20)}));
  EXPECT_FALSE(read_host_holders(3, root.path() / "missing"));
}

}  // namespace
}  // namespace lm::probe

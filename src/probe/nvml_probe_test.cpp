#include "probe/nvml_probe.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"
#include "probe/machine_probe.h"

namespace lm::probe {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const DeviceId kFirst("cuda0");
const DeviceId kSecond("cuda1");

std::string gigabytes(std::int64_t n) {
  return std::to_string(gib(n).count());
}

// The stand-in library with a text of its own; the rest of the machine is real, but for its pid namespace.
class Driver : public ::testing::Test {
 protected:
  Driver() {
    ::setenv("FAKE_NVML", (folder_.path() / "cards").c_str(), 1);
    fs::create_directory(folder_.path() / "cards.d");
    pid_namespace("pid:[4026531836]");
  }
  ~Driver() override { ::unsetenv("FAKE_NVML"); }

  void says(const std::string& text) { std::ofstream(folder_.path() / "cards") << text; }

  // A root whose processes are those of the machine, and whose own namespace is this.
  void pid_namespace(const std::string& name) {
    root_ = folder_.path() / ("root-" + name);
    fs::create_directories(root_ / "proc/self/ns");
    fs::create_symlink(name, root_ / "proc/self/ns/pid");
    const fs::path me = root_ / "proc" / std::to_string(::getpid());
    fs::create_directory(me);
    std::ofstream(me / "stat") << os::read_file("/proc/self/stat").value();
  }

  NvmlProbe& open(std::optional<std::string> visible = std::nullopt) {
    auto opened =
        NvmlProbe::open({.library = FAKE_NVML_LIBRARY, .visible = std::move(visible), .root = root_});
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
    probe_ = std::move(opened).value();
    return *probe_;
  }

  std::vector<std::string> names(const std::optional<std::string>& visible) {
    std::vector<std::string> out;
    for (const Device& device : open(visible).devices().value())
      out.push_back(device.id.str() + "=" + device.name);
    return out;
  }

  static os::ProcessIdentity me() { return os::identify(::getpid()).value(); }
  static Request about_me(std::size_t holders = 0) { return {.processes = {me()}, .holders = holders}; }
  static std::string mine(std::int64_t bytes, int card = 0) {
    return "process card=" + std::to_string(card) + " pid=" + std::to_string(::getpid()) +
           " bytes=" + std::to_string(bytes) + "\n";
  }

  os::testing::TemporaryFolder folder_;
  fs::path root_;
  std::unique_ptr<NvmlProbe> probe_;
};

TEST_F(Driver, NoLibraryIsNoDriver) {
  const auto opened = NvmlProbe::open({.library = "libno-such-driver.so.1"});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kNotFound);
}

TEST_F(Driver, AnotherLibraryIsRefused) {
  const auto opened = NvmlProbe::open({.library = "libm.so.6"});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(opened.error().message, HasSubstr("lacks functions"));
}

TEST_F(Driver, SaysWhyItDoesNotWork) {
  says("driver init=18\ncard\n");
  const auto opened = NvmlProbe::open({.library = FAKE_NVML_LIBRARY});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(opened.error().message, HasSubstr("version mismatch"));
}

TEST_F(Driver, TellsACard) {
  says("driver version=550.90\ncard name=NVIDIA_A total=" + gigabytes(80) + " reserved=" + gigabytes(1) +
       " used=1024 display=1 util=37 celsius=41 milliwatts=76500\n");
  const auto devices = open().devices().value();
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].id, kFirst);
  EXPECT_EQ(devices[0].kind, DeviceKind::kCuda);
  EXPECT_EQ(devices[0].name, "NVIDIA A");
  EXPECT_EQ(devices[0].capacity, gib(79)) << "what the driver keeps is nobody's";
  EXPECT_EQ(devices[0].driver, "550.90");
  EXPECT_TRUE(devices[0].display);
  EXPECT_FALSE(devices[0].is_part);
  const auto reading = probe_->read({}).value();
  ASSERT_THAT(reading.devices, SizeIs(1));
  EXPECT_EQ(reading.devices[0].capacity, gib(79));
  EXPECT_EQ(reading.devices[0].free, gib(79) - Bytes(1024));
  EXPECT_TRUE(reading.devices[0].per_process);
  EXPECT_EQ(reading.devices[0].utilization, 37);
  EXPECT_EQ(reading.devices[0].celsius, 41);
  EXPECT_EQ(reading.devices[0].milliwatts, 76500);
  EXPECT_THAT(reading.processes, IsEmpty());
}

TEST_F(Driver, WhatACardCannotTellIsEmpty) {
  says("card\n");
  const auto reading = open().read({}).value();
  EXPECT_EQ(reading.devices[0].utilization, std::nullopt);
  EXPECT_EQ(reading.devices[0].celsius, std::nullopt);
  EXPECT_EQ(reading.devices[0].milliwatts, std::nullopt);
}

TEST_F(Driver, AnOldDriverCountsItsOwnAsUsed) {
  says("card old=1 total=" + gigabytes(24) + " reserved=" + std::to_string(mib(300).count()) + "\n");
  const auto reading = open().read({}).value();
  EXPECT_EQ(reading.devices[0].capacity, gib(24));
  EXPECT_EQ(reading.devices[0].free, gib(24) - mib(300));
  EXPECT_TRUE(reading.devices[0].per_process);
}

TEST_F(Driver, CountsCardsByTheirPlaceOnTheBus) {
  says("card name=C bus=193\ncard name=A bus=1\ncard name=B bus=65\n");
  EXPECT_THAT(names(std::nullopt), ElementsAre("cuda0=A", "cuda1=B", "cuda2=C"));
}

TEST_F(Driver, EightCardsAreEight) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += "card\n";
  says(text + mine(gib(3).count(), 7));
  EXPECT_THAT(open().devices().value(), SizeIs(8));
  const auto reading = probe_->read(about_me()).value();
  ASSERT_THAT(reading.processes, SizeIs(1));
  EXPECT_EQ(reading.processes[0].held, (DeviceBytes{{DeviceId("cuda7"), gib(3)}}));
}

TEST_F(Driver, ShowsWhatWorkersSee) {
  says("card name=A bus=1 uuid=GPU-aaaa\ncard name=B bus=2 uuid=GPU-bbbb\ncard name=C bus=3 uuid=GPU-cccc\n");
  EXPECT_THAT(names("2,0"), ElementsAre("cuda0=C", "cuda1=A"));
  EXPECT_THAT(names(" 1 "), ElementsAre("cuda0=B"));
  EXPECT_THAT(names("GPU-bb,GPU-a"), ElementsAre("cuda0=B", "cuda1=A"));
  EXPECT_THAT(names(""), IsEmpty());
  EXPECT_THAT(names("-1"), IsEmpty());
  EXPECT_THAT(names("1,7,0"), ElementsAre("cuda0=B")) << "it ends at the first that names nothing";
}

TEST_F(Driver, OfADividedCardThePartCounts) {
  says("card name=NVIDIA_A total=" + gigabytes(80) + " part=" + gigabytes(10) + "\n");
  const auto devices = open().devices().value();
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].capacity, gib(10));
  EXPECT_EQ(devices[0].name, "NVIDIA A MIG 1g");
  EXPECT_TRUE(devices[0].is_part);
}

TEST_F(Driver, TellsWhatAProcessHolds) {
  says("card\ncard\n" + mine(gib(5).count()) + mine(gib(2).count(), 1));
  const auto reading = open().read(about_me()).value();
  ASSERT_THAT(reading.processes, SizeIs(1));
  EXPECT_EQ(reading.processes[0].pid, ::getpid());
  EXPECT_EQ(reading.processes[0].held, (DeviceBytes{{kFirst, gib(5)}, {kSecond, gib(2)}}));
}

TEST_F(Driver, OneThatComputesAndDrawsCountsOnce) {
  const std::string pid = std::to_string(::getpid());
  says("card used=0\nprocess card=0 pid=" + pid + " bytes=100\nprocess card=0 pid=" + pid +
       " bytes=100 draws=1\n");
  EXPECT_EQ(open().read(about_me()).value().processes[0].held.on(kFirst), Bytes(100));
}

TEST_F(Driver, NamesTheLargestHolders) {
  std::string text = "card\n" + mine(gib(1).count());
  for (int i = 0; i < 40; ++i)
    text +=
        "process card=0 pid=" + std::to_string(5'000'000 + i) + " bytes=" + std::to_string(1000 + i) + "\n";
  says(text);
  const auto reading = open().read(about_me(2)).value();
  ASSERT_THAT(reading.devices[0].holders, SizeIs(2)) << "of more than the list's first room";
  EXPECT_EQ(reading.devices[0].holders[0],
            (Holder{::getpid(), os::read_process_stat(::getpid()).value().name, gib(1)}));
  EXPECT_EQ(reading.devices[0].holders[1].bytes, Bytes(1039));
  EXPECT_THAT(probe_->read(about_me()).value().devices[0].holders, IsEmpty()) << "only when asked";
}

TEST_F(Driver, ANumberThatBelongsToSomebodyElseNowIsNotOurs) {
  says("card\n" + mine(gib(1).count()));
  auto before = me();
  --before.start_ticks;
  EXPECT_THAT(open().read({.processes = {before}}).value().processes, IsEmpty());
}

TEST_F(Driver, WhatClingsToAnEndedProcessIsTold) {
  says("card\nprocess card=0 pid=4999999 bytes=4096\n");
  const auto reading = open().read({.processes = {{.pid = 4999999, .start_ticks = 1}}}).value();
  ASSERT_THAT(reading.processes, SizeIs(1));
  EXPECT_EQ(reading.processes[0].held.on(kFirst), Bytes(4096));
}

TEST_F(Driver, WithoutBytesPerProcessTheDeviceAloneCounts) {
  says("card bytes=na\n" + mine(gib(5).count()));
  const auto reading = open().read(about_me(3)).value();
  EXPECT_FALSE(reading.devices[0].per_process);
  EXPECT_THAT(reading.devices[0].unknown, HasSubstr("does not tell bytes per process"));
  EXPECT_EQ(reading.devices[0].free, gib(75));
  EXPECT_THAT(reading.processes, IsEmpty());
}

TEST_F(Driver, AListThatFailsIsNoEmptyList) {
  says("card list=999\n" + mine(gib(5).count()));
  const auto reading = open().read(about_me()).value();
  EXPECT_FALSE(reading.devices[0].per_process);
  EXPECT_THAT(reading.processes, IsEmpty());
}

TEST_F(Driver, WhatNobodyExplainsMakesTheListWorthless) {
  says("card used=" + std::to_string(mib(500).count()) + "\n");
  EXPECT_TRUE(open().read({}).value().devices[0].per_process);
  says("card used=" + std::to_string(mib(600).count()) + "\n");
  const auto reading = probe_->read({}).value();
  EXPECT_FALSE(reading.devices[0].per_process);
  EXPECT_THAT(reading.devices[0].unknown, HasSubstr("600"));
}

TEST_F(Driver, InAContainerAnEmptyListProvesNothing) {
  pid_namespace("pid:[4026532441]");
  says("card pids=hidden\n" + mine(1000));
  EXPECT_FALSE(open().read(about_me()).value().devices[0].per_process);
  says("card pids=foreign\n" + mine(1000));
  EXPECT_FALSE(probe_->read(about_me()).value().devices[0].per_process);
  // A driver that translates: from then on an empty list says that we hold nothing.
  says("card\n" + mine(1000));
  const auto seen = probe_->read(about_me()).value();
  EXPECT_TRUE(seen.devices[0].per_process);
  EXPECT_EQ(seen.processes[0].held.on(kFirst), Bytes(1000));
  says("card\n");
  EXPECT_TRUE(probe_->read({}).value().devices[0].per_process);
}

TEST_F(Driver, ACardThatFellOffTheBusIsFull) {
  says("card total=" + gigabytes(80) + "\ncard\n" + mine(gib(2).count(), 1));
  open();
  says("card memory=15\ncard\n" + mine(gib(2).count(), 1));
  const auto reading = probe_->read(about_me()).value();
  ASSERT_THAT(reading.devices, SizeIs(2));
  EXPECT_EQ(reading.devices[0].free, Bytes());
  EXPECT_EQ(reading.devices[0].capacity, gib(80));
  EXPECT_FALSE(reading.devices[0].per_process);
  EXPECT_THAT(reading.devices[0].unknown, HasSubstr("GPU is lost"));
  EXPECT_EQ(reading.processes[0].held, (DeviceBytes{{kSecond, gib(2)}})) << "the other one goes on";
}

TEST_F(Driver, ACardThatDoesNotAnswerAtTheStartIsNotThere) {
  says("card name=A memory=15\ncard name=B\n");
  EXPECT_THAT(names(std::nullopt), ElementsAre("cuda0=B"));
}

TEST_F(Driver, LaggingMemoryMakesTheListWorthlessUntilItIsBack) {
  says("card linger=2\n");
  std::ofstream(folder_.path() / "cards.d/4999998") << "0 " << gib(6).count();  // has ended
  auto& probe = open();                                                         // the first question
  const auto lagging = probe.read({}).value();
  EXPECT_EQ(lagging.devices[0].free, gib(74));
  EXPECT_FALSE(lagging.devices[0].per_process);
  const auto back = probe.read({}).value();
  EXPECT_EQ(back.devices[0].free, gib(80));
  EXPECT_TRUE(back.devices[0].per_process);
}

TEST_F(Driver, TheMachineIsTheHostAndItsCards) {
  says("card\n" + mine(gib(5).count()));
  MachineProbe probe({.root = "/", .nvml = FAKE_NVML_LIBRARY});
  const auto devices = probe.devices().value();
  ASSERT_THAT(devices, SizeIs(2));
  EXPECT_EQ(devices[0].id, host_device());
  EXPECT_EQ(devices[1].id, kFirst);
  EXPECT_THAT(probe.troubles(), IsEmpty());
  const auto reading = probe.read(about_me()).value();
  EXPECT_THAT(reading.devices, SizeIs(2));
  ASSERT_THAT(reading.processes, SizeIs(1)) << "one process, on both";
  EXPECT_GT(reading.processes[0].held.on(host_device()), Bytes());
  EXPECT_EQ(reading.processes[0].held.on(kFirst), gib(5));
}

TEST_F(Driver, AMachineWithoutADriverIsTheHost) {
  MachineProbe none({.root = "/", .nvml = "libno-such-driver.so.1"});
  EXPECT_THAT(none.devices().value(), SizeIs(1));
  EXPECT_THAT(none.troubles(), IsEmpty());
  says("driver init=9\n");
  MachineProbe broken({.root = "/", .nvml = FAKE_NVML_LIBRARY});
  EXPECT_THAT(broken.devices().value(), SizeIs(1));
  EXPECT_THAT(broken.troubles(), ElementsAre(HasSubstr("Driver Not Loaded")));
}

}  // namespace
}  // namespace lm::probe

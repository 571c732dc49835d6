#include "probe/amdgpu_probe.h"

#include <fstream>
#include <string>

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

constexpr os::ProcessIdentity kWorker{.pid = 4711, .start_ticks = 900};

// A machine as the kernel shows it in /sys and /proc, with as many AMD cards as a test makes.
class AmdgpuTree : public ::testing::Test {
 protected:
  AmdgpuTree() { write("proc/sys/kernel/osrelease", "6.8.0-41-generic\n"); }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((folder_.path() / path).parent_path());
    std::ofstream(folder_.path() / path) << text;
  }

  fs::path card(int number, const std::string& bus, Bytes capacity, Bytes used,
                const std::string& driver = "amdgpu") {
    const fs::path device = fs::path("sys/class/drm") / ("card" + std::to_string(number)) / "device";
    write(device / "uevent",
          "DRIVER=" + driver + "\nPCI_CLASS=30000\nPCI_ID=1002:744C\nPCI_SLOT_NAME=" + bus + "\n");
    write(device / "device", "0x744c\n");
    write(device / "mem_info_vram_total", std::to_string(capacity.count()) + "\n");
    write(device / "mem_info_vram_used", std::to_string(used.count()) + "\n");
    fs::create_symlink("../../../../bus/pci/drivers/" + driver, folder_.path() / device / "driver");
    return device;
  }

  void process(os::ProcessIdentity who, const std::string& name) {
    std::string fields = std::to_string(who.pid) + " (" + name +
                         ") S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 " + std::to_string(who.start_ticks);
    for (int i = 0; i < 30; ++i) fields += " 0";
    write(fs::path("proc") / std::to_string(who.pid) / "stat", fields + "\n");
  }

  // An open file of a process, as /proc/PID/fd and fdinfo show it.
  void file(int pid, int number, const std::string& info, const std::string& target = "/dev/dri/renderD128") {
    const fs::path process = fs::path("proc") / std::to_string(pid);
    write(process / "fdinfo" / std::to_string(number), info);
    fs::create_directories(folder_.path() / process / "fd");
    fs::create_symlink(target, folder_.path() / process / "fd" / std::to_string(number));
  }

  static std::string info(const std::string& bus, int client, const std::string& vram) {
    return "pos:\t0\nflags:\t02100002\nmnt_id:\t25\nino:\t1042\ndrm-driver:\tamdgpu\ndrm-client-id:\t" +
           std::to_string(client) + "\ndrm-pdev:\t" + bus + "\npasid:\t32770\ndrm-memory-vram:\t" + vram +
           "\ndrm-memory-gtt: \t2048 KiB\ndrm-memory-cpu: \t0 KiB\n";
  }

  // What the compute driver tells of a process, and which card it calls what.
  void compute_node(int node, const std::string& id, int location) {
    const fs::path folder = fs::path("sys/class/kfd/kfd/topology/nodes") / std::to_string(node);
    write(folder / "gpu_id", id + "\n");
    write(folder / "properties", "cpu_cores_count 0\nsimd_count 192\nlocation_id " +
                                     std::to_string(location) + "\ndomain 0\nnum_cp_queues 8\n");
  }
  void compute_process(int pid, const std::string& id, Bytes bytes) {
    write(fs::path("sys/class/kfd/kfd/proc") / std::to_string(pid) / ("vram_" + id),
          std::to_string(bytes.count()) + "\n");
  }

  AmdgpuProbe& open() {
    probe_ = AmdgpuProbe::open(folder_.path());
    EXPECT_NE(probe_, nullptr);
    return *probe_;
  }
  Reading read(std::size_t holders = 0, os::ProcessIdentity who = kWorker) {
    return open().read({.processes = {who}, .holders = holders}).value();
  }

  os::testing::TemporaryFolder folder_;
  std::unique_ptr<AmdgpuProbe> probe_;
};

TEST_F(AmdgpuTree, WithoutCardsThereIsNoProbe) {
  EXPECT_EQ(AmdgpuProbe::open(folder_.path()), nullptr);
  card(0, "0000:01:00.0", gib(8), gib(1), "nouveau");
  EXPECT_EQ(AmdgpuProbe::open(folder_.path()), nullptr);
}

TEST_F(AmdgpuTree, CardsAreCountedByTheirPlaceOnTheBus) {
  card(1, "0000:03:00.0", gib(24), gib(1));
  card(0, "0000:43:00.0", gib(16), gib(1));
  write("sys/class/drm/card1/device/product_name", "Radeon PRO W7900\n");
  write("sys/class/drm/card1-DP-1/status", "disconnected\n");
  write("sys/class/drm/card0-HDMI-A-1/status", "connected\n");
  write("sys/module/amdgpu/version", "6.8.5\n");
  const auto devices = open().devices().value();
  ASSERT_THAT(devices, SizeIs(2));
  EXPECT_EQ(devices[0].id, DeviceId("rocm0"));
  EXPECT_EQ(devices[0].name, "Radeon PRO W7900");
  EXPECT_EQ(devices[0].kind, DeviceKind::kRocm);
  EXPECT_EQ(devices[0].capacity, gib(24));
  EXPECT_EQ(devices[0].driver, "6.8.5");
  EXPECT_FALSE(devices[0].display);
  EXPECT_EQ(devices[1].name, "AMD 744c");
  EXPECT_EQ(devices[1].capacity, gib(16));
  EXPECT_TRUE(devices[1].display);
}

TEST_F(AmdgpuTree, SensorsAreRead) {
  const auto device = card(0, "0000:03:00.0", gib(24), gib(5));
  write(device / "gpu_busy_percent", "37\n");
  write(device / "hwmon/hwmon3/temp1_input", "58000\n");
  write(device / "hwmon/hwmon3/power1_average", "213000000\n");
  const auto reading = read();
  ASSERT_THAT(reading.devices, SizeIs(1));
  EXPECT_EQ(reading.devices[0].free, gib(19));
  EXPECT_EQ(reading.devices[0].utilization, 37);
  EXPECT_EQ(reading.devices[0].celsius, 58);
  EXPECT_EQ(reading.devices[0].milliwatts, 213'000);
}

TEST_F(AmdgpuTree, NewerCardsTellTheirPowerElsewhereAndSomeTellNothing) {
  const auto device = card(0, "0000:03:00.0", gib(24), gib(5));
  EXPECT_EQ(read().devices[0].milliwatts, std::nullopt);
  EXPECT_EQ(read().devices[0].utilization, std::nullopt);
  write(device / "hwmon/hwmon3/power1_input", "41000000\n");
  EXPECT_EQ(read().devices[0].milliwatts, 41'000);
}

TEST_F(AmdgpuTree, AProcessHoldsWhatItsFilesTell) {
  card(0, "0000:03:00.0", gib(24), gib(6));
  card(1, "0000:43:00.0", gib(24), gib(3));
  process(kWorker, "llm-worker");
  file(kWorker.pid, 12, info("0000:03:00.0", 7, "4194304 KiB"));
  file(kWorker.pid, 13, info("0000:03:00.0", 7, "4194304 KiB"));  // the same client once more
  file(kWorker.pid, 14, info("0000:03:00.0", 8, "1024 MiB"));
  file(kWorker.pid, 15, info("0000:43:00.0", 7, "2147483648"));
  file(kWorker.pid, 16, "pos:\t0\nflags:\t0\n", "/etc/passwd");
  file(kWorker.pid, 17, "pos:\t0\ndrm-driver:\ti915\ndrm-pdev:\t0000:00:02.0\n");
  const auto reading = read();
  ASSERT_THAT(reading.processes, SizeIs(1));
  EXPECT_EQ(reading.processes[0].pid, kWorker.pid);
  EXPECT_EQ(reading.processes[0].held.on(DeviceId("rocm0")), gib(5));
  EXPECT_EQ(reading.processes[0].held.on(DeviceId("rocm1")), gib(2));
  EXPECT_TRUE(reading.devices[0].per_process);
  EXPECT_THAT(reading.devices[0].holders, IsEmpty());
}

TEST_F(AmdgpuTree, WhatTheComputeDriverTellsCountsWhereItIsMore) {
  card(0, "0000:03:00.0", gib(24), gib(10));
  compute_node(0, "0", 0);  // a processor
  compute_node(1, "51426", 0x300);
  process(kWorker, "llm-worker");
  file(kWorker.pid, 12, info("0000:03:00.0", 7, "16384 KiB"));
  compute_process(kWorker.pid, "51426", gib(9));
  EXPECT_EQ(read().processes.at(0).held.on(DeviceId("rocm0")), gib(9));
}

TEST_F(AmdgpuTree, AProcessThatHasEndedMayStillBeToldOf) {
  card(0, "0000:03:00.0", gib(24), gib(10));
  compute_node(1, "51426", 0x300);
  compute_process(kWorker.pid, "51426", gib(9));
  EXPECT_EQ(read().processes.at(0).held.on(DeviceId("rocm0")), gib(9)) << "its memory clings";
}

TEST_F(AmdgpuTree, AnotherProcessWithTheSameNumberIsNotOurs) {
  card(0, "0000:03:00.0", gib(24), gib(6));
  process({.pid = kWorker.pid, .start_ticks = 12'345}, "game");
  file(kWorker.pid, 12, info("0000:03:00.0", 7, "4194304 KiB"));
  EXPECT_THAT(read().processes, IsEmpty());
}

TEST_F(AmdgpuTree, HoldersAreTheLargestOfAllProcesses) {
  card(0, "0000:03:00.0", gib(24), mib(9600));
  process(kWorker, "llm-worker");
  process({.pid = 88, .start_ticks = 5}, "Xorg");
  process({.pid = 99, .start_ticks = 6}, "blender");
  file(kWorker.pid, 12, info("0000:03:00.0", 7, "4194304 KiB"));
  file(88, 4, info("0000:03:00.0", 1, "204800 KiB"));
  file(99, 9, info("0000:03:00.0", 2, "5242880 KiB"));
  const auto holders = read(2).devices.at(0).holders;
  EXPECT_THAT(holders, ElementsAre(Holder{99, "blender", gib(5)}, Holder{kWorker.pid, "llm-worker", gib(4)}));
  EXPECT_EQ(read(2).devices.at(0).unknown, "");
}

TEST_F(AmdgpuTree, WhatNobodyExplainsIsSaid) {
  card(0, "0000:03:00.0", gib(24), gib(10));
  EXPECT_THAT(read(3).devices.at(0).unknown, HasSubstr("who holds 10"));
  EXPECT_TRUE(read(3).devices.at(0).per_process) << "ours may always be looked into";
}

TEST_F(AmdgpuTree, AnOldKernelTellsNothingPerProcess) {
  write("proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
  card(0, "0000:03:00.0", gib(24), gib(6));
  process(kWorker, "llm-worker");
  const auto reading = read();
  EXPECT_FALSE(reading.devices.at(0).per_process);
  EXPECT_THAT(reading.devices.at(0).unknown, HasSubstr("older than 6.0"));
  EXPECT_THAT(reading.processes, IsEmpty());
}

TEST_F(AmdgpuTree, ACardThatIsLostReadsAsFull) {
  const auto device = card(0, "0000:03:00.0", gib(24), gib(6));
  AmdgpuProbe& probe = open();
  fs::remove(folder_.path() / device / "mem_info_vram_used");
  const auto reading = probe.read({}).value();
  EXPECT_EQ(reading.devices.at(0).capacity, gib(24));
  EXPECT_EQ(reading.devices.at(0).free, Bytes());
  EXPECT_FALSE(reading.devices.at(0).per_process);
}

TEST_F(AmdgpuTree, NonsenseIsNoNumber) {
  const auto device = card(0, "0000:03:00.0", gib(24), gib(6));
  write(device / "gpu_busy_percent", "-\n");
  write(device / "hwmon/hwmon0/temp1_input", "");
  process(kWorker, "llm-worker");
  file(kWorker.pid, 12, info("0000:03:00.0", 7, "many KiB"));
  file(kWorker.pid, 13, info("0000:03:00.0", 9, "-4 KiB"));
  const auto reading = read();
  EXPECT_EQ(reading.devices.at(0).utilization, std::nullopt);
  EXPECT_EQ(reading.devices.at(0).celsius, std::nullopt);
  EXPECT_THAT(reading.processes, IsEmpty());
}

TEST_F(AmdgpuTree, IsPartOfTheMachine) {
  write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1048576 kB\nMemAvailable:   10485760 kB\n");
  card(0, "0000:03:00.0", gib(24), gib(6));
  MachineProbe machine({.root = folder_.path(), .nvml = ""});
  const auto devices = machine.devices().value();
  ASSERT_THAT(devices, SizeIs(2));
  EXPECT_EQ(devices[1].id, DeviceId("rocm0"));
  EXPECT_THAT(machine.read({}).value().devices, SizeIs(2));
}

}  // namespace
}  // namespace lm::probe

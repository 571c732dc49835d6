#include "probe/host_memory.h"

#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"
#include "probe/control_group.h"

namespace lm::probe {
namespace {

namespace fs = std::filesystem;

// A machine of 16 GiB, 10 of them available, written as the kernel writes it.
class Tree : public ::testing::Test {
 protected:
  Tree() {
    write("proc/meminfo",
          "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:   10485760 kB\nCached:    "
          "      9437184 kB\n"
          "SwapTotal:       2097152 kB\nSwapFree:        1572864 kB\n");
  }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((folder.path() / path).parent_path());
    std::ofstream(folder.path() / path) << text;
  }

  void version_two(const std::string& group, const std::string& shown = "/") {
    write("proc/self/cgroup", "0::" + group + "\n");
    write("proc/self/mountinfo",
          "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n28 22 0:25 " + shown +
              " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n");
  }

  void group_two(const fs::path& folder_of_group, const std::string& max, Bytes current, Bytes inactive,
                 Bytes active, const std::string& high = "max") {
    const auto base = fs::path("sys/fs/cgroup") / folder_of_group;
    write(base / "memory.max", max + "\n");
    write(base / "memory.high", high + "\n");
    write(base / "memory.current", std::to_string(current.count()) + "\n");
    write(base / "memory.stat", "anon 1\nfile 7\ninactive_file " + std::to_string(inactive.count()) +
                                    "\nactive_file " + std::to_string(active.count()) + "\n");
  }

  HostMemory read() { return read_host_memory(folder.path()).value(); }

  os::testing::TemporaryFolder folder;
};

std::string number(Bytes bytes) {
  return std::to_string(bytes.count());
}

TEST_F(Tree, WithoutGroupsTheMachineBinds) {
  const auto memory = read();
  EXPECT_EQ(memory.machine_total, gib(16));
  EXPECT_EQ(memory.capacity, gib(16));
  EXPECT_EQ(memory.machine_available, gib(10));
  EXPECT_EQ(memory.free, gib(10)) << "page cache is not used memory";
  EXPECT_EQ(memory.swap_total, gib(2));
  EXPECT_EQ(memory.swap_used, mib(512));
  EXPECT_EQ(memory.capacity_bound_by, "");
  EXPECT_EQ(memory.free_bound_by, "");
}

TEST_F(Tree, MaxIsNoLimit) {
  version_two("/user.slice/app");
  group_two("user.slice/app", "max", gib(3), gib(1), gib(1));
  group_two("user.slice", "max", gib(3), gib(1), gib(1));
  EXPECT_EQ(read().capacity, gib(16));
  EXPECT_EQ(read().free, gib(10));
  EXPECT_TRUE(read_control_group_limits(folder.path()).empty());
}

TEST_F(Tree, TheTightestOfNestedGroupsBinds) {
  version_two("/user.slice/app/worker");
  group_two("user.slice/app/worker", number(gib(12)), gib(1), Bytes(), Bytes());
  group_two("user.slice/app", number(gib(6)), gib(2), Bytes(), Bytes());
  group_two("user.slice", number(gib(8)), gib(7), Bytes(), Bytes());
  const auto memory = read();
  EXPECT_EQ(memory.capacity, gib(6));
  EXPECT_EQ(memory.capacity_bound_by, "/sys/fs/cgroup/user.slice/app");
  EXPECT_EQ(memory.free, gib(1)) << "a sibling has used what the slice has";
  EXPECT_EQ(memory.free_bound_by, "/sys/fs/cgroup/user.slice");
  EXPECT_EQ(read_control_group_limits(folder.path()).size(), 3U);
}

TEST_F(Tree, PagesOfFilesAreFreeInAGroup) {
  version_two("/app");
  group_two("app", number(gib(4)), gib(4), gib(1), gib(2));
  EXPECT_EQ(read().free, gib(3));
  EXPECT_EQ(read().capacity, gib(4));
}

TEST_F(Tree, AGroupBeyondItsLimitHasNothingFree) {
  version_two("/app");
  group_two("app", number(gib(4)), gib(5), Bytes(), Bytes());
  EXPECT_EQ(read().free, Bytes());
}

TEST_F(Tree, HighBindsToo) {
  version_two("/app");
  group_two("app", "max", gib(1), Bytes(), Bytes(), number(gib(3)));
  EXPECT_EQ(read().capacity, gib(3));
  EXPECT_EQ(read().free, gib(2));
}

TEST_F(Tree, ALimitAboveTheMachineDoesNotBind) {
  version_two("/app");
  group_two("app", number(gib(64)), gib(1), Bytes(), Bytes());
  EXPECT_EQ(read().capacity, gib(16));
  EXPECT_EQ(read().free, gib(10));
}

TEST_F(Tree, VersionOneIsReadBesideAnEmptyVersionTwo) {
  write("proc/self/cgroup", "9:name=systemd:/\n4:cpuset,memory:/docker/abc\n1:cpu:/\n0::/\n");
  write("proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpuset,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  const fs::path base = "sys/fs/cgroup/memory";
  write(base / "docker/abc/memory.limit_in_bytes", number(gib(5)) + "\n");
  write(base / "docker/abc/memory.usage_in_bytes", number(gib(4)) + "\n");
  write(base / "docker/abc/memory.stat",
        "inactive_file 9\ntotal_inactive_file " + number(gib(1)) + "\ntotal_active_file 0\n");
  write(base / "docker/memory.limit_in_bytes", "9223372036854771712\n");
  write(base / "docker/memory.usage_in_bytes", number(gib(4)) + "\n");
  write(base / "memory.limit_in_bytes", "9223372036854771712\n");
  const auto memory = read();
  EXPECT_EQ(memory.capacity, gib(5));
  EXPECT_EQ(memory.free, gib(2));
  EXPECT_EQ(memory.free_bound_by, "/sys/fs/cgroup/memory/docker/abc");
  EXPECT_EQ(read_control_group_limits(folder.path()).size(), 1U);
}

TEST_F(Tree, AContainerSeesItsOwnGroupAtTheMount) {
  // Without a namespace of its own the table names the host's path, and the mount shows that group as its
  // root.
  version_two("/docker/abc/inner", "/docker/abc");
  group_two("", number(gib(7)), gib(1), Bytes(), Bytes());
  group_two("inner", number(gib(2)), gib(1), Bytes(), Bytes());
  EXPECT_EQ(read().capacity, gib(2));
  EXPECT_EQ(read_control_group_limits(folder.path()).size(), 2U);

  // Moved out of what the namespace shows: what is mounted is the best that is known.
  version_two("/../../other");
  EXPECT_EQ(read().capacity, gib(7));
}

TEST_F(Tree, MountPathsMayHaveSpaces) {
  write("proc/self/cgroup", "0::/a\n");
  write("proc/self/mountinfo", "28 22 0:25 / /odd\\040place rw - cgroup2 cgroup2 rw\n");
  write("odd place/a/memory.max", number(gib(2)));
  write("odd place/a/memory.current", "0");
  EXPECT_EQ(read().capacity_bound_by, "/odd place/a");
}

TEST_F(Tree, NonsenseDoesNotBind) {
  version_two("/app");
  write("sys/fs/cgroup/app/memory.max", "lots\n");
  write("sys/fs/cgroup/app/memory.current", "");
  write("proc/self/mountinfo",
        "\n - \n1 2 3\n28 22 0:25 / /sys/fs/cgroup rw -\n28 22 0:25 / /sys/fs/cgroup rw - cgroup2 c rw");
  EXPECT_EQ(read().capacity, gib(16));
}

TEST_F(Tree, WithoutMeminfoNothingIsKnown) {
  fs::remove(folder.path() / "proc/meminfo");
  EXPECT_EQ(read_host_memory(folder.path()).error().code, ErrorCode::kNotFound);
  write("proc/meminfo", "MemTotal: many kB\n");
  EXPECT_EQ(read_host_memory(folder.path()).error().code, ErrorCode::kInternal);
}

TEST(HostMemory, ThisMachineHasSome) {
  const auto memory = read_host_memory().value();
  EXPECT_GT(memory.capacity, mib(64));
  EXPECT_LE(memory.capacity, memory.machine_total);
  EXPECT_LE(memory.free, memory.capacity);
}

}  // namespace
}  // namespace lm::probe

#include "os/file.h"

#include <array>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/process.h"
#include "os/testing/run.h"

namespace lm::os {
namespace {

using os::testing::TemporaryFolder;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  const int number = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  {
    UniqueFd first(number);
    UniqueFd second(std::move(first));
    EXPECT_EQ(first.get(), -1);
    EXPECT_EQ(second.get(), number);
    UniqueFd& itself = second;
    second = std::move(itself);
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
  UniqueFd released(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int kept = released.release();
  released.reset();
  EXPECT_TRUE(is_open(kept));
  ::close(kept);
}

TEST(ReadFile, ReadsWholeFilesAlsoWhereTheSizeIsUnknown) {
  const TemporaryFolder folder;
  const std::string text(300'000, 'x');
  write(folder.path() / "big", text);
  EXPECT_EQ(read_file(folder.path() / "big").value(), text);
  write(folder.path() / "empty", "");
  EXPECT_EQ(read_file(folder.path() / "empty").value(), "");
  EXPECT_THAT(read_file("/proc/self/status").value(), HasSubstr("VmRSS"));
}

TEST(ReadFile, RefusesMoreThanTheLimit) {
  const TemporaryFolder folder;
  write(folder.path() / "ten", "0123456789");
  EXPECT_EQ(read_file(folder.path() / "ten", 10).value(), "0123456789");
  const auto refused = read_file(folder.path() / "ten", 9);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().reason, "file_too_large");
}

TEST(ReadFile, NamesTheMissingFile) {
  const auto missing = read_file("/nonexistent/file");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/file: No such file or directory"));
}

TEST(AtomicWrite, ReplacesAndLeavesNothingBeside) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "state";
  ASSERT_TRUE(write_file_atomically(path, "first"));
  ASSERT_TRUE(write_file_atomically(path, "second", 0640));
  EXPECT_EQ(read_file(path).value(), "second");
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicWrite, AFailureLeavesTheOldFileAndNoTemporaryOne) {
  const TemporaryFolder folder;
  // A folder cannot be replaced by a file, so that the rename is what fails.
  fs::create_directories(folder.path() / "state" / "inside");
  EXPECT_FALSE(write_file_atomically(folder.path() / "state", "text"));
  EXPECT_TRUE(fs::is_directory(folder.path() / "state" / "inside"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  EXPECT_EQ(write_file_atomically("/nonexistent/folder/file", "x").error().code, ErrorCode::kNotFound);
}

TEST(MakeFolders, MakesThemPrivateAndKeepsWhatIsThere) {
  const TemporaryFolder folder;
  const auto deep = folder.path() / "a" / "b" / "c";
  ASSERT_TRUE(make_private_folders(deep));
  ASSERT_TRUE(make_private_folders(deep));
  ASSERT_TRUE(make_private_folders(deep / ""));
  for (const auto& made : {deep, deep.parent_path()}) {
    struct stat status{};
    ASSERT_EQ(::stat(made.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
  }
  write(folder.path() / "file", "");
  EXPECT_FALSE(make_private_folders(folder.path() / "file"));
  EXPECT_FALSE(make_private_folders(folder.path() / "file" / "below"));
}

TEST(RemoveFile, AMissingOneIsFine) {
  const TemporaryFolder folder;
  write(folder.path() / "file", "");
  EXPECT_TRUE(remove_file(folder.path() / "file"));
  EXPECT_FALSE(fs::exists(folder.path() / "file"));
  EXPECT_TRUE(remove_file(folder.path() / "file"));
  EXPECT_FALSE(remove_file(folder.path()));
}

TEST(LockFile, IsExclusiveTellsTheHolderAndEndsWithItsProcess) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "lock";
  std::array<int, 2> ready{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const auto lock = LockFile::acquire(path);
    const char told = lock ? 'y' : 'n';
    if (::write(ready[1], &told, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char told = 0;
  ASSERT_EQ(::read(ready[0], &told, 1), 1);
  EXPECT_EQ(told, 'y');

  const auto refused = LockFile::acquire(path);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(refused.error().reason, "locked");
  EXPECT_EQ(refused.error().number("pid"), holder);

  ::kill(holder, SIGKILL);
  ASSERT_EQ(::waitpid(holder, nullptr, 0), holder);
  {
    const auto lock = LockFile::acquire(path);
    ASSERT_TRUE(lock);
    EXPECT_EQ(lock->left_by(), holder) << "it did not end by itself";
    EXPECT_EQ(read_file(path).value(), std::to_string(::getpid()) + "\n");
  }
  EXPECT_EQ(read_file(path).value(), "") << "no stale pid";
  EXPECT_EQ(LockFile::acquire(path)->left_by(), std::nullopt);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(OwnExecutable, IsThisTest) {
  EXPECT_EQ(own_executable().value().filename(), "os_unit_test");
}

Folders::Lookup environment(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> std::optional<std::string> {
    const auto at = values.find(name);
    if (at == values.end()) return std::nullopt;
    return at->second;
  };
}

TEST(Folders, FollowTheXdgVariables) {
  const auto plain = Folders::standard(environment({{"HOME", "/home/ann"}})).value();
  EXPECT_EQ(plain.cache, "/home/ann/.cache/llm-manager");
  EXPECT_EQ(plain.config, "/home/ann/.config/llm-manager");
  EXPECT_EQ(plain.data, "/home/ann/.local/share/llm-manager");
  EXPECT_EQ(plain.runtime, "/home/ann/.local/share/llm-manager/run");

  const auto set = Folders::standard(environment({{"HOME", "/home/ann"},
                                                  {"XDG_CACHE_HOME", "/c"},
                                                  {"XDG_CONFIG_HOME", "relative/is/ignored"},
                                                  {"XDG_DATA_HOME", "/d"},
                                                  {"XDG_RUNTIME_DIR", "/run/user/7"}}))
                       .value();
  EXPECT_EQ(set.cache, "/c/llm-manager");
  EXPECT_EQ(set.config, "/home/ann/.config/llm-manager");
  EXPECT_EQ(set.data, "/d/llm-manager");
  EXPECT_EQ(set.runtime, "/run/user/7/llm-manager");

  const auto moved = set.with_data("/elsewhere");
  EXPECT_EQ(moved.data, "/elsewhere");
  EXPECT_EQ(moved.runtime, "/elsewhere/run");
  EXPECT_EQ(moved.cache, set.cache);
}

TEST(SocketPath, MayHave107Bytes) {
  EXPECT_TRUE(check_socket_path("/" + std::string(106, 'x')));
  const auto refused = check_socket_path("/" + std::string(107, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().reason, "socket_path_too_long");
  EXPECT_THAT(refused.error().message, HasSubstr("108 bytes, at most 107"));
}

TEST(ProcessStat, ReadsNamesWithBracketsAndSpaces) {
  const TemporaryFolder root;
  fs::create_directories(root.path() / "proc" / "77");
  write(root.path() / "proc" / "77" / "stat",
        "77 (a) (b c) S 1 70 70 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654321 100 200 18446744073709551615 "
        "1\n");
  const auto stat = read_process_stat(77, root.path()).value();
  EXPECT_EQ(stat.name, "a) (b c");
  EXPECT_EQ(stat.state, 'S');
  EXPECT_EQ(stat.group, 70);
  EXPECT_EQ(stat.identity, (ProcessIdentity{.pid = 77, .start_ticks = 987654321}));
  write(root.path() / "proc" / "77" / "stat", "77 (cut");
  EXPECT_FALSE(read_process_stat(77, root.path()));
  EXPECT_EQ(read_process_stat(78, root.path()).error().code, ErrorCode::kNotFound);
}

TEST(ProcessStat, KnowsThisProcess) {
  const auto stat = read_process_stat(::getpid()).value();
  EXPECT_EQ(stat.group, ::getpgid(0));
  EXPECT_GT(stat.identity.start_ticks, 0U);
  EXPECT_EQ(identify(::getpid()).value(), stat.identity);
  EXPECT_EQ(boot_id().value().size(), 36U);
  EXPECT_EQ(signal_name(9), "SIGKILL");
  EXPECT_EQ(signal_name(40), "signal 40");
}

}  // namespace
}  // namespace lm::os

#include "os/program_text.h"

#include <string>

#include <gtest/gtest.h>

#include "os/file.h"

namespace lm::os {
namespace {

// Pages of files in this process's resident memory, in KiB, as the kernel has it.
long resident_file_kib() {
  const std::string status = read_file("/proc/self/status").value();
  const std::size_t at = status.find("RssFile:");
  return std::stol(status.substr(at + std::string("RssFile:").size()));
}

TEST(ProgramText, LeavesResidentMemoryAndComesBackWhenRun) {
  const long before = resident_file_kib();
  const auto released = release_program_text();
  ASSERT_TRUE(released) << released.error().message;
  const long after = resident_file_kib();
  EXPECT_GT(*released, std::size_t{1} << 20);
  EXPECT_LT(after, before);
  EXPECT_TRUE(release_program_text());
}

}  // namespace
}  // namespace lm::os

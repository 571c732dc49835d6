#include "os/sandbox/sandbox.h"

#include <csignal>
#include <fcntl.h>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/subprocess.h"
#include "os/testing/run.h"

namespace lm::os {
namespace {

using ::testing::IsEmpty;

struct Outcome {
  std::vector<std::string> said;
  ExitStatus status;
};

class SandboxTest : public ::testing::Test {
 protected:
  Outcome prisoner(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), SANDBOX_PRISONER);
    Outcome outcome;
    const UniqueFd to_read(::open(SANDBOX_PRISONER, O_RDONLY | O_CLOEXEC));
    const UniqueFd to_write(::open((folder.path() / "file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    SpawnOptions options{.arguments = std::move(arguments), .working_folder = folder.path()};
    options.standard_output = Output::lines([&](std::string_view line) { outcome.said.emplace_back(line); });
    options.inherit = {{to_read.get(), 3}, {to_write.get(), 4}};
    const auto child = Subprocess::spawn(io.get_executor(), std::move(options));
    EXPECT_TRUE(child) << child.error().message;
    outcome.status = os::testing::run(io, child->wait());
    return outcome;
  }

  // What it says, where it lives to say it.
  std::string verdict(std::vector<std::string> arguments) {
    const auto outcome = prisoner(std::move(arguments));
    if (outcome.status.signal != 0) return to_string(outcome.status);
    return outcome.said.size() == 1 ? outcome.said.front()
                                    : "said " + std::to_string(outcome.said.size()) + " lines";
  }

  boost::asio::io_context io;
  os::testing::TemporaryFolder folder;
};

TEST_F(SandboxTest, WhatAnInspectionNeedsWorks) {
  EXPECT_EQ(verdict({"read"}), "done");
  EXPECT_EQ(verdict({"throw"}), "thrown");
  EXPECT_EQ(verdict({"read", "open"}), "done");
  EXPECT_EQ(verdict({"read", "threads"}), "done");
}

TEST_F(SandboxTest, NothingCanBeOpenedUnlessAllowedAndThenOnlyForReading) {
  EXPECT_EQ(verdict({"open"}), "EPERM");
  EXPECT_EQ(verdict({"open", "open"}), "done");
  for (const char* action :
       {"open_for_writing", "open_for_both", "create", "temporary", "creat", "openat2", "unlink"}) {
    EXPECT_EQ(verdict({action}), "EPERM") << action;
    EXPECT_EQ(verdict({action, "open"}), "EPERM") << action;
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "lm-sandbox-created"));
}

TEST_F(SandboxTest, AFileCannotGrow) {
  EXPECT_EQ(verdict({"grow_file"}), "killed by SIGXFSZ");
  EXPECT_EQ(std::filesystem::file_size(folder.path() / "file"), 0U);
  // Up to what is allowed, no byte more.
  EXPECT_EQ(verdict({"grow_file", "write"}), "done");
  EXPECT_EQ(verdict({"grow_twice", "write"}), "killed by SIGXFSZ");
}

TEST_F(SandboxTest, TheNetworkAndOtherProcessesAreOutOfReach) {
  for (const char* action : {"socket", "unix_socket", "kill_parent", "fork"}) {
    EXPECT_EQ(verdict({action}), "EPERM") << action;
    EXPECT_EQ(verdict({action, "threads", "open"}), "EPERM") << action;
  }
}

TEST_F(SandboxTest, ProgramsAndDebuggersEndIt) {
  EXPECT_EQ(verdict({"exec"}), "killed by SIGSYS");
  EXPECT_EQ(verdict({"exec", "threads", "open"}), "killed by SIGSYS");
  EXPECT_EQ(verdict({"ptrace"}), "killed by SIGSYS");
}

TEST_F(SandboxTest, ThreadsOnlyWhereAllowed) {
  EXPECT_EQ(verdict({"thread"}), "EPERM");
  EXPECT_EQ(verdict({"thread", "threads"}), "done");
}

TEST_F(SandboxTest, NoPageBecomesExecutable) {
  EXPECT_EQ(verdict({"executable_memory"}), "EPERM");
  EXPECT_EQ(verdict({"executable_later"}), "EPERM");
}

TEST_F(SandboxTest, LimitsHold) {
  EXPECT_EQ(verdict({"allocate"}), "bad_alloc");
  EXPECT_EQ(verdict({"open_many"}), "EMFILE");
  EXPECT_EQ(verdict({"raise_limit"}), "EPERM");
  EXPECT_EQ(verdict({"spin"}), "killed by SIGXCPU");
}

TEST_F(SandboxTest, AnAbortIsStillAnAbortWithoutACore) {
  const auto outcome = prisoner({"abort"});
  EXPECT_EQ(outcome.status.signal, SIGABRT);
  EXPECT_FALSE(outcome.status.core_dumped);
  EXPECT_THAT(outcome.said, IsEmpty());
}

}  // namespace
}  // namespace lm::os

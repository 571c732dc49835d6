// Children outlive a daemon that was killed only where the parent-death signal could not reach them; the
// records kept here find those at the next start. Blocks on small files; reap_orphans also waits for
// processes to end.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "os/process.h"

namespace lm::os {

// Move-only: one running child's file in the run folder, named by pid. Ends with its owner, who must have
// reaped the child; a daemon that is killed leaves it behind, which is its purpose.
class RunRecord {
 public:
  // `socket` is the child's socket file, empty for none. The child must be the leader of its process group.
  static Result<RunRecord> write(const std::filesystem::path& run_folder, ProcessIdentity process,
                                 std::string name, std::filesystem::path socket = {});
  RunRecord(RunRecord&& other) noexcept;
  RunRecord& operator=(RunRecord&& other) noexcept;
  ~RunRecord() { remove(); }

  // Removes the record and the socket file, now.
  void remove();

 private:
  RunRecord(std::filesystem::path file, std::filesystem::path socket);
  std::filesystem::path file_;
  std::filesystem::path socket_;
};

struct Orphan {
  ProcessIdentity process;
  std::string name;
  bool ended = true;  // false: still there after the deadline, its record is kept
};

// To be called at start, by the holder of the run folder's lock. Kills the group of every recorded process
// that still is that same process (pid, start time and boot agree), and waits for the end of all of them
// together for at most `limit`; removes the records and the socket files of all that is gone. Returns those
// that were still running. Records that make no sense are removed. No folder: nothing to do.
Result<std::vector<Orphan>> reap_orphans(const std::filesystem::path& run_folder, Duration limit);

// Running processes of that name whose parent has ended (the machine's first process has taken them over).
// Reads all of /proc: milliseconds. `name` as the kernel keeps it, at most 15 bytes.
std::vector<ProcessIdentity> find_strays(const std::string& name, const std::filesystem::path& root = "/");

}  // namespace lm::os

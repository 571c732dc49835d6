// The event log: each event that the arbiter was told, with its time, one line of JSON each. Whoever has the
// file can have the same decisions again (`llm-manager replay`).
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>

#include "base/result.h"
#include "domain/event.h"
#include "os/file.h"

namespace lm::runtime {

// Owned by the runtime, on its thread. Writing blocks as the disk does: it is for hunting bugs.
class EventLog {
 public:
  static constexpr std::size_t kLimit = std::size_t{64} << 20;

  // Begins anew: what an earlier daemon recorded there is gone. The file is its user's alone.
  static Result<EventLog> open(std::filesystem::path path, std::size_t limit = kLimit);

  // A file that would grow beyond its limit is continued once: it becomes PATH.1, which keeps the beginning
  // that a replay needs. When the second one is full too, or the disk is, recording ends with a warning.
  void record(const Event& event, TimePoint at);
  bool recording() const { return static_cast<bool>(file_); }

 private:
  EventLog(std::filesystem::path path, std::size_t limit) : path_(std::move(path)), limit_(limit) {}
  Result<void> begin_file();

  std::filesystem::path path_;
  std::size_t limit_;
  os::UniqueFd file_;
  std::size_t written_ = 0;
  bool continued_ = false;
};

// Where a recording was continued from.
std::filesystem::path beginning_of(const std::filesystem::path& recording);

// Tells every event of a recording in order, PATH.1's first where it is there. A last line without its end
// was being written when the daemon died, and is left out. kInvalidArgument: no recording, with file and
// line; kFailedPrecondition: its beginning is missing. Blocks.
using EventReader = std::function<void(const Event&, TimePoint)>;
Result<void> read_recording(const std::filesystem::path& recording, const EventReader& tell);

}  // namespace lm::runtime

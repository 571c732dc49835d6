#include "runtime/event_log.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "os/system_error.h"
#include "wire/event_codec.h"

namespace lm::runtime {

namespace fs = std::filesystem;

fs::path beginning_of(const fs::path& recording) {
  return recording.native() + ".1";
}

Result<EventLog> EventLog::open(fs::path path, std::size_t limit) {
  LM_TRY_VOID(os::remove_file(beginning_of(path)));
  EventLog log(std::move(path), limit);
  LM_TRY_VOID(log.begin_file());
  return log;
}

Result<void> EventLog::begin_file() {
  file_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file_) return fail(os::system_error(errno, fmt::format("recording into {}", path_.string())));
  written_ = 0;
  return {};
}

void EventLog::record(const Event& event, TimePoint at) {
  if (!file_) return;
  const auto end = [&](std::string_view why) {
    log::warning("the recording in {} ends here: {}", path_.string(), why);
    file_.reset();
  };
  const std::string line = wire::encode(event, at);
  if (written_ > 0 && written_ + line.size() > limit_) {
    if (std::exchange(continued_, true)) return end("both of its files are full");
    if (::rename(path_.c_str(), beginning_of(path_).c_str()) != 0) return end("it cannot be continued");
    if (auto begun = begin_file(); !begun) return end(begun.error().message);
  }
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t n = ::write(file_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return end("the disk takes no more");
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  written_ += line.size();
}

namespace {

Result<void> read_file(const fs::path& path, bool first, const EventReader& tell) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(ErrorCode::kNotFound, fmt::format("{} cannot be read", path.string()), "io_error");
  std::string line;
  for (int number = 1; std::getline(file, line) && !file.eof(); ++number) {
    auto recorded = wire::decode_event(line);
    if (!recorded) {
      return fail(std::move(recorded).error().with_context(fmt::format("{}:{}", path.string(), number)));
    }
    // What came before is unknown, and the arbiter would rightly take it for a breach of promises.
    if (first && number == 1 && !std::holds_alternative<SettingsChanged>(recorded->event)) {
      return fail(
          ErrorCode::kFailedPrecondition,
          fmt::format("{} does not begin with the daemon's start: put its other part beside it, named {}",
                      path.string(), beginning_of(path).string()),
          "beginning_missing");
    }
    tell(recorded->event, recorded->at);
  }
  return {};
}

}  // namespace

Result<void> read_recording(const fs::path& recording, const EventReader& tell) {
  const fs::path beginning = beginning_of(recording);
  const bool continued = fs::exists(beginning);
  if (continued) LM_TRY_VOID(read_file(beginning, true, tell));
  return read_file(recording, !continued, tell);
}

}  // namespace lm::runtime

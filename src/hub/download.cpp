#include "hub/download.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>

#include "base/gate.h"
#include "base/latch.h"
#include "hub/chunk_map.h"
#include "os/file.h"
#include "os/system_error.h"

namespace lm::hub {
namespace {

namespace fs = std::filesystem;

constexpr Duration kTick = std::chrono::milliseconds(100);
constexpr std::size_t kPiece = 4u << 20;

fs::path map_of(const fs::path& part) {
  return part.string() + ".chunks";
}

Error disk_error(int number, const std::string& what) {
  Error error = os::system_error(number, what);
  if (number == ENOSPC || number == EDQUOT) {
    error.code = ErrorCode::kResourceExhausted;
    error.reason = "disk_full";
  }
  return error;
}

struct Range {
  std::int64_t first = -1, last = -1, total = -1;
};

// "bytes 0-99/1000"; what is missing or "*" stays -1.
Range range_of(std::string_view text) {
  Range range;
  const auto number = [&](std::string_view digits) {
    std::int64_t value = -1;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  };
  const std::size_t space = text.find(' '), dash = text.find('-'), slash = text.find('/');
  if (space == std::string_view::npos || dash == std::string_view::npos || slash == std::string_view::npos)
    return range;
  if (space > dash || dash > slash) return range;
  range.first = number(text.substr(space + 1, dash - space - 1));
  range.last = number(text.substr(dash + 1, slash - dash - 1));
  range.total = number(text.substr(slash + 1));
  return range;
}

Error changed(const RemoteFile& file) {
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("{} is another file than it was when the download began: pull it again",
                                 file.address.text()),
          .reason = "changed_meanwhile",
          .fields = {},
          .retry_after = {}};
}

// One attempt at one file. Its streams run on one thread and share everything here.
class Attempt {
 public:
  Attempt(const RemoteFile& file, ChunkMap& map, int descriptor, const DownloadSeams& seams)
      : file_(file),
        map_(map),
        descriptor_(descriptor),
        seams_(seams),
        gate_(seams.executor),
        taken_(map.count(), false),
        there_(map.present()),
        from_(file.address) {
    for (std::size_t i = 0; i < map.count(); ++i) taken_[i] = map.has(i);
  }

  Task<Result<void>> run() {
    // Whether the server has ranges is known when the first answer comes; then the others follow.
    start_stream();
    while (!co_await gate_.wait_empty(kTick)) {
      seams_.progress("downloading", there_);
      if (failure_) gate_.cancel();
    }
    seams_.progress("downloading", there_);
    if (failure_) co_return fail(*failure_);
    if (!map_.complete())
      co_return fail(ErrorCode::kInternal, "the streams of a download ended before it was whole");
    co_return Result<void>();
  }

 private:
  void start_stream() {
    ++streams_;
    gate_.start(stream());
  }

  Task<> stream() {
    int failures = 0;
    for (;;) {
      const auto next = std::ranges::find(taken_, false);
      if (next == taken_.end() || failure_ || whole_) co_return;
      const auto chunk = static_cast<std::size_t>(next - taken_.begin());
      taken_[chunk] = true;
      Bytes got;
      while (!map_.has(chunk)) {
        const Bytes before = got;
        auto fetched = co_await fetch(chunk, got);
        if (fetched) continue;
        if (failure_) co_return;
        Error error = std::move(fetched).error();
        failures = got > before ? 1 : failures + 1;
        // An address that the hub redirected to may have run out: the way is asked for again.
        const bool was_redirected = !from_.same_origin(file_.address) || from_.target != file_.address.target;
        const auto status = error.number("status");
        const bool way_is_old = was_redirected && status && *status / 100 == 4 && *status != 429;
        from_ = file_.address;
        if ((!Fetcher::may_pass(error) && !way_is_old) || failures >= seams_.tuning.attempts) {
          if (!failure_) failure_ = std::move(error);
          co_return;
        }
        if (failures > 1 || error.retry_after) {
          seams_.note(fmt::format("{}; trying again", error.message));
          co_await seams_.fetcher.back_off(failures, error.retry_after);
        }
      }
      failures = 0;
    }
  }

  // What is left of the chunk behind `got`; adds what comes to it.
  Task<Result<void>> fetch(std::size_t chunk, Bytes& got) {
    const std::int64_t first = (map_.offset(chunk) + got).count();
    const std::int64_t last = (map_.offset(chunk) + map_.length(chunk)).count() - 1;
    LM_CO_TRY(Fetched fetched,
              co_await seams_.fetcher.get(from_, {{"Range", fmt::format("bytes={}-{}", first, last)}}));
    const http::Headers& headers = fetched.response.headers();
    if (file_.promise.kind == Promise::Kind::kNothing && !file_.version.empty()) {
      const auto version = headers.get("ETag");
      if (version && *version != file_.version) co_return end(changed(file_));
    }
    if (fetched.response.status() == 200) co_return co_await fetch_whole(std::move(fetched), chunk);
    const Range range = range_of(headers.get("Content-Range").value_or(""));
    if (range.total >= 0 && range.total != file_.size.count()) co_return end(changed(file_));
    if (range.first != first || range.last > last) {
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} answers with other bytes than were asked for", fetched.from.text()),
                     "bad_upstream");
    }
    from_ = fetched.from;
    while (streams_ < seams_.tuning.streams && std::ranges::find(taken_, false) != taken_.end())
      start_stream();
    for (;;) {
      LM_CO_TRY(const auto piece, co_await fetched.response.read());
      if (!piece) break;
      const Bytes size(static_cast<std::int64_t>(piece->size()));
      if (got + size > map_.length(chunk))
        co_return fail(ErrorCode::kUnavailable,
                       fmt::format("{} sends more than was asked for", fetched.from.text()), "bad_upstream");
      if (auto written = write(*piece, map_.offset(chunk) + got); !written) co_return end(written.error());
      got += size;
      there_ += size;
    }
    if (got < map_.length(chunk))
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} sends less than was asked for", fetched.from.text()), "bad_upstream");
    if (auto marked = map_.mark(chunk); !marked) co_return end(marked.error());
    co_return Result<void>();
  }

  // A server without ranges sends everything.
  Task<Result<void>> fetch_whole(Fetched fetched, std::size_t asked) {
    if (whole_ || streams_ > 1) {
      // It had ranges a moment ago: another of its machines. The chunk is asked for again.
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} sends the whole file instead of a part", fetched.from.text()),
                     "bad_upstream");
    }
    if (const auto length = fetched.response.headers().get("Content-Length")) {
      std::int64_t size = -1;
      std::from_chars(length->data(), length->data() + length->size(), size);
      if (size != file_.size.count()) co_return end(changed(file_));
    }
    whole_ = true;
    auto read = co_await read_whole(fetched, asked);
    whole_ = false;
    co_return read;
  }

  Task<Result<void>> read_whole(Fetched& fetched, std::size_t asked) {
    if (auto cleared = map_.clear(); !cleared) co_return end(cleared.error());
    taken_.assign(taken_.size(), false);
    taken_[asked] = true;
    Bytes at;
    std::size_t chunk = 0;
    there_ = Bytes();
    for (;;) {
      LM_CO_TRY(const auto piece, co_await fetched.response.read());
      if (!piece) break;
      const Bytes size(static_cast<std::int64_t>(piece->size()));
      if (at + size > file_.size) co_return end(changed(file_));
      if (auto written = write(*piece, at); !written) co_return end(written.error());
      at += size;
      there_ = at;
      for (; chunk < map_.count() && map_.offset(chunk) + map_.length(chunk) <= at; ++chunk) {
        taken_[chunk] = true;
        if (auto marked = map_.mark(chunk); !marked) co_return end(marked.error());
      }
    }
    if (at < file_.size)
      co_return fail(ErrorCode::kUnavailable, fmt::format("{} ended too early", fetched.from.text()),
                     "bad_upstream");
    co_return Result<void>();
  }

  Result<void> write(std::string_view bytes, Bytes at) {
    while (!bytes.empty()) {
      const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), at.count());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return fail(disk_error(errno, "writing the download"));
      bytes.remove_prefix(static_cast<std::size_t>(written));
      at += Bytes(written);
    }
    return {};
  }

  // Of what no other try mends.
  std::unexpected<Error> end(Error error) {
    if (!failure_) failure_ = error;
    return fail(std::move(error));
  }

  const RemoteFile& file_;
  ChunkMap& map_;
  int descriptor_;
  const DownloadSeams& seams_;
  Gate gate_;
  std::vector<bool> taken_;  // by a stream, or there already
  Bytes there_;
  Address from_;  // where the redirections led last
  int streams_ = 0;
  bool whole_ = false;  // one stream reads everything
  std::optional<Error> failure_;
};

}  // namespace

std::string identity_of(const RemoteFile& file) {
  std::string text = file.promise.kind == Promise::Kind::kNothing
                         ? fmt::format("{}:{} {}", file.address.text(), file.size.count(), file.version)
                         : file.promise.text();
  std::ranges::replace_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return text;
}

Bytes already_there(const RemoteFile& file, const fs::path& part, Bytes chunk) {
  std::error_code missing;
  if (!fs::exists(map_of(part), missing) || !fs::exists(part, missing)) return {};
  const auto map = ChunkMap::open(map_of(part), identity_of(file), file.size, chunk);
  return map ? map->present() : Bytes();
}

Task<Result<bool>> is_as_promised(fs::path path, Promise promise, DownloadSeams seams) {
  if (promise.kind == Promise::Kind::kNothing) co_return true;
  const os::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat found{};
  if (!file || ::fstat(file.get(), &found) != 0)
    co_return fail(disk_error(errno, "opening " + path.string()));
  ContentHash hash(promise.kind, Bytes(found.st_size));
  std::vector<char> piece(kPiece);
  Bytes done;
  const Latch never(seams.executor);
  for (;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) co_return fail(disk_error(errno, "reading " + path.string()));
    if (got == 0) break;
    hash.add({piece.data(), static_cast<std::size_t>(got)});
    done += Bytes(got);
    seams.progress("verifying", done);
    // Lets the process see its signals.
    co_await never.wait(Duration());
  }
  co_return hash.finish() == promise.hex;
}

Task<Result<void>> download(RemoteFile file, fs::path part, DownloadSeams seams) {
  for (bool again = false;; again = true) {
    const os::UniqueFd data(::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!data) co_return fail(disk_error(errno, "opening " + part.string()));
    struct stat found{};
    const bool is_fresh = ::fstat(data.get(), &found) != 0 || found.st_size != file.size.count();
    // A map without its file, or the other way round, is worth nothing.
    if (is_fresh) LM_CO_TRY_VOID(os::remove_file(map_of(part)));
    LM_CO_TRY(ChunkMap map, ChunkMap::open(map_of(part), identity_of(file), file.size, seams.tuning.chunk));
    if (::ftruncate(data.get(), file.size.count()) != 0)
      co_return fail(disk_error(errno, "making " + part.string()));
    const bool resumed = map.resumed();
    if (!map.complete()) {
      Attempt attempt(file, map, data.get(), seams);
      LM_CO_TRY_VOID(co_await attempt.run());
    }
    if (::fsync(data.get()) != 0) co_return fail(disk_error(errno, "writing " + part.string()));
    LM_CO_TRY(const bool good, co_await is_as_promised(part, file.promise, seams));
    if (good) co_return Result<void>();
    LM_CO_TRY_VOID(os::remove_file(part));
    LM_CO_TRY_VOID(os::remove_file(map_of(part)));
    if (!resumed || again) {
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} is not what was promised: its hash is not {}; nothing of it was kept",
                                 file.path, file.promise.text()),
                     "wrong_hash");
    }
    seams.note(fmt::format("{} is not what was promised; it is fetched from the beginning", file.path));
  }
}

}  // namespace lm::hub

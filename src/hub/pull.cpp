#include "hub/pull.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>

#include "base/checksum.h"
#include "base/gate.h"
#include "base/latch.h"
#include "config/arriving.h"
#include "hub/download.h"
#include "hub/fetcher.h"
#include "hub/listing.h"
#include "hub/package.h"
#include "os/file.h"
#include "os/system_error.h"

namespace lm::hub {
namespace {

namespace fs = std::filesystem;
using SteadyClock = std::chrono::steady_clock;

// Left free for everybody else.
constexpr Bytes kMargin = mib(64);
constexpr Duration kTellEvery = std::chrono::milliseconds(200);
// The child of a daemon that was killed ends with it, but perhaps a moment later.
constexpr Duration kWaitForLock = std::chrono::seconds(5);

Result<os::LockFile> lock_once(const fs::path& folder) {
  return os::LockFile::acquire(folder / "lock");
}

Result<Bytes> free_space(const fs::path& folder) {
  struct statvfs found{};
  if (::statvfs(folder.c_str(), &found) != 0)
    return fail(os::system_error(errno, "asking for the free space of " + folder.string()));
  return Bytes(static_cast<std::int64_t>(found.f_bavail * found.f_frsize));
}

// From here on the process ends by itself, in a moment: somebody's polite wish to end must not come between
// two files, nor between the last one and the word that all are there.
void let_nobody_interrupt() {
  sigset_t polite;
  ::sigemptyset(&polite);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&polite, signal);
  ::pthread_sigmask(SIG_BLOCK, &polite, nullptr);
}

Result<void> sync_folder(const fs::path& folder) {
  const os::UniqueFd opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened || ::fsync(opened.get()) != 0)
    return fail(os::system_error(errno, "writing the folder " + folder.string()));
  return {};
}

// Where they are already, nothing happens; so this may be done again after any interruption.
Result<std::vector<wire::PulledFile>> put_in_place(const PullOrder& order,
                                                   const std::vector<config::Arrival>& arrivals) {
  const fs::path unfinished = unfinished_folder(order.folder, order.key);
  std::set<fs::path> folders;
  std::vector<wire::PulledFile> pulled;
  for (const config::Arrival& one : arrivals) {
    const fs::path from = unfinished / one.from, to = order.folder / one.to;
    LM_TRY_VOID(os::make_private_folders(to.parent_path()));
    if (::rename(from.c_str(), to.c_str()) != 0) {
      const int number = errno;
      std::error_code missing;
      if (number != ENOENT || !fs::is_regular_file(to, missing))
        return fail(os::system_error(number, "moving the download to " + to.string()));
    }
    folders.insert(to.parent_path());
    pulled.push_back({.path = to.string(), .size = Bytes(one.size), .hash = one.hash});
  }
  for (const fs::path& folder : folders) LM_TRY_VOID(sync_folder(folder));
  return pulled;
}

// Whether every file of the list is either waiting or in its place.
bool can_be_finished(const PullOrder& order, const std::vector<config::Arrival>& arrivals) {
  return std::ranges::all_of(arrivals, [&](const config::Arrival& one) {
    std::error_code missing;
    const fs::path from = unfinished_folder(order.folder, order.key) / one.from;
    return is_safe_path(one.to) &&
           (fs::is_regular_file(from, missing) ||
            fs::file_size(order.folder / one.to, missing) == static_cast<std::uintmax_t>(one.size));
  });
}

class Pull {
 public:
  Pull(boost::asio::any_io_executor executor, PullOrder order, const Surroundings& surroundings,
       std::function<void(const wire::PullMessage&)> tell)
      : executor_(executor),
        order_(std::move(order)),
        surroundings_(surroundings),
        tell_(std::move(tell)),
        fetcher_(executor, surroundings),
        unfinished_(unfinished_folder(order_.folder, order_.key)) {}

  Task<Result<std::vector<wire::PulledFile>>> run() {
    LM_CO_TRY(const Source source, parse_source(order_.source));
    LM_CO_TRY_VOID(os::make_private_folders(unfinished_));
    LM_CO_TRY(const os::LockFile lock, co_await wait_for_lock());
    // Whole and checked, but for their places: what the source says by now is of no interest.
    const auto arriving = config::read_arriving(unfinished_ / config::kArrivingList);
    if (arriving && can_be_finished(order_, *arriving)) co_return finish(*arriving);
    LM_CO_TRY_VOID(os::remove_file(unfinished_ / config::kArrivingList));
    LM_CO_TRY_VOID(os::replace_file(unfinished_ / kSourceFile, source.text() + "\n"));
    tell_(wire::PullProgressed{.stage = "listing", .done = {}, .total = {}});
    LM_CO_TRY(const Listing listing, co_await list_source(source, surroundings_, fetcher_));
    for (const std::string& note : listing.notes) tell_(wire::PullNoted{note});
    total_ = listing.total();
    wire::PullListed listed{.files = {}, .total = total_};
    for (const RemoteFile& file : listing.files) listed.files.push_back(file.path);
    tell_(listed);
    LM_CO_TRY_VOID(check_space(listing));

    std::vector<bool> is_there;
    for (const RemoteFile& file : listing.files) {
      LM_CO_TRY(const bool there, co_await is_there_already(file));
      is_there.push_back(there);
      if (!there) LM_CO_TRY_VOID(co_await download(file, part_of(file), seams()));
      before_ += file.size;
    }
    std::vector<config::Arrival> arrivals;
    std::vector<wire::PulledFile> pulled;
    for (std::size_t i = 0; i < listing.files.size(); ++i) {
      const RemoteFile& file = listing.files[i];
      if (listing.is_package) {
        LM_CO_TRY(std::vector<config::Arrival> unpacked, unpack(file));
        std::ranges::move(unpacked, std::back_inserter(arrivals));
      } else if (is_there[i]) {
        pulled.push_back(
            {.path = (order_.folder / file.path).string(), .size = file.size, .hash = file.promise.text()});
      } else {
        arrivals.push_back({.from = part_of(file).filename(),
                            .to = file.path,
                            .size = file.size.count(),
                            .hash = file.promise.text()});
      }
    }
    LM_CO_TRY(std::vector<wire::PulledFile> arrived, arrive(arrivals));
    std::ranges::move(arrived, std::back_inserter(pulled));
    co_return pulled;
  }

 private:
  Task<Result<os::LockFile>> wait_for_lock() {
    const auto until = SteadyClock::now() + kWaitForLock;
    const Latch never(executor_);
    for (;;) {
      auto lock = lock_once(unfinished_);
      if (lock || lock.error().reason != "locked" || SteadyClock::now() >= until) co_return lock;
      co_await never.wait(std::chrono::milliseconds(50));
    }
  }

  // All are whole: they become visible together. The list keeps them hidden until the last has its place.
  Result<std::vector<wire::PulledFile>> arrive(const std::vector<config::Arrival>& arrivals) {
    if (!arrivals.empty()) {
      LM_TRY_VOID(
          os::write_file_atomically(unfinished_ / config::kArrivingList, config::arriving_text(arrivals)));
    }
    return finish(arrivals);
  }

  Result<std::vector<wire::PulledFile>> finish(const std::vector<config::Arrival>& arrivals) {
    let_nobody_interrupt();
    LM_TRY(std::vector<wire::PulledFile> pulled, put_in_place(order_, arrivals));
    LM_TRY_VOID(os::remove_file(unfinished_ / config::kArrivingList));
    std::error_code ignored;
    fs::remove_all(unfinished_, ignored);
    return pulled;
  }

  fs::path part_of(const RemoteFile& file) const {
    return unfinished_ / fmt::format("{:016x}.part", checksum(file.path + "\n" + identity_of(file)));
  }

  Result<void> check_space(const Listing& listing) {
    LM_TRY(const Bytes free, free_space(unfinished_));
    Bytes needed;
    for (const RemoteFile& file : listing.files) {
      std::error_code missing;
      const auto size = fs::file_size(order_.folder / file.path, missing);
      const bool may_be_there = !missing && Bytes(static_cast<std::int64_t>(size)) == file.size;
      if (may_be_there && file.promise.kind != Promise::Kind::kNothing) continue;
      needed += file.size - already_there(file, part_of(file), surroundings_.tuning.chunk);
    }
    if (needed == Bytes() || needed + kMargin <= free) return {};
    return fail(
        Error{.code = ErrorCode::kResourceExhausted,
              .message = fmt::format("{} has {} free, and {} are needed: make room there, or name another "
                                     "folder in model_folders",
                                     order_.folder.string(), to_string(free), to_string(needed + kMargin)),
              .reason = "disk_full",
              .fields = {{"needed", (needed + kMargin).count()}, {"free", free.count()}},
              .retry_after = {}});
  }

  // Whole and as promised; where nothing was promised nobody can know.
  Task<Result<bool>> is_there_already(RemoteFile file) {
    if (file.promise.kind == Promise::Kind::kNothing) co_return false;
    const fs::path place = order_.folder / file.path;
    std::error_code missing;
    const auto size = fs::file_size(place, missing);
    if (missing || Bytes(static_cast<std::int64_t>(size)) != file.size) co_return false;
    co_return co_await is_as_promised(place, file.promise, seams());
  }

  Result<std::vector<config::Arrival>> unpack(const RemoteFile& file) {
    constexpr std::string_view kUnpacked = "unpacked";
    std::error_code ignored;
    fs::remove_all(unfinished_ / kUnpacked, ignored);
    LM_TRY(const std::vector<UnpackedFile> files, unpack_package(part_of(file), unfinished_ / kUnpacked));
    const std::string place = fs::path(file.path).replace_extension();
    std::vector<config::Arrival> arrivals;
    for (const UnpackedFile& one : files) {
      arrivals.push_back({.from = fmt::format("{}/{}", kUnpacked, one.path),
                          .to = fmt::format("{}/{}", place, one.path),
                          .size = one.size.count(),
                          .hash = {}});
    }
    return arrivals;
  }

  DownloadSeams seams() {
    return {.executor = executor_,
            .fetcher = fetcher_,
            .tuning = surroundings_.tuning,
            .progress = [this](std::string_view stage, Bytes done) { progress(stage, done); },
            .note = [this](std::string text) { tell_(wire::PullNoted{std::move(text)}); }};
  }

  void progress(std::string_view stage, Bytes done) {
    const auto now = SteadyClock::now();
    if (stage == told_stage_ && now < told_at_ + kTellEvery) return;
    told_stage_ = stage;
    told_at_ = now;
    tell_(wire::PullProgressed{.stage = std::string(stage), .done = before_ + done, .total = total_});
  }

  boost::asio::any_io_executor executor_;
  PullOrder order_;
  const Surroundings& surroundings_;
  std::function<void(const wire::PullMessage&)> tell_;
  Fetcher fetcher_;
  fs::path unfinished_;
  Bytes total_, before_;
  std::string told_stage_;
  SteadyClock::time_point told_at_{};
};

// One write for each line: whoever reads sees whole ones.
void write_line(const wire::PullMessage& message) {
  const std::string line = wire::encode(message) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

fs::path unfinished_folder(const fs::path& folder, const std::string& key) {
  return folder / ".pull" / key;
}

Task<Result<std::vector<wire::PulledFile>>> pull(boost::asio::any_io_executor executor, PullOrder order,
                                                 const Surroundings& surroundings,
                                                 std::function<void(const wire::PullMessage&)> tell) {
  Pull work(std::move(executor), std::move(order), surroundings, std::move(tell));
  co_return co_await work.run();
}

Result<void> discard(const PullOrder& order) {
  std::error_code error;
  // What was put in its place already is hidden by the list, and would be found without it.
  const fs::path unfinished = unfinished_folder(order.folder, order.key);
  const auto arriving = config::read_arriving(unfinished / config::kArrivingList);
  for (const config::Arrival& one : arriving ? *arriving : std::vector<config::Arrival>()) {
    if (!fs::exists(unfinished / one.from, error) && !error && is_safe_path(one.to))
      LM_TRY_VOID(os::remove_file(order.folder / one.to));
  }
  // First of all: without its parts it would name what another pull has put there.
  LM_TRY_VOID(os::remove_file(unfinished / config::kArrivingList));
  fs::remove_all(unfinished, error);
  if (error) return fail(os::system_error(error.value(), "removing what was fetched"));
  // Where it was the last.
  fs::remove(order.folder / ".pull", error);
  return {};
}

int pull_child(const PullOrder& order) {
  const Surroundings surroundings = Surroundings::read([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
  boost::asio::io_context context(1);
  Gate gate(context.get_executor());
  int code = 1;
  struct Life {
    static Task<> live(boost::asio::io_context& context, const PullOrder& order,
                       const Surroundings& surroundings, int& code) {
      const auto pulled = co_await pull(context.get_executor(), order, surroundings, write_line);
      if (pulled)
        write_line(wire::PullSucceeded{*pulled});
      else
        write_line(wire::PullFailed{pulled.error()});
      code = pulled ? 0 : 1;
    }
  };
  gate.start(Life::live(context, order, surroundings, code));
  context.run();
  return code;
}

int discard_child(const PullOrder& order) {
  if (const auto done = discard(order); !done) {
    write_line(wire::PullFailed{done.error()});
    return 1;
  }
  return 0;
}

}  // namespace lm::hub

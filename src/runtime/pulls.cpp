#include "runtime/pulls.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <set>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "base/checksum.h"
#include "base/log.h"
#include "hub/pull.h"
#include "hub/source.h"
#include "hub/surroundings.h"
#include "os/file.h"
#include "os/subprocess.h"
#include "os/system_error.h"
#include "wire/pull.h"

namespace lm::runtime {
namespace {

// Listeners are not told of every step.
constexpr Duration kTellEvery = std::chrono::milliseconds(500);
constexpr std::string_view kNeedsAddress =
    "its address had a query, which is not kept: pull the whole address again, and it goes on";
// What the rate is measured over.
constexpr Duration kRateSpan = std::chrono::seconds(5);

std::optional<PullState> state_from(std::string_view text) {
  for (const PullState state : {PullState::kWaiting, PullState::kRunning, PullState::kPaused,
                                PullState::kDone, PullState::kFailed, PullState::kCancelled}) {
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

bool has_ended(PullState state) {
  return state == PullState::kDone || state == PullState::kFailed || state == PullState::kCancelled;
}

std::unexpected<Error> ended(const Pull& pull) {
  return fail(ErrorCode::kFailedPrecondition,
              fmt::format("pull {} has ended: it is {}", pull.id, to_string(pull.state)), "pull_ended");
}

std::string key_of(std::string_view source) {
  return fmt::format("{:016x}", checksum(hub::without_query(source)));
}

// A pipe that says this and ends: what no other user may see among a process's arguments or variables.
Result<os::UniqueFd> input_of(std::string_view text) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(os::system_error(errno, "making a pipe"));
  os::UniqueFd reader(ends[0]);
  const os::UniqueFd writer(ends[1]);
  // A source is shorter than what every pipe holds.
  if (::write(writer.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail(os::system_error(errno, "writing into a pipe"));
  return reader;
}

}  // namespace

std::string_view to_string(PullState state) {
  constexpr std::array<std::string_view, 6> kWords = {"waiting", "running", "paused",
                                                      "done",    "failed",  "cancelled"};
  return kWords.at(static_cast<std::size_t>(state));
}

bool rests(PullState state) {
  return has_ended(state) || state == PullState::kPaused;
}

struct Pulls::Impl : std::enable_shared_from_this<Pulls::Impl> {
  // Its latest attempt is what happens to one pull.
  struct Entry {
    Pull pull;
    std::string whole;  // the source with an address's query, which is kept nowhere else; empty: not known
    std::optional<os::Subprocess> child;
    std::uint64_t attempt = 0;  // tells a child's last words from those of the one before
    std::optional<wire::PullMessage> outcome;
    Bytes done_at_start;
    int deaths = 0;
    TimePoint told_at{};
    std::vector<std::pair<TimePoint, Bytes>> seen;  // of the last kRateSpan
  };

  explicit Impl(PullsSeams s) : seams(std::move(s)) {}

  store::PullRecord record_of(const Pull& pull) const {
    return {.id = static_cast<std::int64_t>(pull.id),
            .source = pull.source,
            .folder = pull.folder.string(),
            .key = key_of(pull.source),
            .state = std::string(to_string(pull.state)),
            .who = pull.who,
            .asked_ms = pull.asked_at_ms,
            .done = pull.done.count(),
            .total = pull.total.count(),
            .error = pull.error ? pull.error->message : ""};
  }

  void become(Entry& entry, PullState state) {
    entry.pull.state = state;
    entry.pull.rate = 0;
    entry.seen.clear();
    seams.records.update_pull(record_of(entry.pull));
    log::info("pull {}: {} is {}{}", entry.pull.id, entry.pull.source, to_string(state),
              entry.pull.error ? ": " + entry.pull.error->message : "");
    tell(entry);
  }

  void tell(Entry& entry) {
    entry.told_at = seams.clock.now();
    seams.publish(entry.pull);
  }

  Result<Entry*> find(std::uint64_t id) {
    const auto it = entries.find(id);
    if (it == entries.end())
      return fail(ErrorCode::kNotFound, fmt::format("no pull {}: llm-manager pulls lists them", id),
                  "pull_not_found");
    return &it->second;
  }

  // Another pull of the same source that has not ended; what is unfinished is that one's then.
  const Pull* successor_of(const Pull& pull) const {
    for (const auto& [id, entry] : entries) {
      const Pull& other = entry.pull;
      if (id != pull.id && key_of(other.source) == key_of(pull.source) && other.folder == pull.folder &&
          !has_ended(other.state))
        return &other;
    }
    return nullptr;
  }

  // Starts those that wait, as many as may run at once.
  void fill() {
    if (stopping) return;
    std::size_t running = 0;
    for (const auto& [id, entry] : entries)
      if (entry.child) ++running;
    for (auto& [id, entry] : entries) {
      if (running >= kAtOnce) return;
      if (entry.pull.state != PullState::kWaiting || entry.child) continue;
      if (discarding.contains(entry.pull.folder / key_of(entry.pull.source))) continue;
      spawn(entry);
      if (entry.child) ++running;
    }
  }

  os::SpawnOptions options_of(std::string_view command, const std::filesystem::path& folder,
                              const std::string& key) const {
    os::SpawnOptions options;
    options.arguments = {seams.program.string(), std::string(command), folder.string(), key};
    options.environment = os::environment_of_ours(hub::variables_of_pulls());
    // Answers come first, and where memory is short a download is what goes.
    options.nice = 5;
    options.oom_score_adjustment = 800;
    options.longest_line = 1u << 20;
    options.standard_error = os::Output::lines([](std::string_view line) { log::warning("pull: {}", line); });
    return options;
  }

  void spawn(Entry& entry) {
    entry.outcome.reset();
    entry.pull.error.reset();
    entry.done_at_start = entry.pull.done;
    const std::uint64_t id = entry.pull.id;
    const std::uint64_t attempt = ++entry.attempt;
    os::SpawnOptions options = options_of("__pull", entry.pull.folder, key_of(entry.pull.source));
    auto input = input_of(entry.whole + "\n");
    if (!input) {
      entry.pull.error = std::move(input).error();
      return become(entry, PullState::kFailed);
    }
    options.standard_input = input->get();
    options.standard_output =
        os::Output::lines([weak = weak_from_this(), id, attempt](std::string_view line) {
          if (const auto self = weak.lock()) self->hear(id, attempt, line);
        });
    options.on_end = [weak = weak_from_this(), id, attempt](const os::ExitStatus& status) {
      const auto self = weak.lock();
      if (!self) return;
      // Not from inside of it: the Subprocess is destroyed there.
      boost::asio::post(self->seams.executor, [weak, id, attempt, text = os::to_string(status)] {
        if (const auto again = weak.lock()) again->on_end(id, attempt, text);
      });
    };
    auto child = os::Subprocess::spawn(seams.executor, std::move(options));
    if (!child) {
      entry.pull.error = std::move(child).error();
      return become(entry, PullState::kFailed);
    }
    entry.child = *std::move(child);
    become(entry, PullState::kRunning);
  }

  void hear(std::uint64_t id, std::uint64_t attempt, std::string_view line) {
    const auto it = entries.find(id);
    if (it == entries.end() || it->second.attempt != attempt) return;
    Entry& entry = it->second;
    const auto message = wire::decode_pull(line);
    if (!message) return log::warning("pull {}: {}", id, message.error().message);
    if (const auto* listed = std::get_if<wire::PullListed>(&*message)) {
      entry.pull.total = listed->total;
      tell(entry);
    } else if (const auto* progress = std::get_if<wire::PullProgressed>(&*message)) {
      on_progress(entry, *progress);
    } else if (const auto* note = std::get_if<wire::PullNoted>(&*message)) {
      entry.pull.note = note->text;
      log::info("pull {}: {}", id, note->text);
      tell(entry);
    } else {
      entry.outcome = *message;
    }
  }

  void on_progress(Entry& entry, const wire::PullProgressed& progress) {
    const bool new_stage = entry.pull.stage != progress.stage;
    entry.pull.stage = progress.stage;
    if (progress.stage == "listing") return tell(entry);
    const TimePoint now = seams.clock.now();
    if (new_stage) entry.seen.clear();
    entry.pull.done = progress.done;
    entry.pull.total = progress.total;
    entry.seen.emplace_back(now, progress.done);
    std::erase_if(entry.seen, [&](const auto& one) { return one.first < now - kRateSpan; });
    const auto& [since, bytes] = entry.seen.front();
    const double span = seconds(now - since);
    entry.pull.rate = span > 0.2 ? static_cast<double>((progress.done - bytes).count()) / span : 0;
    if (new_stage || now >= entry.told_at + kTellEvery) tell(entry);
  }

  void on_end(std::uint64_t id, std::uint64_t attempt, const std::string& how) {
    const auto it = entries.find(id);
    if (it == entries.end() || it->second.attempt != attempt) return;
    Entry& entry = it->second;
    entry.child.reset();
    if (stopping) return;
    conclude(entry, how);
    if (entry.pull.state == PullState::kCancelled) discard_unfinished(entry.pull);
    fill();
  }

  void conclude(Entry& entry, const std::string& how) {
    Pull& pull = entry.pull;
    // Whole is whole, whatever it was told in its last moment.
    if (const auto* done = entry.outcome ? std::get_if<wire::PullSucceeded>(&*entry.outcome) : nullptr) {
      pull.done = pull.total;
      pull.files.clear();
      for (const wire::PulledFile& file : done->files) {
        pull.files.push_back(file.path);
        seams.records.add_file(
            {.path = file.path, .source = pull.source, .hash = file.hash, .size = file.size.count()});
      }
      pull.models = seams.arrived(pull.files);
      return become(entry, PullState::kDone);
    }
    if (pull.state != PullState::kRunning) return;  // paused, cancelled or resumed meanwhile
    if (const auto* failed = entry.outcome ? std::get_if<wire::PullFailed>(&*entry.outcome) : nullptr) {
      pull.error = failed->error;
      return become(entry, PullState::kFailed);
    }
    entry.deaths = pull.done > entry.done_at_start ? 1 : entry.deaths + 1;
    if (entry.deaths <= kMostDeaths) {
      pull.note = fmt::format("its process {}; it goes on where it was", how);
      return become(entry, PullState::kWaiting);
    }
    pull.error = Error{.code = ErrorCode::kInternal,
                       .message = fmt::format("its process {}, {} times in a row", how, entry.deaths),
                       .reason = "pull_died",
                       .fields = {},
                       .retry_after = {}};
    become(entry, PullState::kFailed);
  }

  // Whether a pull that may go on is of what lies there.
  bool is_owned(const std::filesystem::path& folder, const std::string& key) const {
    return std::ranges::any_of(entries, [&](const auto& each) {
      const Pull& pull = each.second.pull;
      return pull.folder == folder && key_of(pull.source) == key && pull.state != PullState::kDone &&
             pull.state != PullState::kCancelled;
    });
  }

  bool was_cancelled(const std::filesystem::path& folder, const std::string& key) const {
    return std::ranges::any_of(entries, [&](const auto& each) {
      const Pull& pull = each.second.pull;
      return pull.folder == folder && key_of(pull.source) == key;
    });
  }

  // What lies unfinished in a folder when the daemon starts.
  void look_at_leftovers(const std::filesystem::path& folder) {
    std::error_code error;
    std::vector<std::filesystem::path> found;
    for (std::filesystem::directory_iterator each(folder / ".pull", error), end; !error && each != end;
         each.increment(error))
      found.push_back(each->path());
    for (const std::filesystem::path& place : found) {
      const std::string key = place.filename().string();
      if (is_owned(folder, key)) continue;
      if (is_aside(key) || was_cancelled(folder, key)) {
        discard(folder, key);
      } else if (!adopt(folder, key)) {
        const auto changed = std::filesystem::last_write_time(place, error);
        const bool old = !error && changed + kKeepUnknown < std::filesystem::file_time_type::clock::now();
        log::warning("{} is what is left of some pull{}", place.string(),
                     old ? "; it is removed" : ", and is removed once it is a week old");
        if (old) discard(folder, key);
      }
    }
  }

  // Lists what another daemon, or one whose records are lost, has begun. False: nothing says what it is.
  bool adopt(const std::filesystem::path& folder, const std::string& key) {
    auto text = os::read_file(hub::unfinished_folder(folder, key) / hub::kSourceFile, 4096);
    if (!text) return false;
    while (text->ends_with('\n')) text->pop_back();
    const auto source = hub::parse_source(hub::without_query(*text));
    if (!source || key_of(*text) != key) return false;
    Entry entry;
    entry.pull.source = *text;
    if (!text->ends_with(hub::kHiddenQuery)) entry.whole = *text;
    entry.pull.folder = folder;
    entry.pull.state = PullState::kPaused;
    entry.pull.who = "an earlier daemon";
    entry.pull.asked_at_ms = unix_time_ms();
    entry.pull.note = "found unfinished; nobody here has asked for it";
    const std::int64_t id = seams.records.add_pull(record_of(entry.pull));
    if (id == 0) return true;  // it stays where it is, and is found again
    entry.pull.id = static_cast<std::uint64_t>(id);
    log::info("pull {}: {} was found unfinished in {}", id, entry.pull.source, folder.string());
    entries.emplace(entry.pull.id, std::move(entry));
    return true;
  }

  void discard_unfinished(const Pull& pull) {
    if (successor_of(pull) == nullptr) discard(pull.folder, key_of(pull.source));
  }

  void discard(const std::filesystem::path& folder, const std::string& key) {
    const std::filesystem::path place = folder / key;
    if (stopping) return;
    if (const auto same = discarding.find(place); same != discarding.end()) {
      same->second.again = true;
      return;
    }
    os::SpawnOptions options = options_of("__discard-pull", folder, key);
    options.on_end = [weak = weak_from_this(), folder, key](const os::ExitStatus& status) {
      const auto self = weak.lock();
      if (!self) return;
      if (!status.success())
        log::warning("what is left of a pull was not removed: {}", os::to_string(status));
      boost::asio::post(self->seams.executor, [weak, folder, key] {
        if (const auto again = weak.lock()) again->discarded(folder, key);
      });
    };
    auto child = os::Subprocess::spawn(seams.executor, std::move(options));
    if (!child) return log::warning("what is left of a pull was not removed: {}", child.error().message);
    discarding.emplace(place, Discard{*std::move(child)});
  }

  void discarded(const std::filesystem::path& folder, const std::string& key) {
    const auto it = discarding.find(folder / key);
    if (it == discarding.end()) return;
    const bool again = it->second.again;
    discarding.erase(it);
    if (again) discard(folder, key);
    fill();
  }

  PullsSeams seams;
  std::map<std::uint64_t, Entry> entries;
  struct Discard {
    os::Subprocess child;
    bool again = false;  // something was put there after it had begun
  };
  std::map<std::filesystem::path, Discard> discarding;  // nothing is begun there meanwhile
  bool stopping = false;
};

Pulls::Pulls(PullsSeams seams) : impl_(std::make_shared<Impl>(std::move(seams))) {}

Pulls::~Pulls() {
  stop();
}

void Pulls::begin(const std::vector<std::filesystem::path>& folders) {
  for (const store::PullRecord& record : impl_->seams.records.pulls()) {
    const auto state = state_from(record.state);
    if (!state) continue;  // of a later version
    Impl::Entry entry;
    entry.pull = {.id = static_cast<std::uint64_t>(record.id),
                  .source = record.source,
                  .folder = record.folder,
                  .state = *state == PullState::kRunning ? PullState::kWaiting : *state,
                  .who = record.who,
                  .asked_at_ms = record.asked_ms,
                  .stage = {},
                  .done = Bytes(record.done),
                  .total = Bytes(record.total),
                  .rate = 0,
                  .note = {},
                  .error = {},
                  .files = {},
                  .models = {}};
    if (!record.error.empty()) {
      entry.pull.error = Error{.code = ErrorCode::kUnavailable,
                               .message = record.error,
                               .reason = "pull_failed",
                               .fields = {},
                               .retry_after = {}};
    }
    if (!record.source.ends_with(hub::kHiddenQuery)) {
      entry.whole = record.source;
    } else if (!rests(entry.pull.state)) {
      entry.pull.state = PullState::kPaused;
      entry.pull.note = kNeedsAddress;
      impl_->seams.records.update_pull(impl_->record_of(entry.pull));
    }
    impl_->entries.emplace(entry.pull.id, std::move(entry));
  }
  std::set<std::filesystem::path> places(folders.begin(), folders.end());
  for (const auto& [id, entry] : impl_->entries) places.insert(entry.pull.folder);
  for (const std::filesystem::path& place : places) impl_->look_at_leftovers(place);
  impl_->fill();
}

void Pulls::stop() {
  impl_->stopping = true;
  for (auto& [id, entry] : impl_->entries) entry.child.reset();
  impl_->discarding.clear();
}

Result<std::uint64_t> Pulls::start(const std::string& source, std::filesystem::path folder, std::string who) {
  LM_TRY(const hub::Source parsed, hub::parse_source(source));
  if (impl_->stopping)
    return fail(ErrorCode::kUnavailable, "the daemon is stopping; pull again when it is back", "stopping");
  const std::string text = parsed.text();
  for (auto& [id, entry] : impl_->entries) {
    if (key_of(entry.pull.source) != key_of(text) || has_ended(entry.pull.state)) continue;
    entry.whole = parsed.secret_text();
    LM_TRY_VOID(resume(id));
    return id;
  }
  Impl::Entry entry;
  entry.pull.source = text;
  entry.whole = parsed.secret_text();
  entry.pull.folder = std::move(folder);
  entry.pull.who = std::move(who);
  entry.pull.asked_at_ms = unix_time_ms();
  const std::int64_t id = impl_->seams.records.add_pull(impl_->record_of(entry.pull));
  if (id == 0)
    return fail(ErrorCode::kInternal, "the pull could not be written down: see the daemon's log", "io_error");
  entry.pull.id = static_cast<std::uint64_t>(id);
  const auto [it, fresh] = impl_->entries.emplace(entry.pull.id, std::move(entry));
  log::info("pull {}: {} for {}", it->first, text, it->second.pull.who);
  // The oldest that have ended are forgotten, as in the store.
  std::size_t over = static_cast<std::size_t>(
      std::ranges::count_if(impl_->entries, [](const auto& e) { return has_ended(e.second.pull.state); }));
  for (auto old = impl_->entries.begin(); over > store::Pulls::kKept && old != impl_->entries.end();) {
    const bool goes = has_ended(old->second.pull.state) && !old->second.child;
    if (goes) --over;
    old = goes ? impl_->entries.erase(old) : std::next(old);
  }
  impl_->fill();
  return static_cast<std::uint64_t>(id);
}

Result<void> Pulls::pause(std::uint64_t id) {
  LM_TRY(Impl::Entry* const entry, impl_->find(id));
  if (has_ended(entry->pull.state)) return ended(entry->pull);
  if (entry->pull.state == PullState::kPaused) return {};
  impl_->become(*entry, PullState::kPaused);
  if (entry->child) entry->child->signal(SIGTERM);
  impl_->fill();
  return {};
}

Result<void> Pulls::resume(std::uint64_t id) {
  LM_TRY(Impl::Entry* const entry, impl_->find(id));
  if (entry->pull.state == PullState::kDone || entry->pull.state == PullState::kCancelled)
    return ended(entry->pull);
  if (!rests(entry->pull.state)) return {};
  if (const Pull* other = impl_->successor_of(entry->pull)) {
    return fail(ErrorCode::kFailedPrecondition,
                fmt::format("pull {} fetches the same: resume that", other->id), "pull_ended");
  }
  if (entry->whole.empty())
    return fail(ErrorCode::kFailedPrecondition, fmt::format("pull {}: {}", id, kNeedsAddress),
                "address_needed");
  entry->deaths = 0;
  entry->pull.error.reset();
  impl_->become(*entry, PullState::kWaiting);
  impl_->fill();
  return {};
}

Result<void> Pulls::cancel(std::uint64_t id) {
  LM_TRY(Impl::Entry* const entry, impl_->find(id));
  if (entry->pull.state == PullState::kCancelled) return {};
  if (entry->pull.state == PullState::kDone) return ended(entry->pull);
  impl_->become(*entry, PullState::kCancelled);
  if (entry->child) {
    entry->child->signal(SIGTERM);
  } else {
    impl_->discard_unfinished(entry->pull);
  }
  impl_->fill();
  return {};
}

const Pull* Pulls::find(std::uint64_t id) const {
  const auto it = impl_->entries.find(id);
  return it == impl_->entries.end() ? nullptr : &it->second.pull;
}

std::vector<Pull> Pulls::all() const {
  std::vector<Pull> pulls;
  for (const auto& [id, entry] : impl_->entries) pulls.push_back(entry.pull);
  return pulls;
}

void Pulls::discard(const Aside& aside) {
  impl_->discard(aside.folder, aside.key);
}

}  // namespace lm::runtime

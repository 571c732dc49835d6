#include "runtime/state_keeper.h"

#include <algorithm>
#include <limits>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>

#include "base/checksum.h"
#include "base/latch.h"
#include "base/log.h"
#include "domain/footprint.h"
#include "os/file.h"

namespace lm::runtime {
namespace {

// Fewer tokens are read again sooner than a file is opened.
constexpr int kLeastTokens = 64;
// Until a model was seen reading a prompt. Slow rather than quick: a kept state is dropped too late then.
constexpr double kPromptRate = 300;

// The first request after a restore shares so much of the restored prompt that it must be reused.
constexpr int kTelling = 64;

bool is_among(const std::vector<std::filesystem::path>& files, const std::filesystem::path& file) {
  return std::ranges::find(files, file) != files.end();
}

void remove_both(const std::filesystem::path& file) {
  for (const auto& path : {file, sidecar_of(file)}) {
    if (auto removed = os::remove_file(path); !removed) log::warning("{}", removed.error().message);
  }
}

}  // namespace

// Copies on its one thread; comes back through the executor, and not at all once the keeper is gone.
struct StateKeeper::Copier : std::enable_shared_from_this<Copier> {
  Copier(boost::asio::any_io_executor e, StateKeeper* k) : executor(e), keeper(k), idle(e) { idle.open(); }

  void copy(std::uint64_t id, std::filesystem::path from, std::filesystem::path to) {
    if (under_way++ == 0) idle = Latch(executor);
    boost::asio::post(
        thread, [self = shared_from_this(), id, from, to, work = boost::asio::make_work_guard(executor)] {
          const auto began = std::chrono::steady_clock::now();
          const std::filesystem::path partial = to.string() + ".partial";
          std::error_code error;
          std::filesystem::copy_file(from, partial, std::filesystem::copy_options::overwrite_existing, error);
          if (!error) std::filesystem::rename(partial, to, error);
          std::error_code ignored;
          if (error) std::filesystem::remove(partial, ignored);
          const Duration took = std::chrono::steady_clock::now() - began;
          boost::asio::post(self->executor, [self, id, from, to, took, copied = !error] {
            if (self->keeper != nullptr) self->keeper->moved(id, from, to, copied, took);
            if (--self->under_way == 0) self->idle.open();
          });
        });
  }

  boost::asio::any_io_executor executor;
  StateKeeper* keeper;
  Latch idle;
  int under_way = 0;
  boost::asio::thread_pool thread{1};
};

StateKeeper::StateKeeper(Seams seams)
    : seams_(std::move(seams)), copier_(std::make_shared<Copier>(seams_.executor, this)) {}

StateKeeper::~StateKeeper() {
  copier_->keeper = nullptr;
  copier_->thread.stop();
  copier_->thread.join();  // a copy under way ends first
}

// ---- the folders

void StateKeeper::open(Options options) {
  options_ = std::move(options);
  for (std::filesystem::path* folder : {&options_.memory, &options_.disk}) {
    if (folder->empty()) continue;
    if (auto made = os::make_own_folder(*folder); !made) {
      log::warning("conversations are not kept there: {}", made.error().message);
      folder->clear();
    }
  }
  if (!options_.memory.empty()) take_over(options_.memory, true);
  if (!options_.disk.empty()) take_over(options_.disk, false);
  apply_budgets();
  tell();
}

void StateKeeper::take_over(const std::filesystem::path& folder, bool in_memory) {
  std::set<std::filesystem::path> ours;
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) found.push_back(entry.path());
  for (const std::filesystem::path& path : found) {
    if (path.extension() != ".state") continue;
    const auto refuse = [&](std::string_view why) {
      log::warning("a conversation that was saved before is dropped: {}", why);
    };
    const auto text = os::read_file(path);
    if (!text) {
      refuse(text.error().message);
      continue;
    }
    auto about = read_sidecar(*text, path);
    if (!about) {
      refuse(about.error().message);
      continue;
    }
    const auto size = std::filesystem::file_size(about->state.file, error);
    if (error || Bytes(static_cast<std::int64_t>(size)) != about->state.size) {
      refuse(error ? fmt::format("{}: {}", about->state.file.string(), error.message())
                   : fmt::format("{} has {} bytes, {} were saved", about->state.file.string(), size,
                                 about->state.size.count()));
      continue;
    }
    // A daemon that was killed while it moved a state leaves two.
    if (std::ranges::any_of(kept_, [&](const auto& entry) {
          const StateSidecar& other = entry.second.about;
          return other.model == about->model && other.state.token_sum == about->state.token_sum &&
                 other.fingerprint == about->fingerprint;
        }))
      continue;
    ours.insert(path);
    ours.insert(about->state.file);
    add(*std::move(about), in_memory);
  }
  for (const std::filesystem::path& path : found) {
    if (!ours.contains(path)) std::filesystem::remove(path, error);
  }
}

void StateKeeper::change_budgets(Bytes memory, Bytes disk) {
  options_.memory_budget = memory;
  options_.disk_budget = disk;
  apply_budgets();
  tell();
}

void StateKeeper::add(StateSidecar about, bool in_memory) {
  kept_.emplace(++last_id_, Kept{.about = std::move(about), .in_memory = in_memory, .moving = false});
}

void StateKeeper::drop(std::uint64_t id) {
  const auto it = kept_.find(id);
  if (it == kept_.end()) return;
  remove_both(it->second.about.state.file);
  kept_.erase(it);
}

void StateKeeper::drop_if(const std::function<bool(const Kept&)>& condition) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, kept] : kept_) {
    if (condition(kept)) ids.push_back(id);
  }
  for (const std::uint64_t id : ids) drop(id);
}

void StateKeeper::give_back(Bytes bytes, const ModelId& spare) {
  std::vector<core::KeptState> states = movable();
  Bytes memory;
  for (core::KeptState& state : states) {
    if (kept_.at(state.id).about.model == spare) state.last_used = std::numeric_limits<std::int64_t>::max();
    if (state.in_memory) memory += state.size;
  }
  keep_within(states, std::max(Bytes(), memory - bytes));
  tell();
}

void StateKeeper::apply_budgets() {
  keep_within(movable(), options_.memory.empty() || closing_ ? Bytes() : options_.memory_budget);
}

// What is being read by a worker now stays as it is; what is being copied counts where it will be.
std::vector<core::KeptState> StateKeeper::movable() const {
  std::vector<core::KeptState> states;
  for (const auto& [id, kept] : kept_) {
    const auto instance = loaded_.find(kept.about.model);
    const bool handed_out = instance != loaded_.end() && handed_out_.contains(instance->second) &&
                            is_among(handed_out_.at(instance->second), kept.about.state.file);
    if (handed_out) continue;
    states.push_back({.id = id,
                      .size = kept.about.state.size,
                      .in_memory = kept.in_memory && !kept.moving,
                      .loaded = instance != loaded_.end(),
                      .last_used = kept.about.saved_ms,
                      .reread = kept.about.reread});
  }
  return states;
}

void StateKeeper::keep_within(const std::vector<core::KeptState>& states, Bytes memory) {
  const auto moves =
      core::keep_within(states, {.memory = memory,
                                 .disk = options_.disk.empty() ? Bytes() : options_.disk_budget,
                                 .disk_rate = disk_rate_});
  for (const std::uint64_t id : moves.drop) {
    log::debug("a conversation of {} with {} tokens is dropped for room", kept_.at(id).about.model.str(),
               kept_.at(id).about.state.tokens);
    drop(id);
  }
  for (const std::uint64_t id : moves.spill) move_to_disk(id);
}

void StateKeeper::move_to_disk(std::uint64_t id) {
  Kept& kept = kept_.at(id);
  kept.moving = true;
  const std::filesystem::path& from = kept.about.state.file;
  copier_->copy(id, from, options_.disk / from.filename());
}

void StateKeeper::moved(std::uint64_t id, std::filesystem::path from, std::filesystem::path to, bool copied,
                        Duration took) {
  const auto it = kept_.find(id);
  if (it == kept_.end()) {  // dropped meanwhile
    remove_both(to);
    return;
  }
  Kept& kept = it->second;
  kept.moving = false;
  if (copied) {
    kept.about.state.file = to;
    copied = os::replace_file(sidecar_of(to), to_text(kept.about)).has_value();
  }
  if (!copied) {
    log::warning("a conversation of {} could not be moved to {} and is dropped", kept.about.model.str(),
                 to.parent_path().string());
    remove_both(to);
    kept.about.state.file = from;
    drop(id);
    return tell();
  }
  kept.in_memory = false;
  // Small ones say more about the file system than about the disk.
  if (kept.about.state.size > mib(8) && took > Duration())
    disk_rate_ = 0.5 * disk_rate_ + 0.5 * static_cast<double>(kept.about.state.size.count()) / seconds(took);
  remove_both(from);
  tell();
}

void StateKeeper::tell() {
  Bytes memory;
  for (const auto& [id, kept] : kept_) {
    if (kept.in_memory) memory += kept.about.state.size;
  }
  if (memory == told_) return;
  told_ = memory;
  seams_.post(StatesKept{memory});
}

Task<> StateKeeper::close(Duration limit) {
  prepare_close();
  apply_budgets();
  const Latch idle = copier_->idle;
  if (!co_await idle.wait(limit)) log::warning("not all conversations could be moved to disk in time");
  drop_if([](const Kept& kept) { return kept.in_memory; });
  std::error_code ignored;
  // All of its states were moved or dropped: what is left is nobody's.
  if (!options_.memory.empty()) std::filesystem::remove_all(options_.memory, ignored);
}

StateKeeper::Figures StateKeeper::figures() const {
  Figures out = figures_;
  for (const auto& [id, kept] : kept_) {
    (kept.in_memory ? out.memory : out.disk) += kept.about.state.size;
    ++out.conversations;
  }
  return out;
}

// ---- what workers ask and tell

std::string StateKeeper::fingerprint(const backend::LoadOrder& order) const {
  return footprint_key(order.model.artifact, order.options, seams_.engine()) +
         "|projector=" + order.model.artifact.projector.string();
}

void StateKeeper::used(InstanceId instance) {
  used_.insert(instance);
}

std::vector<SlotState> StateKeeper::restore(const backend::LoadOrder& order) {
  loaded_[order.model.id] = order.instance;
  const std::string wanted = fingerprint(order);
  drop_if([&](const Kept& kept) {
    return kept.about.model == order.model.id && kept.about.fingerprint != wanted;
  });
  std::vector<const Kept*> found;
  for (const auto& [id, kept] : kept_) {
    if (kept.about.model == order.model.id) found.push_back(&kept);
  }
  std::ranges::sort(found, std::greater(), [](const Kept* kept) { return kept->about.saved_ms; });
  std::vector<SlotState> states;
  for (const Kept* kept : found) states.push_back(kept->about.state);
  for (const SlotState& state : states) handed_out_[order.instance].push_back(state.file);
  tell();
  return states;
}

void StateKeeper::restored(const backend::LoadOrder& order, const std::optional<wire::Restored>& outcome) {
  const auto handed_out = std::exchange(handed_out_[order.instance], {});
  handed_out_.erase(order.instance);
  if (!outcome) {
    // It may be what killed the worker: nobody reads it a second time.
    figures_.restore_failures += handed_out.size();
    log::warning("the conversations of {} could not be restored; their prompts will be read again",
                 order.model.id.str());
    drop_if([&](const Kept& kept) { return is_among(handed_out, kept.about.state.file); });
  } else {
    figures_.restored += static_cast<std::uint64_t>(outcome->slots);
    figures_.restore_failures += outcome->refused.size();
    for (const std::string& why : outcome->wrong)
      log::warning("a conversation of {} is not restored: {}", order.model.id.str(), why);
    drop_if([&](const Kept& kept) { return is_among(outcome->refused, kept.about.state.file); });
    if (outcome->slots > 0) {
      log::info("{}: {} of its conversations are back, {} tokens, in {:.0f} ms", order.model.id.str(),
                outcome->slots, outcome->tokens, 1000 * seconds(outcome->took));
    }
  }
  apply_budgets();
  tell();
}

std::optional<wire::SaveStates> StateKeeper::save(const backend::LoadOrder& order, Occasion occasion) {
  // What is saved now will be the only copy.
  if (occasion == Occasion::kEnding) forget_loaded(order);
  if (!used_.contains(order.instance)) return std::nullopt;
  wire::SaveStates what;
  what.id = ++last_id_;
  what.name = fmt::format("{:x}-{}", seams_.unix_ms(), what.id);
  what.least_tokens = preempted_.contains(order.instance) ? 1 : kLeastTokens;
  // The budget is that of all together; the others make room for what is new once it is there.
  if (!options_.memory.empty() && options_.memory_budget > Bytes() && !closing_)
    what.places.push_back({.folder = options_.memory, .limit = options_.memory_budget});
  if (!options_.disk.empty() && options_.disk_budget > Bytes())
    what.places.push_back({.folder = options_.disk, .limit = options_.disk_budget});
  if (what.places.empty()) return std::nullopt;
  used_.erase(order.instance);
  return what;
}

void StateKeeper::saved(const backend::LoadOrder& order, const wire::SaveStates& what,
                        const std::optional<wire::StatesSaved>& outcome) {
  const std::string& model = order.model.id.str();
  if (!outcome) {
    ++figures_.save_failures;
    used_.insert(order.instance);
    unfinished_[order.instance].push_back(what.name);
    log::warning("the conversations of {} could not be saved in time", model);
    return;
  }
  for (const Resumption& resumption : outcome->resumptions) {
    figures_.tokens_reused += static_cast<std::uint64_t>(resumption.reused);
    if (resumption.shared < kTelling || 2 * resumption.reused >= resumption.shared) continue;
    ++figures_.mismatches;
    log::warning("a restored conversation of {} was read again: {} of {} tokens were reused", model,
                 resumption.reused, resumption.shared);
  }
  for (const std::string& why : outcome->wrong) log::warning("a conversation of {}: {}", model, why);

  const auto is_known = [&](const std::filesystem::path& file) {
    return std::ranges::any_of(kept_,
                               [&](const auto& entry) { return entry.second.about.state.file == file; });
  };
  if (!outcome->complete) {
    // The older ones stand, whole; of the new ones nobody could say what they replace.
    used_.insert(order.instance);
    if (!outcome->wrong.empty()) ++figures_.save_failures;
    for (const SlotState& state : outcome->slots) {
      if (!is_known(state.file)) remove_both(state.file);
    }
    return;
  }
  drop_if([&](const Kept& kept) {
    return kept.about.model == order.model.id &&
           std::ranges::none_of(outcome->slots,
                                [&](const SlotState& s) { return s.file == kept.about.state.file; });
  });
  const std::int64_t now_ms = seams_.unix_ms();
  const double rate = outcome->prompt_rate > 0 ? outcome->prompt_rate : kPromptRate;
  int fresh = 0, tokens = 0;
  for (const SlotState& state : outcome->slots) {
    if (is_known(state.file)) continue;
    // One that was not written anew but is known no more was dropped while the worker listed it.
    if (!state.file.filename().string().starts_with(what.name + "-")) continue;
    // The worker lists the latest first.
    StateSidecar about{.model = order.model.id,
                       .fingerprint = fingerprint(order),
                       .saved_ms = now_ms - fresh,
                       .reread = from_seconds(state.tokens / rate),
                       .state = state};
    if (auto written = os::replace_file(sidecar_of(state.file), to_text(about)); !written) {
      log::warning("{}", written.error().message);
      remove_both(state.file);
      continue;
    }
    const bool in_memory = state.file.parent_path() == options_.memory;
    add(std::move(about), in_memory);
    ++fresh;
    tokens += state.tokens;
  }
  figures_.saved += static_cast<std::uint64_t>(fresh);
  if (fresh > 0) {
    log::info("{}: {} of its conversations are saved, {} tokens, in {:.0f} ms", model, fresh, tokens,
              1000 * seconds(outcome->took));
  }
  apply_budgets();
  tell();
}

void StateKeeper::forget_loaded(const backend::LoadOrder& order) {
  if (const auto it = loaded_.find(order.model.id); it != loaded_.end() && it->second == order.instance)
    loaded_.erase(it);
}

void StateKeeper::ended(const backend::LoadOrder& order) {
  forget_loaded(order);
  used_.erase(order.instance);
  preempted_.erase(order.instance);
  handed_out_.erase(order.instance);
  // Now that nobody writes them any more.
  if (const auto it = unfinished_.find(order.instance); it != unfinished_.end()) {
    std::error_code error;
    for (const auto& folder : {options_.memory, options_.disk}) {
      if (folder.empty()) continue;
      std::vector<std::filesystem::path> left;
      for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (std::ranges::any_of(it->second, [&](const std::string& n) { return name.starts_with(n + "-"); }))
          left.push_back(entry.path());
      }
      for (const auto& path : left) std::filesystem::remove(path, error);
    }
    unfinished_.erase(it);
  }
}

std::filesystem::path shared_memory_folder(const std::filesystem::path& data) {
  std::error_code error;
  const std::filesystem::path shared = "/dev/shm";
  if (!std::filesystem::is_directory(shared, error)) return {};
  auto whole = std::filesystem::weakly_canonical(data, error);
  if (error) whole = data;
  return shared / fmt::format("llm-manager-{}-{:016x}", ::getuid(), checksum(whole.native()));
}

}  // namespace lm::runtime

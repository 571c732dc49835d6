#include "slot_states.h"

#include <algorithm>
#include <chrono>
#include <server-context.h>
#include <server-task.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "state_file.h"

namespace lm::worker {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Positions, sequence ids and lengths beside a token's keys and values, and checkpoints.
constexpr double kOverhead = 1.02;
constexpr std::int64_t kOverheadBytes = 1 << 20;

Duration since(SteadyClock::time_point start) {
  return std::chrono::duration_cast<Duration>(SteadyClock::now() - start);
}

// One task for the engine's loop, and its answer.
server_task_result_ptr ask(server_context& engine, server_task&& task) {
  auto reader = engine.get_response_reader();
  task.id = reader.get_new_id();
  reader.post_task(std::move(task));
  return reader.next([] { return false; });
}

}  // namespace

struct SlotStates::Slot {
  int id = 0;
  int task = -1;  // the last one that it served; -1: none
  int tokens = 0;
  bool busy = false;
};

SlotStates::SlotStates(Link& link, Generation generation, std::vector<SlotState> states)
    : link_(link), generation_(generation), states_(std::move(states)), told_to_restore_(!states_.empty()) {
  std::thread([this] { run(); }).detach();  // ends with the process, by _exit
}

void SlotStates::open(server_context& engine, int slots, double bytes_per_token) {
  {
    const std::scoped_lock lock(mutex_);
    engine_ = &engine;
    slots_ = slots;
    bytes_per_token_ = bytes_per_token;
  }
  changed_.notify_one();
}

void SlotStates::save(wire::SaveStates order) {
  {
    const std::scoped_lock lock(mutex_);
    orders_.push_back(std::move(order));
  }
  changed_.notify_one();
}

void SlotStates::cancel(std::uint64_t id) {
  const std::scoped_lock lock(mutex_);
  cancelled_ = std::max(cancelled_, id);  // orders come with rising ids
}

bool SlotStates::is_cancelled(std::uint64_t id) {
  const std::scoped_lock lock(mutex_);
  return id <= cancelled_;
}

void SlotStates::run() {
  check();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return engine_ != nullptr; });
  }
  if (told_to_restore_) restore();
  for (;;) {
    wire::SaveStates order;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !orders_.empty(); });
      order = std::move(orders_.front());
      orders_.pop_front();
    }
    obey(order);
  }
}

void SlotStates::refuse(const SlotState& state, std::string why) {
  restored_.refused.push_back(state.file);
  restored_.wrong.push_back(std::move(why));
}

void SlotStates::check() {
  std::erase_if(states_, [&](const SlotState& state) {
    const auto good = check_state(state);
    if (!good) refuse(state, good.error().message);
    return !good;
  });
}

void SlotStates::restore() {
  const auto began = SteadyClock::now();
  wire::Restored& told = restored_;
  told.generation = generation_;
  // The dearest into the first slot: the engine gives a request that continues none of them to the last one.
  // The oldest first, so that their cells lie in the cache as they did: where they lie decides how sums are
  // rounded, and an answer is to be the same to the last bit.
  for (int slot = std::min(slots_, static_cast<int>(states_.size())) - 1; slot >= 0; --slot) {
    const SlotState& state = states_[static_cast<std::size_t>(slot)];
    const auto tokens = act(slot, state.file, false);
    if (!tokens) {
      refuse(state, tokens.error().message);
      continue;
    }
    if (*tokens != state.tokens) {
      server_task erase(SERVER_TASK_TYPE_SLOT_ERASE);
      erase.slot_action.id_slot = slot;
      ask(*engine_, std::move(erase));
      refuse(state, fmt::format("{} gave {} tokens instead of {}", state.file.filename().string(), *tokens,
                                state.tokens));
      continue;
    }
    known_[slot] = {.task = -1, .state = state};
    ++told.slots;
    told.tokens += *tokens;
  }
  told.took = since(began);
  link_.send(std::move(told));
}

Result<int> SlotStates::act(int slot, const std::filesystem::path& file, bool save) {
  server_task task(save ? SERVER_TASK_TYPE_SLOT_SAVE : SERVER_TASK_TYPE_SLOT_RESTORE);
  task.slot_action.id_slot = slot;
  task.slot_action.filename = file.filename().string();
  task.slot_action.filepath = file.string();
  const auto result = ask(*engine_, std::move(task));
  if (!result || result->is_error()) {
    return fail(ErrorCode::kInternal,
                fmt::format("slot {}: {}", slot,
                            result ? result->to_json().value("message", "the engine failed") : "no answer"),
                "state_failed");
  }
  const auto* done = dynamic_cast<const server_task_result_slot_save_load*>(result.get());
  return done == nullptr ? 0 : static_cast<int>(done->n_tokens);
}

// The slots as they are, and what became of those that were restored.
std::vector<SlotStates::Slot> SlotStates::look(wire::StatesSaved& told) {
  std::vector<Slot> out;
  const auto result = ask(*engine_, server_task(SERVER_TASK_TYPE_SLOT_GET));
  const auto* all = dynamic_cast<const server_task_result_slots*>(result.get());
  if (all == nullptr) {
    told.complete = false;
    told.wrong.emplace_back("the engine does not list its slots");
    return out;
  }
  for (const auto& entry : all->slots_data) {
    const int id = entry.value("id", 0);
    out.push_back({.id = id,
                   .task = entry.value("id_task", -1),
                   .tokens = entry.value("n_prompt_tokens", 0),
                   .busy = entry.value("is_processing", false)});
    if (!entry.contains("restored")) continue;
    const auto& restored = entry.at("restored");
    const int reused = restored.value("n_reused", -1);
    if (reused < 0 || std::exchange(resumption_told_[id], true)) continue;
    told.resumptions.push_back({.restored = restored.value("n_tokens", 0),
                                .shared = restored.value("n_shared", 0),
                                .reused = reused});
  }
  return out;
}

double SlotStates::prompt_rate() {
  const auto result = ask(*engine_, server_task(SERVER_TASK_TYPE_METRICS));
  const auto* told = dynamic_cast<const server_task_result_metrics*>(result.get());
  if (told == nullptr || told->metrics.prompt.time == 0) return 0;
  return static_cast<double>(told->metrics.prompt.count) * 1e6 /
         static_cast<double>(told->metrics.prompt.time);
}

std::optional<SlotState> SlotStates::unchanged(const Slot& slot) const {
  const auto known = known_.find(slot.id);
  if (known == known_.end() || slot.busy || known->second.task != slot.task ||
      known->second.state.tokens != slot.tokens)
    return std::nullopt;
  // The manager moves files and drops them without telling.
  struct stat status{};
  const SlotState& state = known->second.state;
  if (::lstat(state.file.c_str(), &status) != 0 || status.st_size != state.size.count()) return std::nullopt;
  return state;
}

Result<SlotState> SlotStates::write(const Slot& slot, const std::filesystem::path& file) {
  const auto tokens = act(slot.id, file, true);
  if (!tokens) {
    ::unlink(file.c_str());
    return fail(tokens.error());
  }
  auto state = describe_state(file, *tokens);
  if (!state) ::unlink(file.c_str());
  return state;
}

void SlotStates::obey(const wire::SaveStates& order) {
  const auto began = SteadyClock::now();
  wire::StatesSaved told;
  told.id = order.id;
  told.complete = true;
  std::vector<Slot> slots = look(told);
  std::erase_if(slots, [&](const Slot& slot) { return slot.tokens < order.least_tokens; });
  std::ranges::sort(slots, std::greater(), &Slot::task);

  std::vector<std::int64_t> room;
  for (const StatePlace& place : order.places) room.push_back(place.limit.count());
  for (const Slot& slot : slots) {
    if (auto old = unchanged(slot)) {
      told.slots.push_back(*std::move(old));
      continue;
    }
    if (is_cancelled(order.id)) {
      told.complete = false;
      break;
    }
    const auto estimate =
        static_cast<std::int64_t>(slot.tokens * bytes_per_token_ * kOverhead) + kOverheadBytes;
    const auto at = std::ranges::find_if(room, [&](std::int64_t left) { return left >= estimate; });
    if (at == room.end()) {
      told.wrong.push_back(fmt::format("no room for a conversation of {} tokens, about {}", slot.tokens,
                                       to_string(Bytes(estimate))));
      continue;
    }
    const auto& place = order.places[static_cast<std::size_t>(at - room.begin())];
    auto state = write(slot, place.folder / fmt::format("{}-{}.slot", order.name, slot.id));
    if (!state) {
      told.complete = false;
      told.wrong.push_back(state.error().message);
      continue;
    }
    *at -= state->size.count();
    // A slot that was still serving when it was listed has another task's tokens by now.
    if (!slot.busy) known_[slot.id] = {.task = slot.task, .state = *state};
    told.slots.push_back(*std::move(state));
  }
  told.prompt_rate = prompt_rate();
  told.took = since(began);
  link_.send(std::move(told));
}

}  // namespace lm::worker

// The conversations in the slots of the loaded model: put back from files after a load, and written to files
// on order. A file is checked before the engine reads it: the engine trusts what it reads, and a damaged file
// poisons its process.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "link.h"
#include "wire/messages.h"

struct server_context;

namespace lm::worker {

// Made on the main thread; works on one of its own, which lives as long as the process. What touches the
// engine is posted to the engine's own loop.
class SlotStates {
 public:
  // Begins to check `states`, while the model loads.
  SlotStates(Link& link, Generation generation, std::vector<SlotState> states);
  SlotStates(const SlotStates&) = delete;
  SlotStates& operator=(const SlotStates&) = delete;

  // The model is loaded, and the main thread is about to run the engine's loop. Restores, and tells it, where
  // there was anything to restore; then obeys.
  void open(server_context& engine, int slots, double bytes_per_token);

  // Any thread.
  void save(wire::SaveStates order);
  void cancel(std::uint64_t id);

 private:
  struct Slot;
  // A slot as it was when it was saved or restored last.
  struct Known {
    int task = -1;
    SlotState state;
  };

  void run();
  void check();
  void refuse(const SlotState& state, std::string why);
  void restore();
  void obey(const wire::SaveStates& order);
  bool is_cancelled(std::uint64_t id);
  std::optional<SlotState> unchanged(const Slot& slot) const;
  Result<SlotState> write(const Slot& slot, const std::filesystem::path& file);
  Result<int> act(int slot, const std::filesystem::path& file, bool save);
  std::vector<Slot> look(wire::StatesSaved& told);
  double prompt_rate();

  Link& link_;
  const Generation generation_;
  std::vector<SlotState> states_;  // to be restored
  wire::Restored restored_;
  const bool told_to_restore_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  server_context* engine_ = nullptr;
  std::deque<wire::SaveStates> orders_;
  std::uint64_t cancelled_ = 0;

  // The thread's own.
  int slots_ = 0;
  double bytes_per_token_ = 0;
  std::map<int, Known> known_;
  std::map<int, bool> resumption_told_;
};

}  // namespace lm::worker

// Keeps the conversations of models that are out of memory: as files in shared memory, and on disk where that
// is worth it; within the owner's budgets; over a restart of the daemon.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/conversations.h"
#include "base/bytes.h"
#include "base/task.h"
#include "core/kept_states.h"
#include "domain/event.h"
#include "runtime/state_sidecar.h"

namespace lm::runtime {

// One thread, beside one of its own that copies files. Whatever goes wrong here costs a prompt that is read
// again, and a line in the log; nothing else.
class StateKeeper final : public backend::Conversations {
 public:
  struct Options {
    std::filesystem::path memory;  // a folder of its own in shared memory; made here
    std::filesystem::path disk;    // a folder of its own below the data folder; made here
    Bytes memory_budget, disk_budget;
  };
  struct Seams {
    boost::asio::any_io_executor executor;
    std::function<void(Event)> post;      // StatesKept, whenever that changes
    std::function<std::string()> engine;  // "v0.5.0 cpu"
    std::function<std::int64_t()> unix_ms;
  };

  explicit StateKeeper(Seams seams);
  ~StateKeeper() override;

  // Takes over what an earlier daemon left in the two folders, and empties them of everything else. A folder
  // that cannot be ours is not used, and said so.
  void open(Options options);
  void change_budgets(Bytes memory, Bytes disk);

  // A load needs the room: at least so much of what is in memory goes, that of `spare` last.
  void give_back(Bytes bytes, const ModelId& spare);

  // A request of this instance begins: what was saved of it will be out of date.
  void used(InstanceId instance);
  // Answers of this instance were broken off: what they have is saved at its end however little it is. Read
  // again in one piece it would round otherwise, and the answer go on otherwise.
  void preempted(InstanceId instance) { preempted_.insert(instance); }

  // From now on what is saved must outlive the daemon.
  void prepare_close() { closing_ = true; }
  // Moves to disk what has room there, for at most `limit`, and gives the memory back.
  Task<> close(Duration limit);

  struct Figures {
    Bytes memory, disk;
    int conversations = 0;
    std::uint64_t saved = 0, save_failures = 0, skipped = 0;
    std::uint64_t restored = 0, mismatches = 0, restore_failures = 0;
    std::uint64_t tokens_reused = 0;  // that were not read again, of restored conversations
  };
  Figures figures() const;

  // backend::Conversations
  std::vector<SlotState> restore(const backend::LoadOrder& order) override;
  void restored(const backend::LoadOrder& order, const std::optional<wire::Restored>& outcome) override;
  std::optional<wire::SaveStates> save(const backend::LoadOrder& order, Occasion occasion) override;
  void saved(const backend::LoadOrder& order, const wire::SaveStates& what,
             const std::optional<wire::StatesSaved>& outcome) override;
  void ended(const backend::LoadOrder& order) override;

 private:
  struct Kept {
    StateSidecar about;
    bool in_memory = true;
    bool moving = false;  // its copy is being made
  };
  struct Copier;

  std::string fingerprint(const backend::LoadOrder& order) const;
  void take_over(const std::filesystem::path& folder, bool in_memory);
  void add(StateSidecar about, bool in_memory);
  void drop(std::uint64_t id);
  void drop_if(const std::function<bool(const Kept&)>& condition);
  void forget_loaded(const backend::LoadOrder& order);
  void apply_budgets();
  std::vector<core::KeptState> movable() const;
  void keep_within(const std::vector<core::KeptState>& states, Bytes memory);
  void move_to_disk(std::uint64_t id);
  void moved(std::uint64_t id, std::filesystem::path from, std::filesystem::path to, bool copied,
             Duration took);
  void tell();

  Seams seams_;
  Options options_;
  bool closing_ = false;
  std::map<std::uint64_t, Kept> kept_;  // by id
  std::uint64_t last_id_ = 0;
  std::map<ModelId, InstanceId> loaded_;
  std::map<InstanceId, std::vector<std::filesystem::path>> handed_out_;  // being restored
  std::set<InstanceId> used_;                                            // since they were saved
  std::set<InstanceId> preempted_;
  std::map<InstanceId, std::vector<std::string>> unfinished_;  // names of saves that came to nothing
  Bytes told_;
  double disk_rate_ = 500e6;  // bytes a second, until a copy has shown
  Figures figures_;
  std::shared_ptr<Copier> copier_;
};

// Where states of the daemon with this data folder may lie in shared memory; a name of its own for each user
// and data folder.
std::filesystem::path shared_memory_folder(const std::filesystem::path& data);

}  // namespace lm::runtime

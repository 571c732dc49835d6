// Which kept conversations go, so that memory and disk hold no more of them than their owner allows. A pure
// function over what is kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"

namespace lm::core {

struct KeptState {
  std::uint64_t id = 0;
  Bytes size;
  bool in_memory = true;       // else on disk
  bool loaded = false;         // its model is in memory with the same conversation: a copy, for a crash
  std::int64_t last_used = 0;  // grows with time
  Duration reread{};           // what reading its prompt again would take
  bool operator==(const KeptState&) const = default;
};

struct StateBudget {
  Bytes memory, disk;
  double disk_rate = 0;  // bytes a second that come back from disk
};

struct StateMoves {
  std::vector<std::uint64_t> drop;
  std::vector<std::uint64_t> spill;  // from memory to disk
  bool operator==(const StateMoves&) const = default;
};

// Copies of what is loaded go first, then the least recently used. What leaves memory goes to disk where that
// has room for it, by the same order, and reading it from there is quicker than reading its prompt again;
// else it is dropped. After these moves both budgets hold.
StateMoves keep_within(std::span<const KeptState> states, const StateBudget& budget);

}  // namespace lm::core

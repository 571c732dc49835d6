// Where the conversations of workers are while their model is out of memory: what Workers asks for and tells.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/load_order.h"
#include "wire/messages.h"

namespace lm::backend {

// One thread, Workers' own; nothing here waits.
class Conversations {
 public:
  virtual ~Conversations() = default;

  // A worker is about to load: what is to be put back into its slots, the dearest first. The files must stay
  // until restored() or ended().
  virtual std::vector<SlotState> restore(const LoadOrder& order) = 0;
  // What became of them; empty: the worker said nothing in time, or died over it. Once for each restore()
  // that named any.
  virtual void restored(const LoadOrder& order, const std::optional<wire::Restored>& outcome) = 0;

  // A ready worker is idle, or about to end: what is to be saved; empty: nothing.
  enum class Occasion : std::uint8_t { kIdle, kEnding };
  virtual std::optional<wire::SaveStates> save(const LoadOrder& order, Occasion occasion) = 0;
  // Once for each save() that asked for something; empty: nothing came in time.
  virtual void saved(const LoadOrder& order, const wire::SaveStates& what,
                     const std::optional<wire::StatesSaved>& outcome) = 0;

  // The worker is gone.
  virtual void ended(const LoadOrder& order) = 0;
};

}  // namespace lm::backend

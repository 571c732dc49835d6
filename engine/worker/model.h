// The one model that a worker loads and serves.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "slot_states.h"
#include "wire/messages.h"

namespace lm::worker {

// Main thread only. Its destructor is never run in earnest: the process ends with it loaded.
class Model {
 public:
  // `socket`: where its routes will be, mode 0600. The HTTP server's parts are made ready here, so that a
  // standby worker has done it before it is asked.
  explicit Model(std::string socket);
  ~Model();

  // Blocks for as long as it takes; `progress` is called on this thread. On success the socket answers
  // already. An error leaves a process that is only fit to end.
  Result<wire::Ready> load(wire::Load order, const std::function<void(LoadStage, double)>& progress);

  // Serves until the process ends.
  void serve();

  // After load(), where its Ready says that states are kept.
  void keep(SlotStates& states);

 private:
  struct Engine;
  std::string socket_;
  int slots_ = 0;
  double bytes_per_token_ = 0;  // of a conversation
  std::unique_ptr<Engine> engine_;
};

}  // namespace lm::worker

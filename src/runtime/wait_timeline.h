// What a load waited for before it began: until whoever went for it had drained, and until that memory was
// proved free. Read off the states as they are published.
#pragma once

#include <map>
#include <vector>

#include "base/time.h"
#include "domain/command.h"

namespace lm::runtime {

// One thread. Remembers the last instances only.
class WaitTimeline {
 public:
  void entered(InstanceId instance, InstanceState state, TimePoint now);
  // The end of the instance waited so long for its conversations to be saved.
  void saved(InstanceId instance, Duration took);

  // "drain", "save" where anything was, and "free" where others went while it waited, "wait" where nobody
  // did; together from its queueing to its reservation. Empty for a load that waited for nothing, or is not
  // known.
  std::vector<Phase> before_load(InstanceId instance) const;

 private:
  struct Life {
    TimePoint queued, reserved, stopped, gone;  // the epoch: not yet
    Duration save{};
  };
  std::map<InstanceId, Life> lives_;
};

}  // namespace lm::runtime

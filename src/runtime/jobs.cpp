#include "runtime/jobs.h"

#include "base/assert.h"

namespace lm::runtime {

JobId Jobs::open(std::string kind, ModelId model, TimePoint now) {
  const JobId id(++last_);
  entries_.emplace(id, Entry{.job = {.id = id,
                                     .kind = std::move(kind),
                                     .model = std::move(model),
                                     .asked_at = now,
                                     .ended_at = {},
                                     .done = false,
                                     .error = {},
                                     .result = {}},
                             .done = Latch(executor_)});
  return id;
}

void Jobs::finish(const FinishJob& command, TimePoint now) {
  const auto it = entries_.find(command.job);
  if (it == entries_.end()) return;
  LM_ASSERT(!it->second.job.done, "a job ends once");
  Entry& entry = it->second;
  entry.job.done = true;
  entry.job.ended_at = now;
  entry.job.error = command.error;
  entry.job.result = command.result;
  entry.done.open();
  finished_.push_back(command.job);
  if (finished_.size() > kKept) {
    entries_.erase(finished_.front());
    finished_.pop_front();
  }
}

void Jobs::abandon(JobId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end() || it->second.job.done) return;
  const Latch done = it->second.done;
  entries_.erase(it);
  Latch(done).open();
}

const Job* Jobs::find(JobId id) const {
  const auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : &it->second.job;
}

Task<const Job*> Jobs::wait(JobId id, Duration limit) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) co_return nullptr;
  const Latch done = it->second.done;
  if (!co_await done.wait(limit)) co_return nullptr;
  co_return find(id);
}

}  // namespace lm::runtime

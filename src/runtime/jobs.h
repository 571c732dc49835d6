// The explicit wishes of administrators, from asking to outcome, so that they can be waited for or looked up
// later.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "base/latch.h"
#include "base/result.h"
#include "domain/command.h"

namespace lm::runtime {

struct Job {
  JobId id;
  std::string kind;  // "load", "unload", "pin", "unpin", "switch"
  ModelId model;     // empty: all
  TimePoint asked_at, ended_at;
  bool done = false;
  std::optional<Error> error;
  JobResult result;
};

// One thread. Outcomes are kept for the last kKept jobs.
class Jobs {
 public:
  static constexpr std::size_t kKept = 1000;

  explicit Jobs(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  JobId open(std::string kind, ModelId model, TimePoint now);
  // One that was abandoned meanwhile is not known any more: nothing.
  void finish(const FinishJob& command, TimePoint now);
  // Whoever asked has left, and nobody will finish it.
  void abandon(JobId id);
  // Null where there is no such job, or it was too long ago.
  const Job* find(JobId id) const;
  // Null where `limit` passed first. The pointer is good until the caller's next suspension.
  Task<const Job*> wait(JobId id, Duration limit);

 private:
  struct Entry {
    Job job;
    Latch done;
  };

  boost::asio::any_io_executor executor_;
  std::uint64_t last_ = 0;
  std::map<JobId, Entry> entries_;
  std::deque<JobId> finished_;
};

}  // namespace lm::runtime

// When loaded models have their conversations saved against a crash: some time after their last request
// ended, so that it costs nobody anything.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>

#include <boost/asio/any_io_executor.hpp>

#include "base/time.h"
#include "domain/ids.h"

namespace lm::runtime {

// One thread.
class IdleCheckpoints {
 public:
  struct Seams {
    boost::asio::any_io_executor executor;
    std::function<void(InstanceId)> begin;   // nobody has used it for `idle`
    std::function<void(InstanceId)> cancel;  // somebody does again
  };
  // `idle` of zero: never.
  IdleCheckpoints(Seams seams, Duration idle);
  ~IdleCheckpoints();
  IdleCheckpoints(const IdleCheckpoints&) = delete;
  IdleCheckpoints& operator=(const IdleCheckpoints&) = delete;

  void change_idle(Duration idle) { idle_ = idle; }
  void granted(RequestId request, InstanceId instance);
  // Of requests that were never granted it knows nothing, and does nothing.
  void released(RequestId request);
  void ended(InstanceId instance);

 private:
  struct Timer;
  Seams seams_;
  Duration idle_;
  std::map<RequestId, InstanceId> requests_;
  std::map<InstanceId, int> busy_;  // requests of it; none: not listed
  std::map<InstanceId, std::shared_ptr<Timer>> timers_;
};

}  // namespace lm::runtime

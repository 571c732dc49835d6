// One server of models that is no worker of ours: what every kind of them is asked for. One file per kind:
// ollama, openai, command. Executes and reports; decides nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "domain/device.h"
#include "domain/event.h"
#include "domain/model.h"
#include "domain/upstream.h"
#include "http/client.h"
#include "os/process.h"

namespace lm::backend {

// What it has to offer and what it says it has in memory.
struct Sight {
  std::vector<Model> models;  // with id, remote, kind and aliases filled in; empty list: it offers none
  bool tells_residents = false;
  std::vector<Resident> residents;
  bool runs = true;  // false: it is ours to start, and was not, or has ended
};

// One thread. Every call has a deadline of its own and ends in an error past it; none retries by itself.
// Errors are http::Client's, and "bad_upstream" for answers that make no sense.
class UpstreamServer {
 public:
  virtual ~UpstreamServer() = default;

  virtual const Upstream& description() const = 0;
  // The models that the configuration names, which it offers also before it was ever asked.
  virtual std::vector<Model> configured() const { return {}; }
  // Its list of models and of residents, asked anew.
  virtual Task<Result<Sight>> look() = 0;
  // Has it load `model` (Remote::name), where it can be told to; else succeeds at once. `limit` bounds the
  // whole.
  virtual Task<Result<void>> load(std::string model, Duration limit) = 0;
  // Has it give up everything that it holds on our devices, and watches until it says so; kDeadlineExceeded
  // "still_resident" names what it still shows after `limit`; kFailedPrecondition "cannot_yield" where there
  // is no way to ask it.
  virtual Task<Result<void>> yield(Duration limit) = 0;
  // Those of its processes on this machine that hold models, parents first; empty where there are none now,
  // or they cannot be seen (remote, another user's, a container): sees_processes() tells which.
  virtual std::vector<os::ProcessIdentity> processes() = 0;
  virtual bool sees_processes() { return !processes().empty(); }
  // Whether its processes exist for models only, so that without one they hold nothing. Else what they hold
  // then is theirs.
  virtual bool rests_empty() const { return false; }

  // Where requests go: the connections, the path that goes before "/chat/completions" and the like ("/v1",
  // "/v1beta/openai"), and the header fields it wants (its key). client() is null where there is nobody to
  // talk to: a command that does not run.
  virtual std::shared_ptr<http::Client> client() = 0;
  virtual std::string api_prefix() const = 0;
  virtual http::Headers headers() const = 0;
};

}  // namespace lm::backend

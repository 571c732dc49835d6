// All upstreams together: looks at each in its own rhythm, keeps what was seen, and carries out what the
// arbiter wants of them. What they say is kept as their word; what they hold is measured on their processes.
// Executes and reports as events; decides nothing.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/upstream.h"
#include "base/clock.h"
#include "base/task.h"
#include "domain/command.h"
#include "domain/event.h"
#include "os/process.h"

namespace lm::backend {

struct UpstreamsOptions {
  Duration quick = std::chrono::seconds(1);         // between looks while something changes or is in use
  Duration slow = std::chrono::seconds(10);         // … while nothing does: the pause doubles up to this
  Duration elsewhere = std::chrono::seconds(60);    // … at one that shares no device with us
  Duration unreachable = std::chrono::seconds(30);  // … at one that does not answer
  Duration load_limit = std::chrono::minutes(10);
};

// One thread. Where watch() has begun, stop() comes before its end.
class Upstreams {
 public:
  struct Listener {
    std::function<void(Event)> post;            // UpstreamSeen, and the answers to commands
    std::function<void()> models_changed;       // models() is another one
    std::function<void(std::string_view)> log;  // a line for people
  };
  struct Probes {
    // What these processes hold together, those that have ended nothing.
    std::function<DeviceBytes(const std::vector<os::ProcessIdentity>&)> held;
    // The devices as they are now, with their largest holders where that is cheap.
    std::function<std::vector<DeviceReading>()> devices;
  };

  // `clock` must outlive it. Servers have different ids.
  Upstreams(boost::asio::any_io_executor executor, const Clock& clock,
            std::vector<std::shared_ptr<UpstreamServer>> servers, Listener listener, Probes probes,
            UpstreamsOptions options = {});
  ~Upstreams();
  Upstreams(const Upstreams&) = delete;
  Upstreams& operator=(const Upstreams&) = delete;

  // Looks at each at once and from then on; UpstreamSeen is posted after each change of what matters and at
  // least every ten seconds. Returns when stop() was called and all has ended.
  Task<> watch();
  // Begins nothing more, cuts short what is under way (its answers are not posted any more) and returns when
  // all of it has ended. Nobody's model is unloaded for it.
  Task<> stop();

  // Until each was looked at once, or `limit` has passed: those that answer are listed then.
  Task<> wait_until_seen(Duration limit);

  // What all of them offer, as last seen. A model whose upstream cannot be reached has a problem:
  // kUnavailable "upstream_unreachable". One that could never be reached yet offers what the configuration
  // says.
  std::vector<Model> models() const;
  std::vector<Upstream> upstreams() const;
  // Those that could not be reached when they were last looked at, and why; also those of which nothing is
  // known yet, since their first look has not ended.
  struct Trouble {
    Upstream upstream;
    Error error;
    bool offers_nothing = false;  // it was never reached, and the configuration names no model of it
  };
  std::vector<Trouble> troubles() const;
  // Whether each was looked at, and is listed or told among the troubles by what was seen.
  bool all_seen() const;
  // What those before them offered is offered still, by name, until they were looked at themselves: a
  // configuration that is read again leaves no moment without models. Called before watch().
  void take_over(const Upstreams& former);
  // Null where there is none of that name.
  std::shared_ptr<UpstreamServer> find(const UpstreamId& id) const;

  // Looks at it now and returns when that has ended, or `limit` has passed.
  Task<> look_again(UpstreamId id, Duration limit);

  // A request goes there: it is looked at more often. Costs nothing.
  void touch(const UpstreamId& id);
  // It has changed, as is known from elsewhere: look at once.
  void look_at(const UpstreamId& id);

  // LoadProgressed, then LoadSucceeded or LoadFailed.
  void load(InstanceId instance, Generation generation, const Model& model);
  // UpstreamLoaded, within the same limit. `model` is of an upstream that has the devices already.
  void load_also(InstanceId instance, Generation generation, const Model& model);
  // UpstreamYielded, within the command's limit and what one question may take.
  void evict(EvictUpstream command);
  // Not before the command says. What its processes still hold, on top of what they hold without a model:
  // those that run now and all that ran when the eviction was ordered, since a server that dies on the way
  // may leave one behind. Where they cannot be seen, and on cards whose driver tells no bytes per process or
  // tells none of what it says it has there, what the residents claimed less what the devices' free memory
  // has grown since ("device"); where they claimed nothing either, nothing can be said (not `complete`;
  // "none").
  Task<ReleaseMeasured> measure_release(MeasureRelease command);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace lm::backend

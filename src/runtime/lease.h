// A request's hold on a ready instance, and the waiting for it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include <boost/asio/any_io_executor.hpp>

#include "base/latch.h"
#include "base/result.h"
#include "domain/command.h"

namespace lm::runtime {

class Leases;

// Move-only; blocks eviction of its instance while it lives; ends exactly once, by release() or its
// destructor.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&&) noexcept = default;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { release(); }

  const ModelId& model() const;
  InstanceId instance() const;
  // Why it was taken back while it was held; empty: it was not. Its connection to the worker ends by itself.
  std::optional<Error> cut() const;
  // Calls back when it is taken back while it is held; set once. Not called after release().
  void on_cut(std::function<void()> call);
  // The first piece of its answer, or of this part of it, has come: the arbiter is told where that matters.
  void began() const;
  // Its answer is to be broken off and continued later: it waits again, and Leases::again() says for what.
  // One whose answer ended all the same is released like any other.
  bool preempted() const;
  // Calls back when it is preempted, at once where it was; set once for each grant.
  void on_preempt(std::function<void()> call);
  // As its ticket said.
  const std::optional<ExpectedWait>& expected() const;
  // How long it was waited for.
  Duration waited() const;
  TimePoint granted_at() const;
  void release();

 private:
  friend class Leases;
  struct State;
  explicit Lease(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

// Who waits for a lease and who holds one. One thread; owned by the runtime.
class Leases {
 public:
  using Post = std::function<void(Event)>;
  using Now = std::function<TimePoint()>;

  Leases(boost::asio::any_io_executor executor, Post post, Now now);

  struct Wish {
    ModelId model;
    PriorityClass priority = PriorityClass::kInteractive;
    double weight = 1;
    std::optional<TimePoint> deadline;
    bool preemptible = false;  // whoever asks watches on_preempt()
  };
  // A wish that was told to the arbiter: a ticket that is dropped unanswered takes it back, one that was
  // granted and not taken ends the lease.
  class Ticket {
   public:
    Ticket(Ticket&&) noexcept = default;
    ~Ticket();
    bool decided() const;
    // True once decided, false where `limit` passed first.
    Task<bool> wait(Duration limit);
    // Legal once decided, once.
    Result<Lease> take();
    RequestId request() const;
    // What it had to expect when it was asked for; empty: it is served at once, or nobody can tell. Not
    // before the arbiter was heard.
    const std::optional<ExpectedWait>& expected() const;

   private:
    friend class Leases;
    explicit Ticket(std::shared_ptr<Lease::State> state) : state_(std::move(state)) {}
    std::shared_ptr<Lease::State> state_;
  };
  Ticket ask(Wish wish);
  // The wait of a lease that was preempted, which must be; for its next grant.
  static Ticket again(Lease lease);

  void grant(const GrantLease& command);
  void tell(const TellWait& command);
  void reject(const RejectRequest& command);
  void cut(const CutRequests& command);
  void preempt(const PreemptRequests& command);

  std::size_t held() const;
  std::uint64_t preemptions() const;  // ever

 private:
  friend class Lease;
  friend class Ticket;
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace lm::runtime

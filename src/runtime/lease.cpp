#include "runtime/lease.h"

#include "base/assert.h"

namespace lm::runtime {

struct Leases::Shared {
  boost::asio::any_io_executor executor;
  Post post;
  Now now;
  std::uint64_t last = 0;
  std::map<RequestId, std::weak_ptr<Lease::State>> states;
  std::size_t held = 0;
  std::uint64_t preemptions = 0;
};

struct Lease::State {
  enum class Phase { kWaiting, kGranted, kRejected, kEnded };

  State(std::shared_ptr<Leases::Shared> s, RequestId r)
      : shared(std::move(s)), request(r), decided(shared->executor), asked_at(shared->now()) {}

  // However it comes to its end, the arbiter hears of it exactly once.
  void end() {
    const Phase was = std::exchange(phase, Phase::kEnded);
    on_cut = nullptr;
    on_preempt = nullptr;
    shared->states.erase(request);
    if (was == Phase::kWaiting) shared->post(RequestCancelled{request});
    if (was == Phase::kGranted) {
      --shared->held;
      shared->post(LeaseReleased{request});
    }
  }

  std::shared_ptr<Leases::Shared> shared;
  RequestId request;
  Latch decided;
  Phase phase = Phase::kWaiting;
  ModelId model;
  InstanceId instance;
  std::optional<Error> error;
  std::function<void()> on_cut;
  std::function<void()> on_preempt;
  bool preempted = false;  // since it was taken last
  bool preemptible = false;
  bool began = false;  // to answer, since it was granted last
  std::optional<ExpectedWait> expected;
  TimePoint asked_at;
  TimePoint granted_at;
};

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
  }
  return *this;
}

const ModelId& Lease::model() const {
  return state_->model;
}
InstanceId Lease::instance() const {
  return state_->instance;
}
std::optional<Error> Lease::cut() const {
  return state_ ? state_->error : std::nullopt;
}
void Lease::on_cut(std::function<void()> call) {
  state_->on_cut = std::move(call);
}

void Lease::began() const {
  if (!state_->preemptible || state_->phase != State::Phase::kGranted || std::exchange(state_->began, true))
    return;
  state_->shared->post(AnswerBegan{state_->request});
}

bool Lease::preempted() const {
  return state_ && state_->preempted;
}
void Lease::on_preempt(std::function<void()> call) {
  if (state_->preempted) return call();
  state_->on_preempt = std::move(call);
}

const std::optional<ExpectedWait>& Lease::expected() const {
  return state_->expected;
}

Duration Lease::waited() const {
  return state_->granted_at - state_->asked_at;
}

TimePoint Lease::granted_at() const {
  return state_->granted_at;
}

void Lease::release() {
  if (const auto state = std::exchange(state_, nullptr)) state->end();
}

Leases::Leases(boost::asio::any_io_executor executor, Post post, Now now)
    : shared_(std::make_shared<Shared>()) {
  shared_->executor = std::move(executor);
  shared_->post = std::move(post);
  shared_->now = std::move(now);
}

Leases::Ticket Leases::ask(Wish wish) {
  auto state = std::make_shared<Lease::State>(shared_, RequestId(++shared_->last));
  shared_->states.emplace(state->request, state);
  state->preemptible = wish.preemptible;
  Ticket ticket(state);
  shared_->post(RequestArrived{.request = state->request,
                               .model = std::move(wish.model),
                               .priority = wish.priority,
                               .deadline = wish.deadline,
                               .preemptible = wish.preemptible,
                               .weight = wish.weight});
  return ticket;
}

Leases::Ticket Leases::again(Lease lease) {
  LM_ASSERT(lease.preempted(), "only who was preempted waits again");
  return Ticket(std::exchange(lease.state_, nullptr));
}

Leases::Ticket::~Ticket() {
  if (state_) state_->end();
}

bool Leases::Ticket::decided() const {
  return state_->phase != Lease::State::Phase::kWaiting;
}

RequestId Leases::Ticket::request() const {
  return state_->request;
}
const std::optional<ExpectedWait>& Leases::Ticket::expected() const {
  return state_->expected;
}

Task<bool> Leases::Ticket::wait(Duration limit) {
  const Latch decided = state_->decided;  // a preemption puts another one in its place
  co_return co_await decided.wait(limit);
}

Result<Lease> Leases::Ticket::take() {
  LM_ASSERT(state_ && decided(), "a ticket is taken once, when it was decided");
  auto state = std::exchange(state_, nullptr);
  state->preempted = false;
  if (state->phase == Lease::State::Phase::kGranted) return Lease(std::move(state));
  Error error = *state->error;
  state->end();
  return fail(std::move(error));
}

void Leases::grant(const GrantLease& command) {
  const auto it = shared_->states.find(command.request);
  const auto state = it == shared_->states.end() ? nullptr : it->second.lock();
  if (!state || state->phase != Lease::State::Phase::kWaiting) {
    // It left in the same turn: the grant is handed back.
    shared_->post(LeaseReleased{command.request});
    return;
  }
  state->phase = Lease::State::Phase::kGranted;
  state->model = command.model;
  state->instance = command.instance;
  state->granted_at = shared_->now();
  state->began = false;
  ++shared_->held;
  state->decided.open();
}

void Leases::tell(const TellWait& command) {
  const auto it = shared_->states.find(command.request);
  const auto state = it == shared_->states.end() ? nullptr : it->second.lock();
  if (state) state->expected = command.wait;
}

void Leases::reject(const RejectRequest& command) {
  const auto it = shared_->states.find(command.request);
  const auto state = it == shared_->states.end() ? nullptr : it->second.lock();
  if (!state || state->phase != Lease::State::Phase::kWaiting) return;
  state->phase = Lease::State::Phase::kRejected;
  state->error = command.error;
  state->decided.open();
}

void Leases::cut(const CutRequests& command) {
  for (const RequestId request : command.requests) {
    const auto it = shared_->states.find(request);
    if (it == shared_->states.end()) continue;
    const auto state = it->second.lock();
    if (!state) continue;
    state->error = command.error;
    if (state->on_cut) state->on_cut();
  }
}

// The arbiter hears of it at once, whatever its holder waits for: a client that reads slowly must not keep
// others from the memory.
void Leases::preempt(const PreemptRequests& command) {
  for (const RequestId request : command.requests) {
    const auto it = shared_->states.find(request);
    const auto state = it == shared_->states.end() ? nullptr : it->second.lock();
    if (!state || state->phase != Lease::State::Phase::kGranted) continue;  // it has ended, and said so
    --shared_->held;
    ++shared_->preemptions;
    state->phase = Lease::State::Phase::kWaiting;
    state->preempted = true;
    state->asked_at = shared_->now();
    state->decided = Latch(shared_->executor);
    shared_->post(RequestPreempted{request});
    if (const auto call = std::exchange(state->on_preempt, nullptr)) call();
  }
}

std::size_t Leases::held() const {
  return shared_->held;
}

std::uint64_t Leases::preemptions() const {
  return shared_->preemptions;
}

}  // namespace lm::runtime

// The arbiter decides which model is in memory and who is served when. It is told events and answers with
// commands; it is synchronous, deterministic, single-threaded and without effects, so that every bug replays
// from an event log and a day of traffic simulates in seconds. runtime::ControlLoop owns the only one.
//
// What it promises, checked after every step by the tests (check_invariants):
//  - each RequestArrived ends in exactly one GrantLease or RejectRequest, unless its client left first; each
//    grant is ended from outside by exactly one LeaseReleased, or by RequestPreempted, where it was asked
//    for, after which the request waits like one that has just arrived;
//  - a request is only preempted because others wait for the room; one that waited when the turn began not
//    before its first token, and one that was preempted before not before it has answered for a quantum:
//    preempting over and over still moves every answer on;
//  - the sum of reservations of a device never exceeds its capacity, and memory stays charged from Reserved
//  to
//    the end of Reclaiming, which ends when it was measured free or, after a capped wait, was reported as
//    not;
//  - pinned instances are not evicted, serving ones drain first; a chosen victim takes no new request and is
//    not revived;
//  - with a slot free nobody waits for a loaded model, but while others want its room;
//  - in exclusive mode no two families that share our devices are in memory together by our doing, and none
//  is
//    loaded before the other's release was measured;
//  - every state that waits has a deadline, and the one timer is armed for the next of them.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/backlog.h"
#include "core/change_cost.h"
#include "core/demand.h"
#include "core/entry.h"
#include "core/expected_wait.h"
#include "core/kept_memory.h"
#include "core/ledger.h"
#include "core/placement.h"
#include "core/turns.h"
#include "domain/command.h"
#include "domain/plan.h"
#include "domain/snapshot.h"

namespace lm::core {

class Arbiter {
 public:
  explicit Arbiter(Settings settings = {}) : settings_(settings) {}

  // Takes one event at `now` (never earlier than the time of the step before) and decides all that follows
  // from it.
  Commands step(const Event& event, TimePoint now);

  Snapshot snapshot(TimePoint now) const;
  // Of a request that waits; empty: it does not, or for what nobody can foresee. `now` as in snapshot().
  std::optional<ExpectedWait> expected_wait(RequestId request, TimePoint now) const;

  // What a load of the model with these options would come to now: nothing is begun. An unknown model has an
  // empty plan.
  LoadPlan plan(const ModelId& model, const LoadOptions& options, const Forecast& forecast) const;

  // Ends the process where a promise is broken.
  void check_invariants(TimePoint now) const;

 private:
  struct UnloadJob {
    std::set<InstanceId> pending;
    JobResult result;
    bool any_release = false;
  };

  // Which family the devices are for.
  struct Selection {
    Family family = Family::kLocal;
    ModelId model;        // the last one chosen there
    bool remote = false;  // it needs nothing of ours: the local models go after the linger
  };
  // Who has a lease, as it waited.
  struct Lent {
    Waiter waiter;
    bool in_batch = false;           // of those who waited when the turn began
    std::optional<TimePoint> began;  // its answer's first piece came
  };
  struct RemoteChoice {
    ModelId model;
    TimePoint at;
  };
  // One look at those who wait for room, in the order of their turns.
  struct Round {
    Ledger books;
    Need coming;      // from instances on their way out
    Need spoken_for;  // of that and of the free room, by earlier turns
  };
  // A resident that may make room for a load.
  struct Leaver {
    ModelId id;
    Need frees;
    double cost = 0;                // of losing it
    bool idle = false;              // it goes at once
    std::optional<TimePoint> from;  // when its turn may be ended; empty: nobody can tell yet
  };

  // ---- arbiter.cpp: what each event means
  void on(const RequestArrived& e);
  void on(const RequestCancelled& e);
  void on(const AnswerBegan& e);
  void on(const LeaseReleased& e);
  void on(const RequestPreempted& e);
  void on(const KeepAliveAsked& e);
  void on(const LoadWanted& e);
  void on(const UnloadWanted& e);
  void on(const PinChanged& e);
  void on(const SwitchWanted& e);  // arbiter_families.cpp
  void on(const JobAbandoned& e);
  void on(const FootprintPredicted& e);
  void on(const WorkerTaken& e);
  void on(const LoadProgressed& e);
  void on(const LoadSucceeded& e);
  void on(const LoadFailed& e);
  void on(const WorkerExited& e);
  void on(const UpstreamYielded& e);  // arbiter_families.cpp
  void on(const UpstreamLoaded& e);   // arbiter_families.cpp
  void on(const UpstreamSeen& e);     // arbiter_families.cpp
  void on(const ReleaseMeasured& e);
  void on(const MemoryMeasured& e);
  void on(const StatesKept& e);
  void on(const ModelsChanged& e);
  void on(const SettingsChanged& e);
  void on(const DesiredRestored& e);
  void on(const TimerFired&) { armed_.reset(); }
  void on(const ShutdownBegan& e);

  // ---- arbiter_settle.cpp: what follows from the state and the time, after every event
  void settle();
  void expire_waiters();
  void meet_deadlines(Entry& entry);
  void end_back_offs();
  void want_pins();
  void give_up_unwanted();
  void want_models();
  bool grant_leases();
  void preempt_overdue(Entry& entry);
  void finish_drains();
  void forget_gone();
  void finish_shutdown();
  void arm_timer();

  // ---- arbiter_room.cpp: who gets memory, and who goes for it
  void shed_surplus();
  void admit_loads();
  void drop_kept(const Entry& entry, Bytes bytes);
  Need coming_room() const;
  Need room_ever() const;
  // What a load that takes `need`, with `reserve` left free beside it, lacks; and what of that nobody is
  // about to leave.
  Need shortage_for(const Need& need, const Need& reserve, const Round& round) const;
  Need missing_for(const Need& need, const Need& reserve, const Round& round) const;
  std::vector<Leaver> leavers_for(const Entry& entry) const;  // those who go sooner first
  void refuse_for_now(Entry& entry, Error error);
  Need reserve_beside(const Entry& entry, const Placement& placement, const Ledger& books) const;
  void refuse_for_room(Entry& entry, const Ledger& books, const Need& need, const Need& ever);
  bool evict_for(Entry& entry, const Need& need, const Need& missing);
  Round round_for(const Entry& entry) const;  // as it is when its turn to be admitted comes
  void tell_wait(Entry& entry, std::string why);
  std::vector<Entry*> queue_for_room();  // Queued with a known footprint, in the order of their turns
  Contention contention_for(const Entry& resident) const;

  // ---- arbiter_place.cpp: on which devices
  Candidates candidates_of(const Entry& entry) const;
  // What it may take of each; `more` of it than is available.
  std::vector<Room> rooms_for(const Entry& entry, const std::vector<DeviceId>& devices, const Ledger& books,
                              const DeviceBytes& more) const;
  void ask_footprint(Entry& entry, bool layers);
  // `piece` is what it is told to take where nothing is known of its layers; it has to outlive the case.
  PlacementCase case_of(const Entry& entry, const Extent& piece) const;
  // Where there is room for it soonest, and of several such places where it costs least.
  std::optional<Placement> soonest_place(const Entry& entry, const PlacementCase& model,
                                         const std::vector<DeviceId>& devices, const Round& round) const;
  // The same where there is none now: where others leave, or could.
  std::optional<Placement> later_place(const Entry& entry, const PlacementCase& model,
                                       const std::vector<DeviceId>& devices, const Round& round) const;
  Placement least_costly(const Entry& entry, std::vector<Placement> places, std::span<const Leaver> leavers,
                         const Round& round) const;
  Need need_at(const Entry& entry, const Placement& placement, const Round& round) const;
  // What it takes where it would be placed now; what it was last told to take where that is not known.
  Need foreseen_need(const Entry& entry, const Round& round) const;
  // Whether one of which nothing is decided could go where the other is placed.
  bool may_meet(const Entry& undecided, const Entry& placed) const;
  // False: not to be admitted now, for it was refused or is predicted anew.
  bool choose_place(Entry& entry, const Round& round, const Need& ever);
  void learn(Entry& entry);  // what it is measured to hold, where it was placed
  void check_landing(const Entry& entry, const DeviceBytes& held);
  void note_loss(const Error& error);

  // ---- arbiter_families.cpp: one family at a time
  Entry* seat_of(Entry& entry);  // where requests for it wait; null: nothing of ours is needed for it
  const Entry* seat_of(const Entry& entry) const;
  bool contends(const Entry& entry) const;
  bool are_rivals(const Entry& a, const Entry& b) const;
  std::vector<Entry*> rivals_of(const Entry& entry);
  bool wait_for_devices(Entry& entry, const std::vector<Entry*>& rivals);
  bool make_way(Entry& entry, const std::vector<Entry*>& rivals);
  bool is_switching_to(const Entry& entry) const;
  bool has_released(const Entry& entry) const;
  void leave_switch(const Entry& entry);
  void ask_again(Entry& seat);
  void choose_remote(const Entry& entry);
  void drop_stale_choice();
  void settle_families();
  bool is_leaving() const;
  int ready_locals() const;
  void leave_for_remote();
  void meet_intruders();
  std::optional<TimePoint> linger_ends() const;
  std::optional<TimePoint> intruder_due() const;
  ModelId resident_of(const Entry& seat) const;
  bool is_intruder(const Entry& entry) const;
  std::optional<TimePoint> rivals_idle_since(const Entry& seat) const;
  bool is_chosen(const Entry& entry) const;
  void adopt(Entry& seat);
  void send_back_given_up(Entry& seat);
  void note_release(Entry& entry, const ReleaseReport& report);
  std::string wanted_by(const Entry& entry) const;
  void let_go(Entry& seat);
  void load_also(Entry& seat, const ModelId& model, const std::string& who);
  void list_seat(const Upstream& upstream);
  void leave_server(Entry& seat);
  void part_families();
  void open_switch(Selection to, const ModelId& target, std::string who, int to_release = 0);
  void tell_switch(SwitchStage stage);
  void close_switch(SwitchStage stage, std::optional<Error> error = {});
  Error fail_switch_to(Entry& entry, Error error);
  bool leave_choice(Entry& entry);
  void note_refusal(const ModelId& named, const Error& error);
  void forget_refusal(const ModelId& named);

  // ---- arbiter_lifecycle.cpp: the ways of an instance
  bool enter(Entry& entry, Trigger trigger);        // the only one who moves a machine; tells and remembers
  void begin(Entry& entry);                         // Absent or Failed -> Queued
  void order_load(Entry& entry, const Need& need);  // Queued -> Reserved
  void refuse(Entry& entry, Error error);           // Queued -> Failed
  void give_up(Entry& entry, EndCause cause, std::string why);
  void fail_load(Entry& entry, Error error);
  void end_runaways();
  void begin_drain(Entry& entry, EndCause cause, std::string why, Duration limit);
  // Its turn is over: others wait. Answers that can be continued are preempted.
  void end_turn(Entry& entry, EndCause cause, std::string why);
  void stop(Entry& entry);
  void await_release(Entry& entry);  // Stopping -> Reclaiming
  void measure(Entry& entry);
  void measure_again(Entry& entry);
  void claim_nothing(Entry& entry);
  void reclaimed(Entry& entry);
  void forget(Entry& entry);
  void reject(const std::vector<Waiter>& waiters, const Error& error);
  void reject_waiters(Entry& entry, const Error& error);
  void give_up_ending(Entry& entry);
  void finish_unload_part(Entry& entry, const ReleaseReport* report);

  // ---- arbiter_demand.cpp: what is asked for, against what fits
  DemandView demand_view(TimePoint now) const;

  // ---- arbiter_wait.cpp: how long a request is going to wait
  enum class Guessing : std::uint8_t { kLikely, kLeast };  // of what nobody has measured
  Duration answer_of(const Entry& entry, Guessing guessing) const;
  Duration load_of(const Entry& entry, Guessing guessing) const;
  Line line_of(const Entry& entry, Guessing guessing, TimePoint now) const;
  TimePoint gone_at(const Entry& leaving, Guessing guessing, TimePoint now) const;
  bool waits_for(const Entry& seat, const Need& shortage, const Entry& leaving) const;
  TimePoint room_comes(const Entry& seat, const Need& shortage, Guessing guessing, TimePoint now) const;
  std::optional<Expected> expected_for(const Entry& seat, double ahead, bool itself_waits, bool in_batch,
                                       Guessing guessing, TimePoint now,
                                       std::vector<const Entry*>* in_race) const;
  // `waiter` null: of a request that arrives now.
  std::optional<ExpectedWait> wait_of(const Entry& seat, PriorityClass priority, const Waiter* waiter,
                                      Guessing guessing, TimePoint now) const;
  std::optional<Error> too_late(Entry& seat, const RequestArrived& e, TimePoint deadline,
                                const ExpectedWait& told);

  // ---- what holds now
  Entry* find(InstanceId id, Generation generation);
  Entry* find(const ModelId& model);
  bool is_local(const Entry& entry) const;
  bool is_committed(const Entry& entry) const;  // the room that it waits for is on its way
  bool any_card() const;                        // that the engine can use
  const Hold* hold_on(const Entry& entry) const;
  Error held_error(const Entry& entry, const Hold& hold) const;
  Need need_of(const Entry& entry) const;
  Need charge_of(const Entry& entry) const;
  DeviceBytes strangers() const;
  Ledger ledger() const;
  bool evictable(const Entry& entry) const;
  double cost_of_losing(const Entry& entry) const;
  Turn turn_of(const Entry& entry) const;
  std::optional<TimePoint> preempted_at(const Entry& draining, const Lent& lent) const;
  bool requests_want_room_of(const Entry& draining) const;
  Contender contender(const Entry& entry) const;
  Duration age_cap(PriorityClass priority) const;
  Duration keep_alive(const Entry& entry) const;
  // Whether the upstream behind `seat` says that it has this model of its in memory; one that tells nothing
  // has what was chosen last.
  bool has_in_memory(const Entry& seat, const Entry& entry) const;
  // For how long others wait before a turn that has served its batch ends for them.
  Duration quantum() const;
  Duration back_off(const Entry& entry) const;
  Duration pause_after(int failures) const;  // doubles with each
  bool pin_wants(const Entry& entry) const;
  InstanceView view_of(const Entry& entry, TimePoint now) const;
  PublishedState remote_state(const Entry& entry) const;
  void check_families() const;
  const Waiter* next_to_serve(const Entry& entry, const Contention& contention) const;
  std::optional<TimePoint> next_wakeup() const;

  template <class T>
  void emit(T command) {
    commands_.emplace_back(std::move(command));
  }
  void decide(DecisionKind kind, const ModelId& model, std::string why,
              std::vector<Error::Field> fields = {});

  Settings settings_;
  std::vector<Device> devices_;
  bool any_server_ = false;         // a device is behind an RPC server
  std::set<DeviceId> lost_;         // seen to be gone since `devices_` was told
  std::map<DeviceId, Bytes> free_;  // last measured
  DeviceBytes external_;            // last measured use of processes that are not ours
  KeptMemory kept_;                 // of models' conversations
  std::map<ModelId, Entry> entries_;
  std::optional<Hold> hold_all_;
  Backlog backlog_;
  Demand demand_;
  std::map<RequestId, Lent> leases_;
  std::map<JobId, UnloadJob> unload_jobs_;
  std::set<RequestId> direct_;  // leases of upstreams that need nothing of ours
  Selection selected_;
  std::optional<RemoteChoice> remote_choice_;  // made while local models are loaded: they may still be wanted
  std::optional<Switch> switch_;               // under way
  ModelId switch_target_;      // the entry whose readiness ends it; empty: nothing has to load
  Selection selected_before_;  // it began, and again where it fails
  TimePoint switch_began_;
  std::optional<Switch> last_switch_;
  std::set<JobId> switch_jobs_;  // wait for the end of a switch that loads nothing
  std::uint64_t switches_ = 0;
  std::optional<TellWait> to_tell_;  // of the request that arrives, unless it is served at once
  ChangeCost change_cost_;           // S: gate closed to the next model ready
  std::uint64_t last_instance_ = 0;
  std::uint64_t last_generation_ = 0;
  std::optional<TimePoint> shutdown_;
  bool shutdown_finished_ = false;
  TimePoint last_transition_;
  bool any_transition_ = false;

  TimePoint now_;
  Commands commands_;
  std::vector<TimePoint>
      gate_times_;  // when a gate that kept somebody waiting may close, found by the last settle
  std::optional<TimePoint> armed_;
};

}  // namespace lm::core

#include "backend/workers.h"

#include <algorithm>
#include <csignal>
#include <deque>
#include <map>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"
#include "base/gate.h"
#include "base/latch.h"
#include "os/orphans.h"
#include "os/socket.h"
#include "os/subprocess.h"
#include "wire/codec.h"

namespace lm::backend {
namespace {

namespace asio = boost::asio;

// The number that the link has in the worker.
constexpr int kLinkFd = 3;
// When the next standby is started after a load: a process start takes milliseconds of a core that the first
// answer needs. Whoever is unloaded before that starts it at once, while its memory is given back.
constexpr Duration kStandbyRest = std::chrono::seconds(1);
// A chat template inside an inspection fits many times.
constexpr std::size_t kLongestLine = std::size_t{4} << 20;
constexpr std::size_t kLastWords = 4;
// Instances whose errors are still asked for after their end.
constexpr std::size_t kRemembered = 64;

Duration since(std::chrono::steady_clock::time_point start) {
  return std::chrono::steady_clock::now() - start;
}

std::vector<std::string> capabilities(const wire::Capabilities& c) {
  std::vector<std::string> names;
  const std::pair<bool, const char*> all[] = {
      {c.chat, "chat"},   {c.tools, "tools"},          {c.vision, "vision"},
      {c.audio, "audio"}, {c.embeddings, "embedding"}, {c.rerank, "rerank"}};
  for (const auto& [has, name] : all) {
    if (has) names.emplace_back(name);
  }
  return names;
}

}  // namespace

namespace {

std::vector<wire::RpcDevice> behind_servers(const std::vector<Device>& devices) {
  std::vector<wire::RpcDevice> remote;
  for (const Device& device : devices) {
    if (!device.server.empty())
      remote.push_back({.id = device.id, .server = device.server, .number = device.number});
  }
  return remote;
}

}  // namespace

struct Workers::Impl : std::enable_shared_from_this<Workers::Impl> {
  // Conversations that a worker is writing down.
  struct Saving {
    wire::SaveStates what;
    Latch done;
    std::optional<wire::StatesSaved> outcome;
  };
  // One process. Shared by the table that lists it and the coroutine that listens to it.
  struct Worker {
    explicit Worker(const asio::any_io_executor& e) : greeted(e), over(e), restored(e) {}

    std::optional<os::Subprocess> process;
    std::optional<os::LineLink> link;
    std::optional<os::RunRecord> record;
    std::filesystem::path socket;
    std::optional<wire::Hello> hello;
    Latch greeted;                       // it said hello, or never will
    std::deque<std::string> last_words;  // of its standard error
    std::optional<Error> unusable;       // it started, and speaks another protocol or nothing

    std::optional<LoadOrder> order;  // empty: standby
    bool load_sent = false;
    std::optional<Error> last_error;  // what it said although nobody had asked any more
    bool answered = false;            // Ready or Failed has come
    bool stopping = false;
    std::chrono::steady_clock::time_point started_at, ordered_at;
    Duration start_took{};  // of the process, where the load had to wait for it
    bool gone = false;
    std::optional<ProcessReading> before_stop;
    std::optional<WorkerReport> report;
    bool keeps_states = false;
    bool restoring = false;                     // its load named states
    Latch over;                                 // it is gone
    Latch restored;                             // it told what became of them, or never will
    std::optional<wire::Restored> restoration;  // what it told
    std::optional<Saving> saving;
    std::shared_ptr<http::Client> client;
  };
  using WorkerPtr = std::shared_ptr<Worker>;

  Impl(asio::any_io_executor e, WorkersOptions o, Listener l, Measure m, Conversations* c)
      : executor(std::move(e)),
        options(std::move(o)),
        listener(std::move(l)),
        measure(std::move(m)),
        conversations(c),
        gate(executor),
        standby_timer(executor) {}

  asio::any_io_executor executor;
  WorkersOptions options;
  Listener listener;
  Measure measure;
  Conversations* conversations;
  Gate gate;
  std::string engine;
  std::map<InstanceId, WorkerPtr> workers;
  std::map<InstanceId, Error> died_of;  // the latest
  WorkerPtr standby;
  asio::steady_timer standby_timer;
  Duration standby_pause = Duration();  // grows while standbys die
  std::uint64_t last_socket = 0;
  bool closed = false;

  template <class Coroutine>
  void run(Coroutine coroutine) {
    auto hold = gate.enter();
    if (!hold) return;
    asio::co_spawn(
        executor,
        [](auto self, auto work, Gate::Hold) -> Task<> { co_await work(self); }(
                                                 shared_from_this(), std::move(coroutine), std::move(*hold)),
        asio::detached);  // owned by the gate, which shut_down() waits for
  }

  Result<WorkerPtr> spawn(bool sandboxed) {
    auto worker = std::make_shared<Worker>(executor);
    LM_TRY(os::SocketPair pair, os::make_socket_pair());
    std::vector<std::string> arguments = {options.program.string(), "--link-fd", std::to_string(kLinkFd)};
    if (sandboxed) {
      arguments.emplace_back("--inspect-sandbox");
    } else {
      worker->socket = options.run_folder / fmt::format("worker-{}.sock", ++last_socket);
      arguments.emplace_back("--socket");
      arguments.push_back(worker->socket.string());
    }
    std::vector<std::string> environment = os::environment_of_ours(
        {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
         "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"});
    // cuda0 is to be the same card for the engine and for the driver that measures it.
    environment.emplace_back("CUDA_DEVICE_ORDER=PCI_BUS_ID");
    // Huge pages for what malloc maps: a third off the time of a load (docs/performance.md).
    environment.emplace_back("GLIBC_TUNABLES=glibc.malloc.hugetlb=1");
    os::SpawnOptions spawn_options{.arguments = std::move(arguments),
                                   .environment = std::move(environment),
                                   .inherit = {{.ours = pair.childs.get(), .childs = kLinkFd}}};
    // The kernel takes a worker before the daemon when memory runs out.
    spawn_options.oom_score_adjustment = 500;
    const auto hear = [weak = std::weak_ptr(worker), log = listener.log](std::string_view line) {
      const auto w = weak.lock();
      if (!w || line.empty()) return;
      w->last_words.emplace_back(line);
      if (w->last_words.size() > kLastWords) w->last_words.pop_front();
      if (log) log(fmt::format("worker {}: {}", w->process ? w->process->pid() : 0, line));
    };
    spawn_options.standard_output = os::Output::lines(hear);
    spawn_options.standard_error = os::Output::lines(hear);
    worker->started_at = std::chrono::steady_clock::now();
    LM_TRY(worker->process, os::Subprocess::spawn(executor, std::move(spawn_options)));
    worker->link.emplace(executor, std::move(pair.ours));
    LM_TRY(worker->record, os::RunRecord::write(options.run_folder, worker->process->identity(), "llm-worker",
                                                worker->socket));
    return worker;
  }

  // ---- a worker's own life

  // From its start to its end; everything that it says goes through here.
  Task<> attend(WorkerPtr worker) {
    std::optional<Duration> within = options.start_limit;
    for (;;) {
      const auto line = co_await worker->link->read_line(kLongestLine, within);
      if (!line) {
        if (line.error().code == ErrorCode::kDeadlineExceeded) {
          worker->unusable =
              Error{.code = ErrorCode::kDeadlineExceeded,
                    .message = fmt::format("the worker said nothing for {:.0f} s after its start",
                                           seconds(options.start_limit)),
                    .reason = "worker_silent",
                    .fields = {},
                    .retry_after = {}};
        } else if (line.error().reason == "line_too_long") {
          worker->unusable = line.error();
        }
        break;
      }
      auto message = wire::decode_from_worker(*line);
      if (!message) {
        worker->unusable =
            Error{.code = ErrorCode::kInternal,
                  .message = fmt::format("the worker said what cannot be read: {}", message.error().message),
                  .reason = "worker_garbled",
                  .fields = {},
                  .retry_after = {}};
        break;
      }
      if (*message) hear(worker, **message);
      if (worker->unusable) break;
      if (worker->hello) within.reset();
    }
    if (worker->unusable && worker->order && !worker->answered && !worker->stopping)
      tell_failed(worker, *worker->unusable);
    // Whoever closes the link is ending, or is to be ended.
    const os::ExitStatus status =
        co_await worker->process->stop(worker->unusable ? Duration() : std::chrono::milliseconds(500));
    ended(worker, status);
  }

  void hear(const WorkerPtr& worker, const wire::FromWorker& message) {
    std::visit([&](const auto& m) { on(worker, m); }, message);
  }

  void on(const WorkerPtr& worker, const wire::Hello& hello) {
    if (worker->hello) return;
    if (auto spoken = wire::check_protocol(hello); !spoken) {
      worker->unusable = spoken.error();
      return;
    }
    worker->hello = hello;
    engine = fmt::format("{} {}", hello.engine, hello.variant);
    standby_pause = Duration();
    worker->greeted.open();
    if (worker->order) return send_load(worker);
    // To tell a card's memory, the engine has to open the card; the answer itself is not needed.
    if (worker == standby && options.standby_opens_devices) {
      const auto sent = send(worker, wire::ListDevices{});
      if (!sent && listener.log)
        listener.log(
            fmt::format("the standby worker was not told to open the cards: {}", sent.error().message));
    }
  }

  void on(const WorkerPtr& worker, const wire::Progress& m) {
    if (!is_current(worker, m.generation)) return;
    listener.post(LoadProgressed{worker->order->instance, m.generation, m.stage, m.fraction});
  }

  void on(const WorkerPtr& worker, const wire::Ready& m) {
    if (!is_current(worker, m.generation) || worker->answered) return;
    worker->answered = true;
    worker->keeps_states = m.keeps_states;
    worker->report = WorkerReport{.memory = m.memory,
                                  .slots = m.slots,
                                  .context = m.context,
                                  .context_train = m.context_train,
                                  .capabilities = capabilities(m.capabilities)};
    worker->client = std::make_shared<http::Client>(
        executor, http::Endpoint::unix_socket(worker->socket.string()),
        http::ClientOptions{.kept_connections = 32, .kept_for = std::chrono::seconds(3)});
    if (!worker->restoring) return become_ready(worker, m);
    run([worker, m](auto self) { return self->await_restored(worker, m); });
  }

  // It is loaded; nobody is told so before its conversations are back, or are given up.
  Task<> await_restored(WorkerPtr worker, wire::Ready ready) {
    if (worker->keeps_states) co_await worker->restored.wait(options.restore_limit);
    conversations->restored(*worker->order, worker->restoration);
    if (worker->gone) co_return;
    if (worker->restoration) ready.phases.push_back({"restore", worker->restoration->took});
    become_ready(worker, ready);
  }

  void become_ready(const WorkerPtr& worker, const wire::Ready& m) {
    const Duration took = since(worker->ordered_at);
    DeviceBytes engines;
    for (const DeviceMemory& device : m.memory)
      engines.add(device.device, device.weights + device.context + device.compute);
    const auto reading = measure(worker->process->identity());
    std::vector<Phase> phases;
    phases.push_back({"spawn", worker->start_took});  // nothing, where a standby worker took the order
    phases.insert(phases.end(), m.phases.begin(), m.phases.end());
    listener.phases(worker->order->model.id, worker->order->instance, std::move(phases));
    listener.post(LoadSucceeded{.instance = worker->order->instance,
                                .generation = m.generation,
                                .held = reading ? DeviceBytes::max(reading->held, engines) : engines,
                                .reclaimable = reading ? reading->reclaimable : Bytes(),
                                .slots = m.slots,
                                .context = m.context,
                                .took = took});
    want_standby(kStandbyRest);
  }

  void on(const WorkerPtr& worker, const wire::Failed& m) {
    if (!is_current(worker, m.generation)) return;
    if (worker->answered) {
      worker->last_error = m.error;  // it aborts
      return;
    }
    tell_failed(worker, m.error);
  }

  void on(const WorkerPtr& worker, const wire::Restored& m) {
    if (!is_current(worker, m.generation) || worker->restored.is_open()) return;
    worker->restoration = m;
    worker->restored.open();
  }

  void on(const WorkerPtr& worker, const wire::StatesSaved& m) {
    if (!worker->saving || worker->saving->what.id != m.id) return;
    worker->saving->outcome = m;
    worker->saving->done.open();
  }

  // Answers of throw-away workers only; inspect() listens to those itself.
  void on(const WorkerPtr&, const wire::Inspecting&) {}
  void on(const WorkerPtr&, const wire::Inspected&) {}
  void on(const WorkerPtr&, const wire::DevicesListed&) {}

  static bool is_current(const WorkerPtr& worker, Generation generation) {
    return worker->order && worker->order->generation == generation;
  }

  void tell_failed(const WorkerPtr& worker, const Error& error) {
    worker->answered = true;
    listener.post(LoadFailed{worker->order->instance, worker->order->generation, error});
  }

  void ended(const WorkerPtr& worker, const os::ExitStatus& status) {
    worker->record.reset();
    worker->client.reset();
    worker->gone = true;
    worker->greeted.open();
    worker->restored.open();
    worker->over.open();
    if (worker->saving) worker->saving->done.open();
    if (worker->order && worker->last_error) {
      died_of.insert_or_assign(worker->order->instance, *worker->last_error);
      while (died_of.size() > kRemembered) died_of.erase(died_of.begin());
    }
    if (worker == standby) {
      standby.reset();
      if (closed) return;
      if (listener.log)
        listener.log(fmt::format("the standby worker {}{}", to_string(status), last_words(worker)));
      standby_pause =
          std::clamp<Duration>(standby_pause * 2, std::chrono::seconds(1), std::chrono::minutes(1));
      want_standby();
      return;
    }
    if (!worker->order) return;
    workers.erase(worker->order->instance);
    if (conversations != nullptr) conversations->ended(*worker->order);
    WorkerExited event{.instance = worker->order->instance,
                       .generation = worker->order->generation,
                       .how = to_string(status),
                       .held_before = {},
                       .reclaimable_before = {},
                       .error = worker->last_error};
    if (!worker->stopping) event.how += last_words(worker);
    if (worker->before_stop) {
      event.held_before = worker->before_stop->held;
      event.reclaimable_before = worker->before_stop->reclaimable;
    }
    listener.post(std::move(event));
    if (!worker->report) want_standby();
  }

  static std::string last_words(const WorkerPtr& worker) {
    return worker->last_words.empty()
               ? std::string()
               : fmt::format("; its last words: {}", fmt::join(worker->last_words, " / "));
  }

  // ---- orders

  static Result<void> send(const WorkerPtr& worker, const wire::ToWorker& message) {
    std::string line = wire::encode(message);
    line.pop_back();  // the link adds the line's end
    return worker->link->write_line(line);
  }

  void send_load(const WorkerPtr& worker) {
    if (std::exchange(worker->load_sent, true)) return;
    const LoadOrder& order = *worker->order;
    worker->start_took = std::max(Duration(), std::chrono::steady_clock::now() - worker->ordered_at);
    std::vector<SlotState> states;
    if (conversations != nullptr) states = conversations->restore(order);
    worker->restoring = !states.empty();
    const wire::Load load{.generation = order.generation,
                          .kind = order.model.kind,
                          .path = order.model.artifact.path,
                          .projector = order.model.artifact.projector,
                          .options = order.options,
                          .alias = order.model.id.str(),
                          .sampling = order.model.sampling,
                          .rpc = behind_servers(order.devices),
                          .states = std::move(states)};
    if (auto sent = send(worker, load); !sent) tell_failed(worker, sent.error());
  }

  void load(LoadOrder order) {
    WorkerPtr worker = std::exchange(standby, nullptr);
    const auto ordered_at = std::chrono::steady_clock::now();
    const InstanceId instance = order.instance;
    const Generation generation = order.generation;
    if (!worker) {
      auto fresh = spawn(false);
      if (!fresh) {
        // The arbiter answers with stop(), which finds nobody and says so.
        listener.post(LoadFailed{instance, generation,
                                 std::move(fresh).error().with_context("a worker could not be started")});
        return;
      }
      worker = *fresh;
      run([worker](auto self) { return self->attend(worker); });
    }
    worker->ordered_at = ordered_at;
    worker->order = std::move(order);
    workers.emplace(instance, worker);
    listener.post(WorkerTaken{instance, generation, worker->process->pid()});
    if (worker->hello) send_load(worker);
  }

  void stop(InstanceId instance, Generation generation, Duration grace) {
    const auto it = workers.find(instance);
    if (it == workers.end() || it->second->order->generation != generation) {
      listener.post(WorkerExited{.instance = instance,
                                 .generation = generation,
                                 .how = "was never started",
                                 .held_before = {},
                                 .reclaimable_before = {}});
      return;
    }
    const WorkerPtr worker = it->second;
    if (std::exchange(worker->stopping, true)) {
      worker->process->signal(9);
      return;
    }
    worker->before_stop = measure(worker->process->identity());
    run([worker, grace](auto self) { return self->save_and_end(worker, grace); });
    // Behind the signal: it starts while the other one's memory is given back.
    asio::post(executor, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->want_standby();
    });
  }

  Task<> save_and_end(WorkerPtr worker, Duration grace) {
    if (can_save(worker)) {
      const auto began = std::chrono::steady_clock::now();
      if (worker->saving) {
        cancel_save(worker);
        const Latch done = worker->saving->done;
        co_await done.wait(options.save_limit);
      }
      if (auto what = conversations->save(*worker->order, Conversations::Occasion::kEnding)) {
        co_await save(worker, *std::move(what), options.save_limit);
        listener.saved(worker->order->instance, since(began));
      }
    }
    co_await worker->process->stop(grace);
  }

  // ---- conversations

  bool can_save(const WorkerPtr& worker) const {
    return conversations != nullptr && worker->keeps_states && worker->client != nullptr &&
           !worker->process->has_ended();
  }

  Task<> save(WorkerPtr worker, wire::SaveStates what, Duration limit) {
    worker->saving.emplace(Saving{.what = what, .done = Latch(executor), .outcome = {}});
    const Latch done = worker->saving->done;
    if (send(worker, what)) co_await done.wait(limit);
    // Another one's, where this was given up and the worker was then told to save again.
    std::optional<wire::StatesSaved> outcome;
    if (worker->saving && worker->saving->what.id == what.id) {
      outcome = std::move(worker->saving->outcome);
      worker->saving.reset();
    }
    conversations->saved(*worker->order, what, outcome);
  }

  // A worker that cannot be told is going anyway: the save's own limit ends the wait for it.
  void cancel_save(const WorkerPtr& worker) {
    static_cast<void>(send(worker, wire::CancelSave{worker->saving->what.id}));
  }

  WorkerPtr find(InstanceId instance) const {
    const auto it = workers.find(instance);
    return it == workers.end() ? nullptr : it->second;
  }

  void checkpoint(InstanceId instance) {
    const WorkerPtr worker = find(instance);
    if (!worker || worker->stopping || worker->saving || !can_save(worker)) return;
    if (auto what = conversations->save(*worker->order, Conversations::Occasion::kIdle))
      run([worker, what](auto self) { return self->save(worker, *what, self->options.checkpoint_limit); });
  }

  // ---- the standby

  bool lacks_standby() const { return options.standby && !standby && !closed; }

  // At once, or after `rest`; later where the last one died.
  void want_standby(Duration rest = Duration()) {
    if (!lacks_standby()) return;
    const Duration pause = std::max(rest, standby_pause);
    if (pause <= Duration()) return static_cast<void>(start_standby());  // it says itself what went wrong
    standby_timer.expires_after(pause);
    standby_timer.async_wait([weak = weak_from_this()](const boost::system::error_code& cancelled) {
      const auto self = weak.lock();
      if (!cancelled && self && self->lacks_standby()) static_cast<void>(self->start_standby());
    });
  }

  Result<WorkerPtr> start_standby() {
    auto worker = spawn(false);
    if (!worker) {
      if (listener.log) listener.log(fmt::format("no standby worker: {}", worker.error().message));
      return worker;
    }
    standby = *worker;
    run([worker = *worker](auto self) { return self->attend(worker); });
    return worker;
  }

  // ---- looking into files

  // Why an inspection that has ended without an answer did so.
  static Error unanswered(const std::filesystem::path& path, wire::InspectionStep step,
                          const os::ExitStatus& status) {
    const bool in_template = step == wire::InspectionStep::kTemplate;
    const bool for_its_time = status.signal == SIGXCPU;
    const char* what = in_template ? "its chat template" : "reading its metadata";
    const std::string why =
        for_its_time ? fmt::format("{} did not end within {} s of processor time", what,
                                   wire::kInspectionProcessorTime.count())
                     : fmt::format("the reader {} {}", to_string(status),
                                   in_template                           ? "while it ran its chat template"
                                   : step == wire::InspectionStep::kFile ? "while it read its metadata"
                                                                         : "before it read anything");
    return {.code = ErrorCode::kInvalidArgument,
            .message = fmt::format("{} is not a model file that can be used: {}", path.string(), why),
            .reason = "invalid_artifact",
            .fields = {},
            .retry_after = {}};
  }

  Task<Result<Inspection>> inspect(std::filesystem::path path, LoadOptions load_options) {
    const auto crashed = [&path](std::string how) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is not a model file that can be used: the reader {}", path.string(), how),
                  "invalid_artifact");
    };
    auto step = wire::InspectionStep::kStarting;
    LM_CO_TRY(const WorkerPtr worker, spawn(true));
    // However this ends, the process ends with it.
    const auto deadline = std::chrono::steady_clock::now() + options.inspect_limit;
    wire::Inspect order{
        .id = 1, .path = path, .projector = {}, .options = std::move(load_options), .exact = false};
    LM_CO_TRY_VOID(send(worker, std::move(order)));
    for (;;) {
      const auto read = co_await worker->link->read_line(
          kLongestLine, std::max<Duration>(Duration(1), deadline - std::chrono::steady_clock::now()));
      if (!read) {
        if (read.error().code == ErrorCode::kDeadlineExceeded)
          co_return crashed(
              fmt::format("did not come to an end within {:.0f} s{}", seconds(options.inspect_limit),
                          step == wire::InspectionStep::kTemplate ? ", in its chat template" : ""));
        const auto status = co_await worker->process->stop(std::chrono::milliseconds(200));
        co_return fail(unanswered(path, step, status));
      }
      const auto message = wire::decode_from_worker(*read);
      if (!message) co_return crashed("answered nonsense");
      if (!*message) continue;
      if (const auto* hello = std::get_if<wire::Hello>(&**message)) {
        LM_CO_TRY_VOID(wire::check_protocol(*hello));
      } else if (const auto* begins = std::get_if<wire::Inspecting>(&**message)) {
        step = begins->step;
      } else if (const auto* failed = std::get_if<wire::Failed>(&**message)) {
        co_return fail(failed->error);
      } else if (const auto* found = std::get_if<wire::Inspected>(&**message)) {
        co_return Inspection{.name = found->name,
                             .architecture = found->architecture,
                             .quantization = found->quantization,
                             .chat_template = found->chat_template,
                             .fingerprint = found->fingerprint,
                             .keeps_conversations = found->keeps_conversations,
                             .conversations = found->conversations,
                             .parameters = found->parameters,
                             .size = found->size,
                             .context_train = found->context_train,
                             .layers = found->layers,
                             .kind = found->kind,
                             .predicted = found->predicted,
                             .extent = found->extent};
      }
    }
  }

  Task<Result<SeenDevices>> list_devices(std::vector<std::string> servers) {
    LM_CO_TRY(const WorkerPtr worker, spawn(false));
    // However this ends, the process ends with it.
    const auto deadline = std::chrono::steady_clock::now() + options.list_limit;
    LM_CO_TRY_VOID(send(worker, wire::ListDevices{std::move(servers)}));
    for (;;) {
      LM_CO_TRY(
          const std::string read,
          co_await worker->link->read_line(
              kLongestLine, std::max<Duration>(Duration(1), deadline - std::chrono::steady_clock::now())));
      LM_CO_TRY(const auto message, wire::decode_from_worker(read));
      if (!message) continue;
      if (const auto* failed = std::get_if<wire::Failed>(&*message)) co_return fail(failed->error);
      const auto* listed = std::get_if<wire::DevicesListed>(&*message);
      if (listed == nullptr) continue;
      SeenDevices seen;
      for (const wire::DevicesListed::Device& d : listed->devices) {
        seen.devices.push_back({.device = {.id = d.id,
                                           .kind = d.kind,
                                           .name = d.name,
                                           .capacity = d.capacity,
                                           .headroom = {},
                                           .limit = {},
                                           .server = d.server,
                                           .number = d.number},
                                .free = d.free});
      }
      for (const auto& gone : listed->missing) seen.missing.push_back({gone.server, gone.why});
      // At once: its connections keep others from the servers.
      co_await worker->process->stop(std::chrono::milliseconds(100));
      co_return seen;
    }
  }
};

Workers::Workers(asio::any_io_executor executor, WorkersOptions options, Listener listener, Measure measure,
                 Conversations* conversations)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(options), std::move(listener),
                                   std::move(measure), conversations)) {}

Workers::~Workers() {
  impl_->closed = true;
  impl_->listener.post = [](Event) {};
  for (const auto& [id, worker] : impl_->workers) worker->process->signal(9);
  if (impl_->standby) impl_->standby->process->signal(9);
}

Task<Result<void>> Workers::start() {
  const auto impl = impl_;
  LM_CO_TRY(const auto worker, impl->start_standby());
  co_await worker->greeted.wait(impl->options.start_limit + std::chrono::seconds(1));
  if (worker->unusable) co_return fail(*worker->unusable);
  if (!worker->hello)
    co_return fail(
        ErrorCode::kUnavailable,
        fmt::format("{} could not be started{}", impl->options.program.string(), Impl::last_words(worker)),
        "worker_died");
  co_return Result<void>();
}

const std::string& Workers::engine() const {
  return impl_->engine;
}
void Workers::load(LoadOrder order) {
  impl_->load(std::move(order));
}
void Workers::stop(InstanceId instance, Generation generation, Duration grace) {
  impl_->stop(instance, generation, grace);
}

Task<Result<Inspection>> Workers::inspect(std::filesystem::path path, LoadOptions options) {
  const auto impl = impl_;
  co_return co_await impl->inspect(std::move(path), std::move(options));
}

Task<Result<SeenDevices>> Workers::list_devices(std::vector<std::string> servers) {
  const auto impl = impl_;
  co_return co_await impl->list_devices(std::move(servers));
}

void Workers::checkpoint(InstanceId instance) {
  impl_->checkpoint(instance);
}
void Workers::cancel_checkpoint(InstanceId instance) {
  if (const auto worker = impl_->find(instance); worker && worker->saving && !worker->stopping)
    impl_->cancel_save(worker);
}

std::shared_ptr<http::Client> Workers::client(InstanceId instance) const {
  const auto it = impl_->workers.find(instance);
  return it == impl_->workers.end() || it->second->process->has_ended() ? nullptr : it->second->client;
}

std::optional<WorkerReport> Workers::report(InstanceId instance) const {
  const auto it = impl_->workers.find(instance);
  return it == impl_->workers.end() ? std::nullopt : it->second->report;
}

Task<std::optional<Error>> Workers::last_words(InstanceId instance) {
  const auto impl = impl_;
  if (const auto worker = impl->find(instance)) co_await worker->over.wait(std::chrono::milliseconds(500));
  const auto error = impl->died_of.find(instance);
  co_return error == impl->died_of.end() ? std::nullopt : std::optional(error->second);
}

std::vector<Workers::Running> Workers::running() const {
  std::vector<Running> result;
  for (const auto& [id, worker] : impl_->workers) result.push_back({id, worker->process->identity()});
  return result;
}

std::optional<os::ProcessIdentity> Workers::standby() const {
  return impl_->standby ? std::optional(impl_->standby->process->identity()) : std::nullopt;
}

Task<void> Workers::shut_down(Duration grace) {
  const auto impl = impl_;
  impl->closed = true;
  impl->standby_timer.cancel();
  if (impl->standby) impl->standby->process->signal(15);
  for (const auto& [id, worker] : impl->workers) {
    if (!worker->stopping) impl->stop(id, worker->order->generation, grace);
  }
  impl->gate.close();
  if (!co_await impl->gate.wait_empty(grace + std::chrono::seconds(2))) {
    for (const auto& [id, worker] : impl->workers) worker->process->signal(9);
    if (impl->standby) impl->standby->process->signal(9);
    co_await impl->gate.wait_empty(std::chrono::seconds(2));
  }
}

}  // namespace lm::backend

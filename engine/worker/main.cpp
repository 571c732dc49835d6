// llm-worker: started by llm-manager, with one end of a socket pair as its link. It says hello, waits for one
// order, and ends with the link.
#include <atomic>
#include <build-info.h>
#include <charconv>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <ggml.h>
#include <llama.h>
#include <mutex>
#include <optional>
#include <signal.h>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "crash.h"
#include "engine_log.h"
#include "inspection.h"
#include "link.h"
#include "model.h"
#include "rpc_devices.h"
#include "slot_states.h"

extern char** environ;

namespace lm::worker {
namespace {

constexpr const char* kHelp =
    "llm-worker holds one model for llm-manager. It is started by the daemon and not meant for people.\n"
    "\n"
    "  llm-worker --link-fd N --socket PATH.sock      load and serve what the manager orders\n"
    "  llm-worker --link-fd N --inspect-sandbox       look at one model file, confined\n"
    "  llm-worker --version\n"
    "\n"
    "To run a model: llm-manager serve, llm-manager load MODEL\n";

struct Arguments {
  int link = -1;
  std::string socket;
  bool sandbox = false;
};

// Orders, handed from the thread that reads the link to the main thread, which the engine needs.
class Orders {
 public:
  void put(wire::ToWorker order) {
    {
      const std::scoped_lock lock(mutex_);
      orders_.push_back(std::move(order));
    }
    arrived_.notify_one();
  }
  wire::ToWorker take() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return !orders_.empty(); });
    auto order = std::move(orders_.front());
    orders_.pop_front();
    return order;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<wire::ToWorker> orders_;
};

// The engine reads settings from these; a load's settings come in its order only.
void clean_environment() {
  std::vector<std::string> foreign;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto name = text.substr(0, text.find('='));
    for (const std::string_view prefix : {"LLAMA_", "AIP_", "HF_", "MODEL_ENDPOINT", "GGML_NO_"}) {
      if (name.starts_with(prefix)) foreign.emplace_back(name);
    }
  }
  for (const auto& name : foreign) ::unsetenv(name.c_str());
}

// Set while a load runs or a model serves, so that an abort can say what it was about.
Link* aborting_link = nullptr;
Generation aborting_generation;

void on_engine_abort(const char* message) {
  std::fprintf(stderr, "engine: abort: %s\n", message);
  if (aborting_link == nullptr) return;
  // The errors logged just before tell more than the assertion's own text; out of memory is told by either.
  Error error = why_it_failed(message);
  if (const Error own = classify(message); own.reason == "insufficient_memory" || own.reason == "device_lost")
    error = own;
  if (error.reason == "device_lost") {
    if (const auto device = lost_rpc_device()) {
      error.message = fmt::format("device {} is not there any more: {} does not answer", device->id.str(),
                                  device->server);
      error.fields = {{"device", device->id.str()}, {"server", device->server}};
    }
  }
  silence_crashes();
  aborting_link->send(wire::Failed{.generation = aborting_generation, .error = std::move(error)});
}

std::string crash_line(Generation generation, std::uint64_t inspection) {
  return wire::encode(
      wire::FromWorker(wire::Failed{.generation = generation,
                                    .inspection = inspection,
                                    .error = {.code = ErrorCode::kInvalidArgument,
                                              .message = "the engine crashed on this model file",
                                              .reason = "invalid_artifact",
                                              .fields = {},
                                              .retry_after = {}}}));
}

wire::Hello hello() {
  return {.engine = LLM_MANAGER_ENGINE_VERSION,
          .variant = LLM_MANAGER_ENGINE_VARIANT,
          .build = fmt::format("{} for {}", llama_compiler(), llama_build_target()),
          .pid = ::getpid()};
}

template <class Answer>
void reply(Link& link, std::uint64_t inspection, Result<Answer> answer) {
  silence_crashes();
  if (answer) {
    link.send(std::move(*answer));
  } else {
    link.send(wire::Failed{.inspection = inspection, .error = std::move(answer).error()});
  }
}

// One order, confined, then the end.
int inspect_once(Link& link) {
  link.send(hello());
  // Reads more than one line only if the manager sends more than one.
  link.read([&](wire::ToWorker message) {
    if (auto* inspection = std::get_if<wire::Inspect>(&message)) {
      answer_crashes(link.fd(), crash_line({}, inspection->id));
      reply(link, inspection->id, inspect_in_sandbox(*inspection, [&](wire::InspectionStep step) {
              link.send(wire::Inspecting{.inspection = inspection->id, .step = step});
            }));
      ::_exit(0);
    }
    ::_exit(0);
  });
  return 0;
}

// Of the one load, for the thread that reads the link. Never destroyed.
std::atomic<SlotStates*> slot_states = nullptr;

void obey(Link& link, Model& model, const wire::Load& order) {
  slot_states = new SlotStates(link, order.generation, order.states);
  aborting_generation = order.generation;
  answer_crashes(link.fd(), crash_line(order.generation, 0));
  aborting_link = &link;
  ggml_set_abort_callback(on_engine_abort);
  auto ready = model.load(order, [&](LoadStage stage, double fraction) {
    link.send(wire::Progress{.generation = order.generation, .stage = stage, .fraction = fraction});
  });
  silence_crashes();
  if (!ready) {
    link.send(wire::Failed{.generation = order.generation, .error = std::move(ready).error()});
    return;
  }
  const bool keeps = ready->keeps_states;
  link.send(std::move(*ready));
  if (keeps) model.keep(*slot_states.load());
  model.serve();
}

int run(const Arguments& arguments) {
  // Its own files are nobody else's: the socket, and the slot states that the engine writes.
  ::umask(0177);
  ::signal(SIGPIPE, SIG_IGN);
  ::fcntl(arguments.link, F_SETFD, FD_CLOEXEC);
  clean_environment();
  end_on_signals(arguments.socket);
  Link link(arguments.link);
  if (arguments.sandbox) return inspect_once(link);

  link.send(hello());
  Orders orders;
  // Lives as long as the process, which it ends: by _exit, since the engine's destructors wait for open
  // streams.
  std::thread([&] {
    link.read([&](wire::ToWorker order) {
      if (std::holds_alternative<wire::Shutdown>(order)) {
        ::unlink(arguments.socket.c_str());
        ::_exit(0);
      }
      SlotStates* states = slot_states;
      if (const auto* save = std::get_if<wire::SaveStates>(&order)) {
        if (states != nullptr) states->save(*save);
      } else if (const auto* cancel = std::get_if<wire::CancelSave>(&order)) {
        if (states != nullptr) states->cancel(cancel->id);
      } else {
        orders.put(std::move(order));
      }
    });
    ::unlink(arguments.socket.c_str());
    ::_exit(0);
  }).detach();

  // What a load would otherwise pay for, and no device is touched by.
  open_engine_log();
  Model model(arguments.socket);
  while (true) {
    const auto order = orders.take();
    if (const auto* load = std::get_if<wire::Load>(&order)) {
      obey(link, model, *load);
    } else if (const auto* inspection = std::get_if<wire::Inspect>(&order)) {
      answer_crashes(link.fd(), crash_line({}, inspection->id));
      reply(link, inspection->id, inspect(*inspection));
    } else {
      reply(link, 0, Result<wire::DevicesListed>(list_devices(std::get<wire::ListDevices>(order))));
    }
  }
}

int main(int argc, char** argv) {
  Arguments arguments;
  const std::vector<std::string_view> given(argv + 1, argv + argc);
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto value = [&]() -> std::string_view {
      return i + 1 < given.size() ? given[++i] : std::string_view();
    };
    if (given[i] == "--help" || given[i] == "-h") {
      std::fputs(kHelp, stdout);
      return 0;
    }
    if (given[i] == "--version") {
      std::printf("llm-worker %s (%s, %s)\n", LLM_MANAGER_ENGINE_VERSION, LLM_MANAGER_ENGINE_VARIANT,
                  llama_compiler());
      return 0;
    }
    if (given[i] == "--link-fd") {
      const auto text = value();
      if (std::from_chars(text.data(), text.data() + text.size(), arguments.link).ec != std::errc())
        arguments.link = -1;
    } else if (given[i] == "--socket") {
      arguments.socket = value();
    } else if (given[i] == "--inspect-sandbox") {
      arguments.sandbox = true;
    } else {
      std::fprintf(stderr, "llm-worker: what is '%s'? See llm-worker --help\n", argv[i + 1]);
      return 2;
    }
  }
  struct stat status{};
  if (arguments.link < 0 || ::fstat(arguments.link, &status) != 0) {
    std::fputs(
        "llm-worker: --link-fd names no open descriptor. It is started by llm-manager; see llm-worker "
        "--help\n",
        stderr);
    return 2;
  }
  if (!arguments.sandbox &&
      (!arguments.socket.ends_with(".sock") || arguments.socket.size() >= sizeof(sockaddr_un::sun_path))) {
    std::fprintf(stderr, "llm-worker: --socket needs a path that ends in .sock and has less than %zu bytes\n",
                 sizeof(sockaddr_un::sun_path));
    return 2;
  }
  return run(arguments);
}

}  // namespace
}  // namespace lm::worker

int main(int argc, char** argv) {
  return lm::worker::main(argc, argv);
}

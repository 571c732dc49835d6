#include "backend/command.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <sys/un.h>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "backend/caller.h"
#include "backend/memory_control.h"
#include "backend/openai.h"
#include "os/addresses.h"
#include "os/listening_processes.h"
#include "os/orphans.h"
#include "os/subprocess.h"

namespace lm::backend {
namespace {

constexpr Duration kFirstPoll = std::chrono::milliseconds(50);
constexpr Duration kSlowestPoll = std::chrono::milliseconds(500);
constexpr Duration kOneHealthCheck = std::chrono::seconds(5);
constexpr Duration kLook = std::chrono::seconds(10);
// For a killed process to be reaped; one that does not go hangs in the kernel.
constexpr Duration kKilled = std::chrono::seconds(5);
constexpr Duration kGroupPoll = std::chrono::milliseconds(10);
constexpr std::size_t kLastWords = 4;
constexpr std::string_view kPort = "${port}";
constexpr std::string_view kSocket = "${socket}";

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
}

bool mentions(const CommandOptions& options, std::string_view what) {
  const auto has = [what](const std::string& text) { return text.find(what) != std::string::npos; };
  return std::ranges::any_of(options.command, has) ||
         std::ranges::any_of(options.environment, [&](const auto& one) { return has(one.second); });
}

// Not ours as it is: keys and tokens of the daemon are nobody's business.
std::vector<std::string> passed_on() {
  return os::environment_of_ours({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR",
                                  "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HF_HOME",
                                  "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES",
                                  "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"});
}

class Command final : public UpstreamServer, public std::enable_shared_from_this<Command> {
 public:
  Command(boost::asio::any_io_executor executor, CommandOptions options, ApiBase base,
          std::filesystem::path socket, bool picks_port, Upstream upstream)
      : executor_(std::move(executor)),
        options_(std::move(options)),
        base_(std::move(base)),
        socket_(std::move(socket)),
        picks_port_(picks_port),
        upstream_(std::move(upstream)) {}

  const Upstream& description() const override { return upstream_; }
  bool rests_empty() const override { return true; }
  std::vector<Model> configured() const override {
    return offered(upstream_, {}, options_.models, fmt::format("commands.{}", options_.name));
  }

  Task<Result<Sight>> look() override {
    const auto self = shared_from_this();
    const auto life = life_;
    Sight sight{.models = {}, .tells_residents = true, .residents = {}};
    if (running() && life->ready) {
      const TimePoint by = now() + kLook;
      LM_CO_TRY(const Answer answer, co_await life->caller.get(models_target(), by));
      auto listed = wire::decode_models(answer.body);
      if (answer.good() && listed) {
        listed_ = *std::move(listed);
      } else if (options_.models.empty()) {
        co_return fail(life->caller.unexpected("GET", models_target(), answer));
      }
    }
    sight.models = offered(upstream_, listed_, options_.models, fmt::format("commands.{}", options_.name));
    sight.runs = running();
    if (!sight.runs) co_return sight;
    for (const Model& model : sight.models)
      sight.residents.push_back(
          {.name = model.remote->name, .kind = model.kind, .bytes = model.artifact.size});
    // It holds memory before it can say for what.
    if (sight.residents.empty()) sight.residents.push_back({.name = options_.name, .bytes = {}});
    co_return sight;
  }

  Task<Result<void>> load(std::string, Duration limit) override {
    const auto self = shared_from_this();
    const TimePoint by = now() + std::min(limit, options_.start_limit);
    // Its port and its memory are not free before it has gone.
    while (running() && life_->ending) {
      const auto last = life_;
      if (!co_await last->process->wait_for(by - now())) {
        co_return fail(ErrorCode::kDeadlineExceeded,
                       fmt::format("the command {} is still ending", options_.name), "load_timeout");
      }
    }
    if (!running()) LM_CO_TRY_VOID(start());
    const auto life = life_;
    for (Duration pause = kFirstPoll; !life->ready; pause = std::min(pause * 2, kSlowestPoll)) {
      const bool healthy = co_await is_healthy(life, by);
      if (life->process->has_ended()) {
        const os::ExitStatus status = co_await life->process->wait();
        co_return fail(ErrorCode::kUnavailable,
                       fmt::format("the command {} {} before it was ready{}", options_.name,
                                   to_string(status), said(*life)),
                       "command_died");
      }
      if (healthy) {
        life->ready = true;
        tell(fmt::format("command {}: ready", options_.name));
        break;
      }
      const Duration left = by - now();
      if (left <= Duration::zero()) {
        co_await end(life, options_.stop_grace);
        co_return fail(
            ErrorCode::kDeadlineExceeded,
            fmt::format("the command {} was not ready in time{}; commands.{}.start_timeout is what it "
                        "is given",
                        options_.name, said(*life), options_.name),
            "load_timeout");
      }
      co_await life->process->wait_for(std::min(pause, left));
    }
    co_return Result<void>();
  }

  Task<Result<void>> yield(Duration limit) override {
    const auto self = shared_from_this();
    const auto life = life_;
    if (!life) co_return Result<void>();
    if (co_await end(life, std::min(options_.stop_grace, limit * 3 / 4))) co_return Result<void>();
    co_return fail(still_resident(upstream_.url, {fmt::format("process {}", life->process->pid())}));
  }

  std::vector<os::ProcessIdentity> processes() override {
    if (!running()) return {};
    auto processes = os::group_members(life_->process->pid());
    // Also what has left its group, as long as it can be told to be its.
    for (const os::ProcessIdentity& one : os::descendants_of({life_->process->identity()})) {
      if (std::ranges::find(processes, one) == processes.end()) processes.push_back(one);
    }
    return processes;
  }

  std::shared_ptr<http::Client> client() override { return running() ? life_->caller.client() : nullptr; }
  std::string api_prefix() const override { return base_.prefix; }
  http::Headers headers() const override { return {}; }

 private:
  // From one start to its end. Shared with those who wait for it, since the next may begin meanwhile.
  struct Life {
    Caller caller;
    std::optional<os::RunRecord> record;  // outlives the process
    std::optional<os::Subprocess> process;
    std::deque<std::string> last_words;
    bool ready = false;
    bool ending = false;  // we have asked for it
  };

  bool running() const { return life_ && !life_->process->has_ended(); }
  std::string models_target() const { return base_.prefix + "/models"; }
  void tell(std::string_view line) const {
    if (options_.log) options_.log(line);
  }
  static std::string said(const Life& life) {
    return life.last_words.empty() ? std::string()
                                   : fmt::format("; it said: {}", fmt::join(life.last_words, " / "));
  }

  Result<void> start() {
    http::Endpoint where = base_.root;
    if (picks_port_) {
      LM_TRY(where.port, os::free_loopback_port());
    }
    const auto fill_in = [&](std::string text) {
      replace_all(text, kPort, std::to_string(where.port));
      replace_all(text, kSocket, socket_.native());
      return text;
    };
    os::SpawnOptions spawn{.arguments = {}, .environment = passed_on()};
    for (const std::string& argument : options_.command) spawn.arguments.push_back(fill_in(argument));
    for (const auto& [name, value] : options_.environment) {
      std::erase_if(spawn.environment, [&](const std::string& one) { return one.starts_with(name + "="); });
      spawn.environment.push_back(fmt::format("{}={}", name, fill_in(value)));
    }
    spawn.working_folder = options_.working_folder;
    // The kernel takes it before the daemon when memory runs out.
    spawn.oom_score_adjustment = 500;
    const auto life = std::make_shared<Life>(
        Life{.caller = Caller(executor_,
                              std::make_shared<http::Client>(executor_, where,
                                                             http::ClientOptions{.kept_connections = 32}),
                              {})});
    const auto hear = [weak = std::weak_ptr(life), log = options_.log,
                       name = options_.name](std::string_view line) {
      const auto l = weak.lock();
      if (!l || line.empty()) return;
      l->last_words.emplace_back(line);
      if (l->last_words.size() > kLastWords) l->last_words.pop_front();
      if (log) log(fmt::format("command {}: {}", name, line));
    };
    spawn.standard_output = os::Output::lines(hear);
    spawn.standard_error = os::Output::lines(hear);
    spawn.on_end = [weak = std::weak_ptr(life), log = options_.log, changed = options_.changed,
                    name = options_.name](const os::ExitStatus& status) {
      if (const auto l = weak.lock()) {
        l->record.reset();
        if (log) log(fmt::format("command {}: {}{}", name, to_string(status), l->ending ? ", as asked" : ""));
      }
      if (changed) changed();
    };
    if (!socket_.empty()) LM_TRY_VOID(os::remove_file(socket_));
    auto process = os::Subprocess::spawn(executor_, std::move(spawn));
    if (!process) {
      // Its model is configured: what is not there is not the model.
      return fail(ErrorCode::kUnavailable,
                  fmt::format("the command {} cannot be started: {}", options_.name, process.error().message),
                  "command_not_started");
    }
    life->process = *std::move(process);
    LM_TRY(life->record, os::RunRecord::write(options_.run_folder, life->process->identity(),
                                              "command " + options_.name, socket_));
    life_ = life;
    tell(fmt::format("command {}: started as process {}, at {}", options_.name, life->process->pid(),
                     where.text()));
    return {};
  }

  // Whatever it does not answer, it is not ready.
  Task<bool> is_healthy(std::shared_ptr<Life> life, TimePoint by) {
    const TimePoint soon = std::min(by, now() + kOneHealthCheck);
    if (!options_.health.empty()) {
      const auto answer = co_await life->caller.get(options_.health, soon);
      co_return answer && answer->good();
    }
    const auto answer = co_await life->caller.get("/health", soon);
    if (!answer || !answer->unknown()) co_return answer && answer->good();
    const auto models = co_await life->caller.get(models_target(), soon);
    co_return models && models->good();
  }

  // True when it is reaped and nobody of its group is left.
  Task<bool> end(std::shared_ptr<Life> life, Duration grace) {
    if (!life->process->has_ended()) {
      life->ending = true;
      life->ready = false;
      life->process->signal(options_.stop_signal);
    }
    bool ended = (co_await life->process->wait_for(grace)).has_value();
    const TimePoint by = now() + kKilled;
    if (!ended) {
      tell(fmt::format("command {}: still there {:.1f} s after {}, killed", options_.name, seconds(grace),
                       os::signal_name(options_.stop_signal)));
      life->process->signal(9);
      ended = (co_await life->process->wait_for(kKilled)).has_value();
    }
    // Its children were killed with it and take a moment to give their memory back.
    while (ended && !os::group_members(life->process->pid()).empty()) {
      if (!co_await life->caller.pause(kGroupPoll, by)) ended = false;
    }
    co_return ended;
  }

  boost::asio::any_io_executor executor_;
  CommandOptions options_;
  ApiBase base_;
  std::filesystem::path socket_;  // empty: it has none
  bool picks_port_;
  Upstream upstream_;
  std::shared_ptr<Life> life_;  // the last one; null before the first
  std::vector<wire::ListedModel> listed_;
};

// A name that a file can have.
std::string file_name(std::string name) {
  std::ranges::replace_if(
      name,
      [](char c) {
        return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                 c == '_');
      },
      '_');
  return name;
}

}  // namespace

Result<std::shared_ptr<UpstreamServer>> make_command(boost::asio::any_io_executor executor,
                                                     CommandOptions options) {
  if (options.command.empty())
    return fail(ErrorCode::kInvalidArgument, fmt::format("the command {} has no program", options.name));
  std::filesystem::path socket;
  if (mentions(options, kSocket)) {
    socket = options.run_folder / fmt::format("command-{}.sock", file_name(options.name));
    if (socket.native().size() >= sizeof(sockaddr_un::sun_path)) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is too long for a socket's path; use ${{port}}", socket.string()));
    }
  }
  const bool has_url = !options.base_url.empty();
  const bool on_socket = !has_url && !socket.empty();
  ApiBase base{.root = http::Endpoint::unix_socket(socket.string()), .prefix = "/v1"};
  // Without a URL the port is chosen when it starts.
  if (!on_socket) {
    LM_TRY(base, parse_api_base(has_url ? options.base_url : "http://127.0.0.1:1/v1"));
  }
  Upstream upstream{.id = UpstreamId(options.name),
                    .family = Family::kOpenai,
                    .shares_devices = true,
                    .url = has_url || on_socket ? base.root.text() + (on_socket ? "" : base.prefix)
                                                : fmt::format("http://127.0.0.1:{}/v1", kPort)};
  return std::make_shared<Command>(std::move(executor), std::move(options), std::move(base),
                                   std::move(socket), !has_url && !on_socket, std::move(upstream));
}

}  // namespace lm::backend

#include "app/serve.h"

#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <fmt/format.h>

#include "api/conversation_routes.h"
#include "api/error_shape.h"
#include "api/front_door.h"
#include "api/inference.h"
#include "api/manager_routes.h"
#include "api/ollama_routes.h"
#include "api/socketio_door.h"
#include "app/dashboard.h"
#include "app/next_steps.h"
#include "app/version.h"
#include "base/clock.h"
#include "base/latch.h"
#include "base/log.h"
#include "config/sources.h"
#include "http/server.h"
#include "os/file.h"
#include "os/lifeline.h"
#include "os/program_text.h"
#include "os/signals.h"
#include "runtime/runtime.h"
#include "runtime/transcript_keeper.h"

namespace lm::app {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;

// Private daemons of one user at a time.
constexpr int kMostPrivate = 1000;

// How long running answers may go on after SIGTERM; a second signal ends them at once.
constexpr Duration kDrain = std::chrono::seconds(10);

// And how long the disk may take for what of them is kept.
constexpr Duration kKeeping = std::chrono::seconds(2);

struct Address {
  std::string host;
  std::uint16_t port = 0;
};

Result<Address> parse_listen(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  unsigned port = 0;
  const auto wrong = [&] {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("cannot listen on \"{}\": write HOST:PORT, as in 127.0.0.1:11435", text),
                "invalid_listen");
  };
  if (colon == std::string::npos) return wrong();
  const std::string digits = text.substr(colon + 1);
  if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos)
    return wrong();
  port = static_cast<unsigned>(std::stoul(digits));
  if (port > 65535) return wrong();
  std::string host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) return wrong();
  return Address{host, static_cast<std::uint16_t>(port)};
}

Result<config::Loaded> read_configuration(const fs::path& chosen) {
  LM_TRY(auto sources, config::find_sources(chosen.empty() ? std::nullopt : std::optional(chosen),
                                            fs::current_path(), config::process_environment()));
  LM_TRY(auto loaded, config::load(sources));
  LM_TRY(auto warnings, config::read_key_files(loaded.config));
  loaded.warnings.insert(loaded.warnings.end(), warnings.begin(), warnings.end());
  return loaded;
}

std::string_view level_name(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::kDebug:
      return "debug";
    case config::LogLevel::kInfo:
      return "info";
    case config::LogLevel::kWarning:
      return "warning";
    case config::LogLevel::kError:
      return "error";
  }
  return "info";
}

struct Home {
  os::Folders folders;
  os::LockFile lock;
};

Result<Home> take_home(os::Folders folders) {
  LM_TRY_VOID(os::make_private_folders(folders.data));
  auto lock = os::LockFile::acquire(folders.data / "lock");
  if (!lock) {
    return fail(
        std::move(lock).error().with_context(fmt::format("another daemon uses {}", folders.data.string())));
  }
  return Home{std::move(folders), *std::move(lock)};
}

// The first private folder that nobody uses, so that what was learned in it is found again.
Result<Home> take_private_home(const os::Folders& folders) {
  for (int number = 0; number < kMostPrivate; ++number) {
    const std::string name = std::to_string(number);
    os::Folders one = folders.with_data(folders.data / "private" / name);
    one.runtime = folders.runtime / "private" / name;
    auto home = take_home(std::move(one));
    if (home || home.error().reason != "locked") return home;
  }
  return fail(ErrorCode::kResourceExhausted,
              fmt::format("{} private daemons run already for this user", kMostPrivate), "too_many_daemons");
}

// The log's file goes on.
void silence_standard_error() {
  const os::UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (nowhere) ::dup2(nowhere.get(), STDERR_FILENO);
}

// Beside us, unless somebody names another one (tests, packagers).
Result<fs::path> find_worker() {
  if (const char* named = std::getenv("LLM_MANAGER_WORKER")) return fs::path(named);
  LM_TRY(const fs::path self, os::own_executable());
  return self.parent_path() / "llm-worker";
}

http::ServerOptions server_options(const config::Config& config) {
  http::ServerOptions options;
  options.limits.body = config.server.limits.body;
  options.limits.header_time = config.server.limits.header_timeout;
  options.limits.idle = config.server.limits.idle_timeout;
  options.limits.connections = static_cast<std::size_t>(config.server.limits.connections);
  options.admission.host_names = config.server.allowed_hosts;
  options.admission.origins = config.server.allowed_origins;
  if (!config.server.user_key.value.empty())
    options.admission.user_keys.push_back(config.server.user_key.value.reveal());
  if (!config.server.admin_key.value.empty())
    options.admission.admin_keys.push_back(config.server.admin_key.value.reveal());
  for (const auto& [name, client] : config.server.clients)
    options.admission.clients.push_back({.name = name, .key = client.key.value.reveal()});
  options.error_body = api::error_body;
  return options;
}

// The whole life of the daemon, in order.
class Daemon {
 public:
  Daemon(asio::any_io_executor executor, const ServeOptions& options, Address address, config::Loaded config,
         runtime::Places places)
      : executor_(executor),
        options_(options),
        address_(std::move(address)),
        signals_(executor),
        socket_(places.run / "daemon.sock"),
        transcripts_({.executor = executor, .unix_ms = unix_time_ms}, places.data),
        runtime_(executor, clock_, std::move(places), std::move(config),
                 [this] { return reread_configuration(); }) {}

  // An error where it could not start.
  Task<Result<void>> live() {
    if (is_private()) {
      auto held = os::Lifeline::hold(executor_, os::UniqueFd(options_.lifeline), [this] { be_orphaned(); });
      LM_CO_TRY(auto lifeline, std::move(held));
      lifeline_.emplace(std::move(lifeline));
    }
    runtime_.write_switches_with(api::switch_report);
    LM_CO_TRY_VOID(co_await runtime_.start());
    if (auto listening = open_doors(); !listening) {
      co_await runtime_.stop(Duration());
      co_return listening;
    }
    co_await attend_signals();
    if (orphaned_) {
      log::info("stopping: whoever this daemon was started for has gone");
    } else {
      log::info("stopping: running answers may end within {:.0f} s", seconds(kDrain));
    }
    co_await close_doors();
    log::info("stopped");
    co_return Result<void>();
  }

 private:
  Result<void> open_doors() {
    const config::Config& config = runtime_.config().config;
    http::Router router;
    api::add_front_door(router, dashboard());
    api::add_inference_routes(router, runtime_, transcripts_);
    api::add_manager_routes(router, runtime_, facts_);
    api::add_ollama_routes(router, runtime_, facts_);
    api::add_pull_routes(router, runtime_);
    api::add_conversation_routes(router, transcripts_);
    api::add_status_routes(router, runtime_, facts_);
    http::ServerOptions options = server_options(config);
    socketio_.emplace(executor_, clock_, runtime_, options);
    socketio_->add_routes(router);
    server_.emplace(executor_, std::move(router), std::move(options));
    LM_TRY(const std::string listening, listen());
    facts_.listening = {listening};
    facts_.started_at = clock_.now();
    log::info("llm-manager {} with engine {}, {} models", version(), runtime_.engine(),
              runtime_.catalog().models().size());
    // Reading options, YAML and model folders is over: half of the resident memory was code that ran once.
    if (const auto released = os::release_program_text(); !released)
      log::debug("code that only the start needed stays in memory: {}", released.error().message);
    fmt::print("listening on {}\n", listening);
    if (!is_private()) fmt::print("\n{}", next_steps(listening, runtime_.catalog()));
    if (!is_private() && facts_.has_dashboard) fmt::print("Or in a browser: {}/\n", listening);
    std::fflush(stdout);
    if (is_private()) silence_standard_error();
    return {};
  }

  // The address, as people write it.
  Result<std::string> listen() {
    if (is_private()) {
      LM_TRY_VOID(os::check_socket_path(socket_));
      LM_TRY_VOID(server_->listen_unix(socket_));
      return "unix:" + socket_.string();
    }
    LM_TRY(const std::string bound, server_->listen_tcp(address_.host, address_.port));
    return "http://" + bound;
  }

  bool is_private() const { return options_.lifeline >= 0; }

  void be_orphaned() {
    orphaned_ = true;
    signals_.close();
  }

  Result<config::Loaded> reread_configuration() const {
    if (options_.config == "-") {
      return fail(ErrorCode::kFailedPrecondition,
                  "it came by standard input, which cannot be read a second time", "not_a_file");
    }
    return read_configuration(options_.config);
  }

  Task<> attend_signals() {
    for (;;) {
      const auto signal = co_await signals_.next();
      if (!signal || *signal != os::DaemonSignal::kHangup) co_return;
      const auto news = runtime_.reload();
      if (!news) {
        log::error("the configuration was not reloaded: {}", news.error().message);
        continue;
      }
      for (const std::string& change : news->changes) log::info("reloaded: {}", change);
      if (news->changes.empty()) log::info("reloaded: nothing changed in the configuration");
    }
  }

  // New work is refused first, then answers end, then workers, then the doors close behind the last client.
  Task<> close_doors() {
    Latch no_more_signals(executor_);
    asio::co_spawn(executor_, hear_impatience(),
                   [no_more_signals](std::exception_ptr) mutable { no_more_signals.open(); });
    co_await runtime_.stop(orphaned_ ? Duration() : kDrain);
    co_await socketio_->stop();
    co_await server_->stop(orphaned_ ? Duration() : std::chrono::seconds(1));
    co_await transcripts_.close(kKeeping);
    signals_.close();
    co_await no_more_signals.wait(std::chrono::seconds(1));
  }

  Task<> hear_impatience() {
    while (const auto signal = co_await signals_.next()) {
      if (*signal == os::DaemonSignal::kHangup) continue;
      log::info("told to stop again: running answers are cut");
      runtime_.stop_at_once();
    }
  }

  asio::any_io_executor executor_;
  const ServeOptions& options_;
  Address address_;
  SteadyClock clock_;
  os::SignalEvents signals_;
  std::filesystem::path socket_;  // of a private daemon
  bool orphaned_ = false;
  runtime::TranscriptKeeper transcripts_;
  runtime::Runtime runtime_;
  api::DaemonFacts facts_{.version = std::string(version()),
                          .listening = {},
                          .started_at = {},
                          .has_dashboard = !dashboard().empty()};
  std::optional<api::SocketIoDoor> socketio_;
  std::optional<http::Server> server_;
  std::optional<os::Lifeline> lifeline_;
};

}  // namespace

std::expected<void, NotStarted> serve(const ServeOptions& options) {
  const auto cannot_start = [](Error error) {
    return std::unexpected(NotStarted{NotStarted::kCannotStart, std::move(error)});
  };
  auto loaded = read_configuration(options.config);
  if (!loaded) return std::unexpected(NotStarted{NotStarted::kWrongSettings, std::move(loaded).error()});
  auto address = parse_listen(options.listen.empty() ? loaded->config.server.listen : options.listen);
  if (!address) return std::unexpected(NotStarted{NotStarted::kWrongSettings, std::move(address).error()});

  auto standard = os::Folders::standard();
  if (!standard) return cannot_start(std::move(standard).error());
  if (!options.data.empty()) standard = standard->with_data(fs::absolute(options.data));
  auto worker = find_worker();
  if (!worker) return cannot_start(std::move(worker).error());
  auto home = options.lifeline >= 0 ? take_private_home(*standard) : take_home(*standard);
  if (!home) return cannot_start(std::move(home).error());
  const os::Folders& folders = home->folders;
  const fs::path log_file =
      loaded->config.log.file.empty() ? folders.data / "llm-manager.log" : fs::path(loaded->config.log.file);
  if (auto opened = log::open(
          options.log_level.empty() ? level_name(loaded->config.log.level) : options.log_level, log_file);
      !opened) {
    return cannot_start(std::move(opened).error());
  }
  if (const auto left_by = home->lock.left_by())
    log::warning("the last daemon (process {}) did not end by itself; what it left behind is cleared",
                 *left_by);
  os::ignore_broken_pipes();
  // The room of a large body goes back to the system with it. Left to itself glibc raises this bound to 32
  // MiB once such a block was freed, and takes the next from a heap that keeps what it has.
  ::mallopt(M_MMAP_THRESHOLD, 256 << 10);

  // What takes minutes to import is shared by all private daemons.
  runtime::Places places{.data = folders.data,
                         .run = folders.runtime,
                         .worker = *worker,
                         .importer = worker->parent_path() / "llm-importer",
                         .imports = standard->data / "imported",
                         .log_file = log_file,
                         .model_folders = {},
                         .recording = options.record};
  if (const char* named = std::getenv("LLM_MANAGER_EVENT_LOG"); named != nullptr && places.recording.empty())
    places.recording = named;
  if (const char* named = std::getenv("LLM_MANAGER_NVML")) places.nvml = named;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) places.visible_cuda = visible;
  for (const fs::path& folder : options.models) places.model_folders.push_back(fs::absolute(folder));
  // What `scripts/bootstrap` and `pull` fetch lies here.
  places.fetched = folders.cache / "models";

  asio::io_context context(1);
  Result<void> lived;
  {
    Daemon daemon(context.get_executor(), options, *std::move(address), *std::move(loaded),
                  std::move(places));
    asio::co_spawn(context, daemon.live(), [&](std::exception_ptr broken, Result<void> result) {
      lived = std::move(result);
      if (broken) {
        try {
          std::rethrow_exception(broken);
        } catch (const std::exception& e) {
          log::error("the daemon ended on an exception: {}", e.what());
          lived = fail(ErrorCode::kInternal, fmt::format("the daemon ended on an exception: {}", e.what()));
        }
      }
      context.stop();
    });
    context.run();
  }
  if (lived) return {};
  const std::string& reason = lived.error().reason;
  const bool wrong_settings = reason == "keys_needed" || reason == "bad_address";
  return std::unexpected(NotStarted{wrong_settings ? NotStarted::kWrongSettings : NotStarted::kCannotStart,
                                    std::move(lived).error()});
}

}  // namespace lm::app

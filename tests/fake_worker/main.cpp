// fake-worker: llm-worker's place is taken by it in tests (LLM_MANAGER_WORKER). Arguments as llm-worker's,
// and
// --greeting normal|silent|garbage|endless_line|wrong_protocol|death for what happens before any model is
// known, --variant cuda for what it was built for; tests pass both by a script around it.
#include <charconv>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <fmt/format.h>

#include "answers.h"
#include "behaviour.h"
#include "held_memory.h"
#include "http/server.h"
#include "load.h"
#include "os/file.h"
#include "os/socket.h"
#include "wire/codec.h"

namespace lm::fake {
namespace {

namespace asio = boost::asio;

struct Arguments {
  int link = -1;
  std::string socket;
  bool sandbox = false;
  std::string greeting = "normal";
  std::string variant = "cpu";
  std::string card_folder;
};

std::string socket_to_unlink;

// As the real one: no destructors, the process is the unit that gives memory back.
[[noreturn]] void end() {
  if (!socket_to_unlink.empty()) ::unlink(socket_to_unlink.c_str());
  ::_exit(0);
}

class Worker {
 public:
  Worker(asio::any_io_executor executor, Arguments arguments)
      : executor_(executor),
        arguments_(std::move(arguments)),
        link_(executor, os::UniqueFd(arguments_.link)) {}

  Task<> live() {
    co_await greet();
    for (;;) {
      const auto line = co_await link_.read_line(std::size_t{4} << 20);
      if (!line) {
        if (immortal_) co_await hang();
        end();
      }
      const auto order = wire::decode_to_worker(*line);
      if (!order || !*order) continue;
      if (const auto* load = std::get_if<wire::Load>(&**order)) {
        spawn(obey(*load));
      } else if (const auto* inspection = std::get_if<wire::Inspect>(&**order)) {
        co_await inspect(*inspection);
        if (arguments_.sandbox) end();
      } else if (std::holds_alternative<wire::ListDevices>(**order)) {
        open_card();
        say(wire::DevicesListed{});
      } else {
        end();
      }
    }
  }

 private:
  // What a context on a card holds, as the stand-in of the driver is told.
  void open_card() const {
    if (!arguments_.card_folder.empty()) hold_on_card(arguments_.card_folder, "0", mib(300));
  }

  void say(const wire::FromWorker& message) {
    std::string line = wire::encode(message);
    line.pop_back();
    if (!link_.write_line(line) && !immortal_) end();
  }

  void spawn(Task<> task) {
    asio::co_spawn(executor_, std::move(task), asio::detached);  // lives as long as the process
  }

  Task<> greet() {
    const std::string& how = arguments_.greeting;
    if (how == "silent") co_await hang();
    if (how == "death") ::_exit(7);
    if (how == "garbage") {
      link_.write_line("hello, I am a worker");
      co_await hang();
    }
    if (how == "endless_line") co_await never_end_a_line();
    say(wire::Hello{.protocol = how == "wrong_protocol" ? wire::kProtocol + 1 : wire::kProtocol,
                    .engine = "fake",
                    .variant = arguments_.variant,
                    .build = "for tests",
                    .pid = ::getpid()});
  }

  // The link's own writer refuses what this needs: bytes without an end.
  Task<> never_end_a_line() {
    const std::string much(std::size_t{64} << 10, 'x');
    for (;;) {
      if (::write(arguments_.link, much.data(), much.size()) < 0 && errno == EPIPE) end();
      co_await pause(std::chrono::milliseconds(1));
    }
  }

  Task<> inspect(wire::Inspect order) {
    const auto behaviour = Behaviour::read(order.path);
    if (!behaviour) {
      say(wire::Failed{.generation = {}, .inspection = order.id, .error = behaviour.error()});
    } else {
      co_await pause(behaviour->inspect_time);
      if (behaviour->crash_at == Moment::kInspection) crash(*behaviour);
      if (behaviour->hang_at == Moment::kInspection) co_await hang();
      if (!behaviour->fail_inspection.empty()) {
        say(wire::Failed{
            .generation = {}, .inspection = order.id, .error = failure(behaviour->fail_inspection)});
      } else {
        say(inspected(order, *behaviour));
      }
    }
    co_await link_.flush();
  }

  Task<> obey(wire::Load order) {
    auto behaviour = read_for_load(order.path);
    if (!behaviour) {
      say(wire::Failed{.generation = order.generation, .inspection = 0, .error = behaviour.error()});
      co_return;
    }
    if (behaviour->ignore_sigterm || behaviour->hang_at == Moment::kStop) ::signal(SIGTERM, SIG_IGN);
    immortal_ = behaviour->hang_at == Moment::kStop;
    if (behaviour->silent) co_await hang();
    if (behaviour->garbage) {
      link_.write_line("{\"kind\": \"ready\", \"generation\": \"soon\"}");
      co_return;
    }
    if (behaviour->endless_line) co_await never_end_a_line();
    if (behaviour->unknown_kind) link_.write_line("{\"kind\": \"weather\", \"degrees\": 21}");
    if (!behaviour->fail.empty()) {
      say(wire::Progress{.generation = order.generation, .stage = LoadStage::kMetadata, .fraction = 0});
      co_await pause(behaviour->stage_time);
      say(wire::Failed{.generation = order.generation, .inspection = 0, .error = failure(behaviour->fail)});
      co_return;
    }
    wire::Ready ready =
        co_await load(order, *behaviour, memory_, [this](const wire::FromWorker& m) { say(m); });
    if (behaviour->wrong_generation) {
      ready.generation = Generation(order.generation.value() + 1000);
      say(ready);
      co_await hang();
    }
    if (!behaviour->ready_before_socket) {
      answers_.emplace(executor_, *behaviour, order.alias);
      server_.emplace(executor_, answers_->router(), http::ServerOptions());
      if (auto listening = server_->listen_unix(arguments_.socket); !listening) {
        std::fprintf(stderr, "fake-worker: %s\n", listening.error().message.c_str());
        ::_exit(5);
      }
      socket_to_unlink = arguments_.socket;
    }
    say(ready);
    if (behaviour->ready_twice) say(ready);
  }

  asio::any_io_executor executor_;
  Arguments arguments_;
  os::LineLink link_;
  HeldMemory memory_;
  std::optional<Answers> answers_;
  std::optional<http::Server> server_;
  bool immortal_ = false;  // outlives its link
};

std::optional<Arguments> parse(const std::vector<std::string_view>& given) {
  Arguments arguments;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto value = [&] { return i + 1 < given.size() ? given[++i] : std::string_view(); };
    if (given[i] == "--link-fd") {
      const std::string_view text = value();
      if (std::from_chars(text.data(), text.data() + text.size(), arguments.link).ec != std::errc())
        return std::nullopt;
    } else if (given[i] == "--socket") {
      arguments.socket = value();
    } else if (given[i] == "--greeting") {
      arguments.greeting = value();
    } else if (given[i] == "--variant") {
      arguments.variant = value();
    } else if (given[i] == "--card-folder") {
      arguments.card_folder = value();
    } else if (given[i] == "--inspect-sandbox") {
      arguments.sandbox = true;
    } else {
      return std::nullopt;
    }
  }
  if (arguments.link < 0 || (arguments.socket.empty() && !arguments.sandbox)) return std::nullopt;
  return arguments;
}

}  // namespace
}  // namespace lm::fake

int main(int argc, char** argv) {
  const auto arguments = lm::fake::parse({argv + 1, argv + argc});
  if (!arguments) {
    std::fputs("usage: fake-worker --link-fd N (--socket PATH | --inspect-sandbox) [--greeting HOW]\n",
               stderr);
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTERM, [](int) { lm::fake::end(); });
  boost::asio::io_context context(1);
  lm::fake::Worker worker(context.get_executor(), *arguments);
  boost::asio::co_spawn(context, worker.live(), boost::asio::detached);
  context.run();
}

#include "cli/daemon.h"

#include <exception>
#include <optional>
#include <unistd.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/serialize.hpp>

namespace lm::cli {
namespace {

constexpr std::size_t kLargestAnswer = std::size_t{256} << 20;
constexpr auto kTick = std::chrono::milliseconds(100);

http::Timeouts timeouts_of(Patience patience) {
  using std::chrono::seconds;
  switch (patience) {
    case Patience::kQuick:
      return {.connect = seconds(2), .first_byte = seconds(2), .silence = seconds(2)};
    case Patience::kShort:
      return {.connect = seconds(5), .first_byte = seconds(30), .silence = seconds(30)};
    case Patience::kEndless:
      break;
  }
  return {.connect = seconds(5), .first_byte = Duration::max(), .silence = Duration::max()};
}

bool is_event_stream(const http::Headers& headers) {
  return headers.get("Content-Type").value_or("").starts_with("text/event-stream");
}

}  // namespace

// One call under way. It outlives the io_context's coroutine, which writes into it.
struct Daemon::Call {
  http::Endpoint endpoint;
  http::ClientRequest request;
  http::Timeouts timeouts;
  Streaming streaming;
  Answer answer;
  Result<void> result;

  static Task<void> run(boost::asio::any_io_executor executor, Call* call) {
    call->result = co_await call->make(executor);
  }

  Task<Result<void>> make(boost::asio::any_io_executor executor) {
    http::Client client(executor, endpoint);
    LM_CO_TRY(http::ClientResponse response, co_await client.send(request, timeouts));
    answer.status = response.status();
    if (!streaming.on_event || answer.status >= 400 || !is_event_stream(response.headers())) {
      LM_CO_TRY(answer.body, co_await response.read_all(kLargestAnswer));
      if (streaming.on_event && answer.status < 400)
        streaming.on_event({.event = {}, .data = answer.body, .id = {}});
      co_return Result<void>();
    }
    bool enough = false;
    http::SseParser parser([&](const http::SseEvent& event) {
      if (!enough && !streaming.on_event(event)) enough = true;
    });
    while (!enough) {
      LM_CO_TRY(const auto piece, co_await response.read());
      if (!piece) break;
      LM_CO_TRY_VOID(parser.feed(*piece));
    }
    co_return Result<void>();
  }
};

Result<Daemon> Daemon::at(std::string_view url, std::string api_key, Interrupts* interrupts) {
  std::string whole(url);
  if (whole.find("://") == std::string::npos && !whole.starts_with("unix:")) whole.insert(0, "http://");
  LM_TRY(http::Endpoint endpoint, http::Endpoint::parse(whole));
  return Daemon(std::move(endpoint), std::move(api_key), interrupts);
}

Result<Daemon::Answer> Daemon::run(http::ClientRequest request, http::Timeouts timeouts,
                                   Streaming streaming) {
  if (!api_key_.empty()) request.headers.set("Authorization", "Bearer " + api_key_);
  request.headers.set("User-Agent", "llm-manager");
  if (!client_name_.empty()) request.headers.set("X-Client-Name", client_name_);
  Call call{.endpoint = endpoint_,
            .request = std::move(request),
            .timeouts = timeouts,
            .streaming = std::move(streaming),
            .answer = {},
            .result = {}};
  bool interrupted = false;
  std::exception_ptr thrown;
  {
    boost::asio::io_context context(1);
    boost::asio::co_spawn(context, Call::run(context.get_executor(), &call), [&](std::exception_ptr error) {
      thrown = error;
      context.stop();
    });
    std::optional<boost::asio::posix::stream_descriptor> ctrl_c;
    if (interrupts_ != nullptr) {
      ctrl_c.emplace(context, interrupts_->descriptor());
      ctrl_c->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [&](const boost::system::error_code& error) {
                           if (error) return;
                           interrupted = true;
                           context.stop();
                         });
    }
    boost::asio::steady_timer timer(context);
    std::function<void()> arm = [&] {
      timer.expires_after(kTick);
      timer.async_wait([&](const boost::system::error_code& error) {
        if (error) return;
        call.streaming.on_tick();
        arm();
      });
    };
    if (call.streaming.on_tick) arm();
    context.run();
    // The descriptor belongs to Interrupts. What still waits dies with the context, the connection too.
    if (ctrl_c) ctrl_c->release();
  }
  if (interrupted) {
    interrupts_->take();
    return fail(ErrorCode::kCancelled, "interrupted", "interrupted");
  }
  if (thrown) std::rethrow_exception(thrown);
  LM_TRY_VOID(call.result);
  return std::move(call.answer);
}

Outcome<std::string> Daemon::ask(http::ClientRequest request, Patience patience) {
  auto answer = run(std::move(request), timeouts_of(patience), {});
  if (!answer) return std::unexpected(failure_of_network(answer.error(), address()));
  if (answer->status >= 400)
    return std::unexpected(failure_of_answer(answer->status, answer->body, address()));
  return std::move(answer->body);
}

Outcome<std::string> Daemon::get(std::string target, Patience patience) {
  return ask({.method = http::Method::kGet,
              .target = std::move(target),
              .headers = {{"Accept", "application/json"}},
              .body = {}},
             patience);
}

Outcome<std::string> Daemon::post(std::string target, const boost::json::object& body, Patience patience) {
  return ask({.method = http::Method::kPost,
              .target = std::move(target),
              .headers = {{"Accept", "application/json"}, {"Content-Type", "application/json"}},
              .body = boost::json::serialize(body)},
             patience);
}

Outcome<std::string> Daemon::patch(std::string target, const boost::json::object& body) {
  return ask({.method = http::Method::kPatch,
              .target = std::move(target),
              .headers = {{"Accept", "application/json"}, {"Content-Type", "application/json"}},
              .body = boost::json::serialize(body)},
             Patience::kShort);
}

Outcome<std::string> Daemon::remove(std::string target) {
  return ask({.method = http::Method::kDelete,
              .target = std::move(target),
              .headers = {{"Accept", "application/json"}},
              .body = {}},
             Patience::kShort);
}

Outcome<void> Daemon::stream(http::ClientRequest request, Streaming streaming) {
  auto answer = run(std::move(request), timeouts_of(Patience::kEndless), std::move(streaming));
  if (!answer) return std::unexpected(failure_of_network(answer.error(), address()));
  if (answer->status >= 400)
    return std::unexpected(failure_of_answer(answer->status, answer->body, address()));
  return {};
}

http::ClientRequest event_request(std::string target, const boost::json::object& body) {
  return {.method = http::Method::kPost,
          .target = std::move(target),
          .headers = {{"Accept", "text/event-stream"}, {"Content-Type", "application/json"}},
          .body = boost::json::serialize(body)};
}

}  // namespace lm::cli

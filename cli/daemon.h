// The daemon as the commands see it: one call, one answer. Everything here blocks the calling thread until
// the answer is complete, Ctrl-C, or a time limit.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "cli/failure.h"
#include "cli/interrupts.h"
#include "http/client.h"
#include "http/sse.h"

namespace lm::cli {

// How long a silent daemon is waited for. Calls that end when a model is ready, or has gone, are ended by
// people instead.
enum class Patience { kShort, kQuick, kEndless };  // 30 s, 2 s (completion, doctor), until Ctrl-C

class Daemon {
 public:
  // `url`: "http://host:port", "host:port", "unix:///path". kInvalidArgument "bad_url". An empty key sends
  // none. `interrupts` must outlive it; null: Ctrl-C ends the program.
  static Result<Daemon> at(std::string_view url, std::string api_key, Interrupts* interrupts);

  // Who holds and decisions name: "ada (llm-manager)".
  void set_client_name(std::string name) { client_name_ = std::move(name); }
  // For people.
  std::string address() const { return endpoint_.text(); }

  // The body of the answer. Statuses of 400 and above are failures.
  Outcome<std::string> get(std::string target, Patience patience = Patience::kShort);
  Outcome<std::string> post(std::string target, const boost::json::object& body,
                            Patience patience = Patience::kShort);
  Outcome<std::string> patch(std::string target, const boost::json::object& body);
  Outcome<std::string> remove(std::string target);

  struct Streaming {
    // Return false to have enough: the connection is closed, and the call returns well.
    std::function<bool(const http::SseEvent&)> on_event;
    // About every 100 ms, for clocks that run on the screen. May be empty.
    std::function<void()> on_tick;
  };
  // Server-sent events as they come; returns at the stream's end. An answer that is no stream is one event
  // with an empty name. Ctrl-C is the failure kInterrupted.
  Outcome<void> stream(http::ClientRequest request, Streaming streaming);

 private:
  Daemon(http::Endpoint endpoint, std::string api_key, Interrupts* interrupts)
      : endpoint_(std::move(endpoint)), api_key_(std::move(api_key)), interrupts_(interrupts) {}

  struct Answer {
    int status = 0;
    std::string body;
  };
  struct Call;
  Result<Answer> run(http::ClientRequest request, http::Timeouts timeouts, Streaming streaming);
  Outcome<std::string> ask(http::ClientRequest request, Patience patience);

  http::Endpoint endpoint_;
  std::string api_key_;
  std::string client_name_;
  Interrupts* interrupts_;
};

// A POST of that object, asking for events.
http::ClientRequest event_request(std::string target, const boost::json::object& body);

}  // namespace lm::cli

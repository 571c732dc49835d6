// What stands behind a client: its daemon, its thread, and the calls that are under way.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <boost/system/system_error.hpp>

#include "base/task.h"
#include "client/codec.h"
#include "client/conversation.h"
#include "client/private_daemon.h"
#include "client/telling.h"
#include "http/client.h"
#include "http/sse.h"
#include "llm_manager/client.h"

namespace lm::client {

// The thread of a session, and what it runs.
struct Loop {
  boost::asio::io_context context{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{context.get_executor()};
  std::thread thread;
};

}  // namespace lm::client

// Everything but `loop` is touched on the loop's thread only.
struct llm_manager::Call::State {
  std::weak_ptr<lm::client::Loop> loop;  // weak: what the loop has yet to run may hold this
  boost::asio::cancellation_signal signal{};
  bool cancelled = false;
  bool ended = false;
};

// Shared by the copies of a client. open(), start(), wait() and close() from any thread; the operations,
// which are coroutines, on its own.
class llm_manager::Client::Session {
 public:
  template <class T>
  using Operation = std::function<lm::Task<Result<T>>(Session&)>;

  static Result<std::shared_ptr<Session>> open(const Options& options);
  ~Session() { close(); }

  void close();
  bool closed() const;
  const std::string& address() const { return address_; }
  int private_daemon() const { return daemon_ ? daemon_->pid() : 0; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  void set_retriever(std::shared_ptr<Retriever> retriever);
  ConversationStats stats() const;
  // On the caller's thread: the passages that the retriever has for it.
  void retrieve(Question& question) const;

  template <class T>
  Call start(Operation<T> operation, Done<T> done) {
    auto refused = refusal();
    if (refused) {
      done(std::unexpected(*std::move(refused)));
      return {};
    }
    auto state = std::make_shared<Call::State>(loop_);
    const std::function<void(Error)> refuse = [done](Error error) {
      done(std::unexpected(std::move(error)));
    };
    launch(
        state,
        [this, operation = std::move(operation), done = std::move(done)] {
          return run<T>(this, operation, done);
        },
        refuse);
    return Call(std::move(state));
  }

  template <class T>
  Result<T> wait(Operation<T> operation, std::stop_token stop = {}) {
    if (std::this_thread::get_id() == loop_->thread.get_id()) return std::unexpected(own_thread());
    // Shared, since its setter may still be inside when its getter goes on.
    const auto promise = std::make_shared<std::promise<Result<T>>>();
    auto future = promise->get_future();
    const Call call = start<T>(std::move(operation),
                               [promise](Result<T> result) { promise->set_value(std::move(result)); });
    const std::stop_callback on_stop(stop, [call] { call.cancel(); });
    return future.get();
  }

  // Counted in the statistics, however it ends.
  lm::Task<Result<Answer>> answer(Question question, OnText on_text);
  lm::Task<Result<Embeddings>> embed(std::vector<std::string> texts, std::size_t batch, std::string model);
  lm::Task<Result<Change>> optimize(std::vector<std::string> keep);
  lm::Task<Result<ModelInfo>> model(std::string name);
  lm::Task<Result<void>> follow_events(OnEvent on_event);
  // The answer's body; statuses of 400 and above are errors. The forms that take long wait as long as the
  // daemon does, whose own deadlines end everything.
  lm::Task<Result<std::string>> get(std::string target);
  lm::Task<Result<std::string>> post(std::string target, boost::json::object body);
  lm::Task<Result<Change>> change(std::string target, boost::json::object body);

 private:
  enum class Patience : std::uint8_t { kShort, kAsTheDaemon };
  // Returns false to have enough.
  using OnSse = std::function<Result<void>(const lm::http::SseEvent&)>;

  Session() = default;

  std::optional<Error> refusal() const;
  static Error own_thread();
  void launch(const std::shared_ptr<Call::State>& state, std::function<lm::Task<void>()> make,
              const std::function<void(Error)>& refuse);
  void begin(const std::shared_ptr<Call::State>& state, const std::function<lm::Task<void>()>& make);
  void ended(const std::shared_ptr<Call::State>& state);

  template <class T>
  static lm::Task<void> run(Session* self, Operation<T> operation, Done<T> done) {
    Result<T> result = std::unexpected(
        Error{.code = ErrorCode::kCancelled, .message = "cancelled", .reason = "cancelled", .details = {}});
    try {
      result = co_await operation(*self);
    } catch (const boost::system::system_error& e) {
      // Asio's way to say that a coroutine was cancelled.
      if (e.code() != boost::asio::error::operation_aborted) throw;
    }
    done(std::move(result));
  }

  lm::Task<Result<std::string>> ask(lm::http::Method method, std::string target, std::string body,
                                    Patience patience);
  lm::Task<Result<void>> stream(lm::http::ClientRequest request, lm::http::Timeouts timeouts, OnSse on_event);
  lm::Task<Result<Answer>> answer_uncounted(Question question, OnText on_text);
  // One request's part of an answer.
  lm::Task<Result<void>> ask_chat(boost::json::object body, lm::client::Telling* telling, Answer* answer);
  // An answer that came to its end too early goes on: for so many tokens it must, then it may.
  lm::Task<Result<void>> go_on(boost::json::object body, int must, std::optional<int> may,
                               lm::client::Telling* telling, Answer* answer);
  lm::Task<Result<std::size_t>> first_turn_that_fits(Question question);
  lm::Task<Result<int>> count_tokens(Question question, std::size_t first);
  lm::Task<Result<Embeddings>> embed_once(std::vector<std::string> texts, std::string model);
  lm::http::Headers headers() const;
  Error network_error(const lm::Error& error) const;

  std::shared_ptr<lm::client::Loop> loop_ = std::make_shared<lm::client::Loop>();
  int process_ = 0;  // that opened it
  std::string address_, api_key_, client_name_;
  std::vector<std::string> warnings_;
  std::optional<int> max_tokens_, min_tokens_;  // of vtuber.response
  lm::client::Filters filters_;
  std::unique_ptr<lm::client::PrivateDaemon> daemon_;
  std::optional<lm::http::Client> http_;

  std::mutex closing_;  // held by whoever closes
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  bool closed_ = false;
  std::set<std::shared_ptr<Call::State>> calls_;
  std::shared_ptr<Retriever> retriever_;
  lm::client::Conversation conversation_;
};

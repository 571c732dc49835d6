// A program's way to its models: asks the daemon that owns them, and starts one of its own where none is
// named.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "llm_manager/error.h"
#include "llm_manager/export.h"
#include "llm_manager/options.h"
#include "llm_manager/question.h"
#include "llm_manager/status.h"

namespace llm_manager {

// A call under way. Copies are the same call; dropping them all does not end it.
class LLM_MANAGER_API Call {
 public:
  Call() = default;
  // Its `done` hears kCancelled, unless it has ended before. Does not wait. The model's slot is free again
  // within two seconds.
  void cancel() const;

  struct State;
  explicit Call(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

// Finds passages for a question. Called on the thread that asks, from several at a time.
class LLM_MANAGER_API Retriever {
 public:
  virtual ~Retriever();
  virtual std::vector<Passage> search(const std::string& query, int most) = 0;
};

// Thread-safe; copies are the same client. It has one thread of its own, on which the callbacks of the
// asynchronous forms run, one after the other: they must not block or throw, nor call a form that waits
// (which then fails with kFailedPrecondition "own_thread").
//
// Every `done` is called exactly once, from that thread, or from the caller's where the call cannot begin
// (closed, forked). A child made by fork() has no client: its calls are kFailedPrecondition "forked".
//
// Errors of every call: the daemon's own; kUnavailable "no_daemon" where it has gone; kCancelled;
// kFailedPrecondition "closed".
class LLM_MANAGER_API Client {
 public:
  template <class T>
  using Done = std::function<void(Result<T>)>;
  using OnText = std::function<void(std::string_view piece)>;
  using OnEvent = std::function<void(Event)>;

  // Blocks until the daemon answers; nothing is loaded. Errors: kInvalidArgument "bad_url" or
  // "invalid_config" (every problem, with its line), kNotFound "no_program", kUnavailable "no_daemon" with
  // what the private daemon said, kDeadlineExceeded "start_timeout".
  static Result<Client> open(const Options& options);

  Client();  // closed
  Client(const Client&);
  Client(Client&&) noexcept;
  Client& operator=(const Client&);
  Client& operator=(Client&&) noexcept;
  ~Client();  // as close(), where it is the last copy

  // Ends every call under way, and the private daemon with all that it has started; returns when they are
  // gone. Twice is fine.
  void close();
  bool closed() const;
  // Where the daemon is; and its process where it is a private one, else 0.
  std::string address() const;
  int private_daemon() const;
  // Of the configuration that this client was opened with.
  std::vector<std::string> warnings() const;

  void set_retriever(std::shared_ptr<Retriever> retriever);

  // The whole answer; `on_text` hears its pieces as they come. Loads the model where that is needed, and
  // waits its turn. Out of memory is kResourceExhausted "insufficient_memory".
  Result<Answer> generate(Question question, OnText on_text = {}, std::stop_token stop = {});
  Call generate_async(Question question, OnText on_text, Done<Answer> done);

  // At most `batch` texts are sent at a time; a batch that is too large for memory is halved until it is one.
  Result<Embeddings> embed(std::vector<std::string> texts, std::size_t batch = 32,
                           std::string model = "embedding");
  Call embed_async(std::vector<std::string> texts, std::size_t batch, std::string model,
                   Done<Embeddings> done);

  // The tokenizer of a local model, which is loaded for it.
  Result<std::vector<int>> tokenize(std::string text, bool with_special = false, std::string model = "chat");
  Result<std::string> detokenize(std::vector<int> tokens, std::string model = "chat");
  // The text that the model reads when it is given these messages.
  Result<std::string> apply_chat_template(std::vector<Message> messages, bool add_generation_prompt = true,
                                          std::string model = "chat");

  // Waits until the model is ready. `force`: also where somebody keeps it unloaded.
  Result<Change> load(std::string model = "chat", bool force = false);
  Call load_async(std::string model, bool force, Done<Change> done);
  // Waits until its memory is measured free. A plain unload lets the next request load it again; `hold` keeps
  // it unloaded until an explicit load.
  Result<Change> unload(std::string model = "chat", bool hold = false);
  Call unload_async(std::string model, bool hold, Done<Change> done);
  // Chooses a model: its family gets the devices.
  Result<Change> switch_to(std::string model);
  Call switch_to_async(std::string model, Done<Change> done);
  // Unloads what is ready and idle, other than pinned models and those named; what came back together.
  Result<Change> optimize(std::vector<std::string> keep = {"chat", "embedding"});
  Call optimize_async(std::vector<std::string> keep, Done<Change> done);

  // Waits for nothing.
  ConversationStats conversation_stats() const;

  Result<std::vector<ModelInfo>> models();
  // kNotFound "model_not_found".
  Result<ModelInfo> model(std::string name = "chat");
  Result<std::vector<DeviceInfo>> devices();
  Result<GpuStatus> gpu_status();
  Result<SystemInfo> system();
  // What the daemon finds wrong with this installation.
  Result<std::vector<Check>> diagnose();

  // Every event until it is cancelled or the daemon ends.
  Call events(OnEvent on_event, Done<void> done);

  class Session;

 private:
  explicit Client(std::shared_ptr<Session> session);
  std::shared_ptr<Session> session_;
};

// The program that a private daemon is made of, as Options::program says. kNotFound "no_program".
LLM_MANAGER_API Result<std::filesystem::path> find_program(const std::filesystem::path& named = {});

}  // namespace llm_manager

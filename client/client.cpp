#include "llm_manager/client.h"

#include <algorithm>
#include <mutex>

#include <boost/asio/post.hpp>

#include "client/session.h"

namespace llm_manager {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using Session = Client::Session;

template <class T>
using Operation = Session::Operation<T>;

// Of a client that was never opened.
Error closed_error() {
  return {.code = ErrorCode::kFailedPrecondition,
          .message = "the client is closed",
          .reason = "closed",
          .details = {}};
}

template <class T>
Result<T> wait(const std::shared_ptr<Session>& session, Operation<T> operation, std::stop_token stop = {}) {
  if (!session) return std::unexpected(closed_error());
  return session->wait<T>(std::move(operation), std::move(stop));
}

template <class T>
Call start(const std::shared_ptr<Session>& session, Operation<T> operation, Client::Done<T> done) {
  if (!session) {
    done(std::unexpected(closed_error()));
    return {};
  }
  return session->start<T>(std::move(operation), std::move(done));
}

template <class T>
lm::Task<Result<T>> asked(Session* session, std::string target, Result<T> (*read)(std::string_view)) {
  const auto text = co_await session->get(std::move(target));
  if (!text) co_return std::unexpected(text.error());
  co_return read(*text);
}

// A value that the daemon tells by GET.
template <class T>
Result<T> ask(const std::shared_ptr<Session>& session, const char* target,
              Result<T> (*read)(std::string_view)) {
  return wait<T>(session, [target, read](Session& self) { return asked<T>(&self, target, read); });
}

lm::Task<Result<std::vector<int>>> tokens_of(Session* session, json::object body) {
  const auto text = co_await session->post("/tokenize", std::move(body));
  if (!text) co_return std::unexpected(text.error());
  co_return lm::client::read_tokens(*text);
}

lm::Task<Result<std::string>> text_of(Session* session, const char* target, json::object body,
                                      const char* member) {
  const auto text = co_await session->post(target, std::move(body));
  if (!text) co_return std::unexpected(text.error());
  co_return lm::client::read_member(*text, member);
}

Operation<Change> load_of(std::string model, bool force) {
  return [model = std::move(model), force](Session& self) {
    return self.change("/api/v1/models/load", {{"model", model}, {"force", force}});
  };
}

Operation<Change> unload_of(std::string model, bool hold) {
  return [model = std::move(model), hold](Session& self) {
    return self.change("/api/v1/models/unload", {{"model", model}, {"hold", hold}});
  };
}

Operation<Change> switch_of(std::string model) {
  return
      [model = std::move(model)](Session& self) { return self.change("/api/v1/switch", {{"model", model}}); };
}

Operation<Change> optimize_of(std::vector<std::string> keep) {
  return [keep = std::move(keep)](Session& self) { return self.optimize(keep); };
}

Operation<Embeddings> embed_of(std::vector<std::string> texts, std::size_t batch, std::string model) {
  return [texts = std::move(texts), batch, model = std::move(model)](Session& self) {
    return self.embed(texts, batch, model);
  };
}

Operation<Answer> answer_of(const std::shared_ptr<Session>& session, Question question,
                            Client::OnText on_text) {
  if (session) session->retrieve(question);
  return [question = std::move(question), on_text = std::move(on_text)](Session& self) {
    return self.answer(question, on_text);
  };
}

}  // namespace

Retriever::~Retriever() = default;

void Call::cancel() const {
  const auto loop = state_ ? state_->loop.lock() : nullptr;
  if (!loop) return;
  asio::post(loop->context, [state = state_] {
    state->cancelled = true;
    if (!state->ended) state->signal.emit(asio::cancellation_type::terminal);
  });
}

bool ModelInfo::is_called(const std::string& name) const {
  return id == name || std::ranges::find(aliases, name) != aliases.end() ||
         std::ranges::find(roles, name) != roles.end();
}

Result<std::filesystem::path> find_program(const std::filesystem::path& named) {
  auto program = lm::client::find_program(named);
  if (!program) return std::unexpected(lm::client::to_public(program.error()));
  return *std::move(program);
}

Client::Client() = default;
Client::Client(const Client&) = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(const Client&) = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;
Client::Client(std::shared_ptr<Session> session) : session_(std::move(session)) {}

Result<Client> Client::open(const Options& options) {
  auto session = Session::open(options);
  if (!session) return std::unexpected(std::move(session).error());
  return Client(*std::move(session));
}

void Client::close() {
  if (session_) session_->close();
}

bool Client::closed() const {
  return !session_ || session_->closed();
}

std::string Client::address() const {
  return session_ ? session_->address() : std::string();
}

int Client::private_daemon() const {
  return session_ ? session_->private_daemon() : 0;
}

std::vector<std::string> Client::warnings() const {
  return session_ ? session_->warnings() : std::vector<std::string>();
}

void Client::set_retriever(std::shared_ptr<Retriever> retriever) {
  if (session_) session_->set_retriever(std::move(retriever));
}

Result<Answer> Client::generate(Question question, OnText on_text, std::stop_token stop) {
  return wait<Answer>(session_, answer_of(session_, std::move(question), std::move(on_text)),
                      std::move(stop));
}

Call Client::generate_async(Question question, OnText on_text, Done<Answer> done) {
  return start<Answer>(session_, answer_of(session_, std::move(question), std::move(on_text)),
                       std::move(done));
}

Result<Embeddings> Client::embed(std::vector<std::string> texts, std::size_t batch, std::string model) {
  return wait<Embeddings>(session_, embed_of(std::move(texts), batch, std::move(model)));
}

Call Client::embed_async(std::vector<std::string> texts, std::size_t batch, std::string model,
                         Done<Embeddings> done) {
  return start<Embeddings>(session_, embed_of(std::move(texts), batch, std::move(model)), std::move(done));
}

Result<std::vector<int>> Client::tokenize(std::string text, bool with_special, std::string model) {
  json::object body{{"model", model}, {"content", text}, {"add_special", with_special}};
  return wait<std::vector<int>>(session_,
                                [body = std::move(body)](Session& self) { return tokens_of(&self, body); });
}

Result<std::string> Client::detokenize(std::vector<int> tokens, std::string model) {
  json::object body{{"model", model}, {"tokens", json::array(tokens.begin(), tokens.end())}};
  return wait<std::string>(session_, [body = std::move(body)](Session& self) {
    return text_of(&self, "/detokenize", body, "content");
  });
}

Result<std::string> Client::apply_chat_template(std::vector<Message> messages, bool add_generation_prompt,
                                                std::string model) {
  json::object body{{"model", model},
                    {"messages", lm::client::messages_json(messages)},
                    {"add_generation_prompt", add_generation_prompt}};
  return wait<std::string>(session_, [body = std::move(body)](Session& self) {
    return text_of(&self, "/apply-template", body, "prompt");
  });
}

Result<Change> Client::load(std::string model, bool force) {
  return wait<Change>(session_, load_of(std::move(model), force));
}

Call Client::load_async(std::string model, bool force, Done<Change> done) {
  return start<Change>(session_, load_of(std::move(model), force), std::move(done));
}

Result<Change> Client::unload(std::string model, bool hold) {
  return wait<Change>(session_, unload_of(std::move(model), hold));
}

Call Client::unload_async(std::string model, bool hold, Done<Change> done) {
  return start<Change>(session_, unload_of(std::move(model), hold), std::move(done));
}

Result<Change> Client::switch_to(std::string model) {
  return wait<Change>(session_, switch_of(std::move(model)));
}

Call Client::switch_to_async(std::string model, Done<Change> done) {
  return start<Change>(session_, switch_of(std::move(model)), std::move(done));
}

Result<Change> Client::optimize(std::vector<std::string> keep) {
  return wait<Change>(session_, optimize_of(std::move(keep)));
}

Call Client::optimize_async(std::vector<std::string> keep, Done<Change> done) {
  return start<Change>(session_, optimize_of(std::move(keep)), std::move(done));
}

ConversationStats Client::conversation_stats() const {
  return session_ ? session_->stats() : ConversationStats();
}

Result<std::vector<ModelInfo>> Client::models() {
  return ask(session_, "/api/v1/models", lm::client::read_models);
}

Result<ModelInfo> Client::model(std::string name) {
  return wait<ModelInfo>(session_, [name = std::move(name)](Session& self) { return self.model(name); });
}

Result<std::vector<DeviceInfo>> Client::devices() {
  return ask(session_, "/api/v1/devices", lm::client::read_devices);
}

Result<GpuStatus> Client::gpu_status() {
  auto devices = this->devices();
  if (!devices) return std::unexpected(std::move(devices).error());
  GpuStatus status;
  for (DeviceInfo& device : *devices) {
    if (!device.is_gpu()) {
      status.host = std::move(device);
      continue;
    }
    ++status.count;
    status.total += device.capacity;
    status.available += device.available;
    status.used += device.used;
    status.external += device.external;
    status.devices.push_back(std::move(device));
  }
  return status;
}

Result<SystemInfo> Client::system() {
  return ask(session_, "/api/v1/system", lm::client::read_system);
}

Result<std::vector<Check>> Client::diagnose() {
  return ask(session_, "/api/v1/diagnose", lm::client::read_checks);
}

Call Client::events(OnEvent on_event, Done<void> done) {
  return start<void>(
      session_, [on_event = std::move(on_event)](Session& self) { return self.follow_events(on_event); },
      std::move(done));
}

}  // namespace llm_manager

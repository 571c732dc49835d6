#include "backend/ollama.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "backend/caller.h"
#include "os/addresses.h"
#include "os/listening_processes.h"
#include "wire/ollama.h"

namespace lm::backend {
namespace {

// An idle model is gone 35 ms after it was told to go, a busy one when its answer ends.
constexpr Duration kFirstPoll = std::chrono::milliseconds(20);
constexpr Duration kSlowestPoll = std::chrono::milliseconds(250);
// A model that comes back, or does not go, is told again: at once, then with twice the pause each time.
constexpr Duration kAskAgain = std::chrono::milliseconds(500);
constexpr Duration kAskSeldom = std::chrono::seconds(8);
// Asked for as little as that, whoever takes longer is as good as gone.
constexpr Duration kAnswerLimit = std::chrono::seconds(10);

constexpr std::string_view kLatest = ":latest";

class Ollama final : public UpstreamServer, public std::enable_shared_from_this<Ollama> {
 public:
  Ollama(Caller caller, Upstream upstream, OllamaOptions options)
      : caller_(std::move(caller)), upstream_(std::move(upstream)), options_(std::move(options)) {
    const http::Endpoint& endpoint = caller_.client()->endpoint();
    // It speaks no TLS: behind https is somebody else, whose children hold no models.
    if (upstream_.shares_devices && endpoint.kind == http::Endpoint::Kind::kHttp)
      processes_.emplace(endpoint.host, endpoint.port, "ollama");
  }

  const Upstream& description() const override { return upstream_; }

  Task<Result<Sight>> look() override {
    const auto self = shared_from_this();
    const TimePoint by = now() + options_.look_limit;
    LM_CO_TRY(const auto tags, co_await list("/api/tags", &wire::decode_ollama_tags, by));
    LM_CO_TRY(const auto loaded, co_await list("/api/ps", &wire::decode_ollama_ps, by));
    Sight sight;
    sight.tells_residents = true;
    kinds_.clear();
    for (const wire::OllamaModel& tag : tags) {
      sight.models.push_back(model_of(tag));
      kinds_.emplace(tag.name, tag.kind);
    }
    for (const wire::OllamaModel& one : loaded) {
      const auto known = kinds_.find(one.name);
      sight.residents.push_back({.name = one.name,
                                 .kind = known == kinds_.end() ? one.kind : known->second,
                                 .bytes = one.size,
                                 .accelerated = one.vram});
    }
    co_return sight;
  }

  Task<Result<void>> load(std::string model, Duration limit) override {
    const auto self = shared_from_this();
    const auto known = kinds_.find(model);
    const bool embeds = known != kinds_.end() && known->second == ModelKind::kEmbedding;
    const std::string target = embeds ? "/api/embed" : "/api/generate";
    std::string body = embeds ? wire::encode_ollama_embed(model) : wire::encode_ollama_generate(model, false);
    const auto interruption = std::make_shared<http::Interruption>();
    loading_.push_back(interruption);
    const auto asked = co_await caller_.post(target, std::move(body), now() + limit, interruption);
    // Taken out by yield().
    const bool taken_back = std::erase(loading_, interruption) == 0;
    if (!asked && taken_back) {
      co_return fail(
          ErrorCode::kCancelled,
          fmt::format("{} was told to give its memory back while it loaded {}", upstream_.id.str(), model),
          "load_given_up");
    }
    LM_CO_TRY(const Answer answer, asked);
    if (answer.status == 404) {
      co_return fail(ErrorCode::kNotFound, fmt::format("{} has no model {}", caller_.where(), model),
                     "model_not_found");
    }
    if (!answer.good()) {
      Error error = caller_.unexpected("POST", target, answer);
      error.message = fmt::format("{} could not load {}: {}", upstream_.id.str(), model, error.message);
      co_return fail(std::move(error));
    }
    if (const auto loaded = wire::check_ollama_loaded(answer.body); !loaded) {
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} could not load {}: {}: POST {} was not answered as Ollama does: {}",
                                 upstream_.id.str(), model, caller_.where(), target, loaded.error().message),
                     "bad_upstream");
    }
    co_return Result<void>();
  }

  Task<Result<void>> yield(Duration limit) override {
    const auto self = shared_from_this();
    if (!upstream_.shares_devices) co_return Result<void>();
    const TimePoint by = now() + limit;
    // It gives up a load whose client has left.
    for (const auto& load : std::exchange(loading_, {})) load->interrupt();
    struct Asked {
      TimePoint again;
      Duration pause = kAskAgain;
      bool gone = false;
    };
    std::map<std::string, Asked> asked;
    std::vector<std::string> shown;
    std::string complaint;
    Duration pause = kFirstPoll;
    do {
      const auto loaded = co_await list("/api/ps", &wire::decode_ollama_ps, by);
      if (!loaded) {
        if (now() >= by && !shown.empty()) break;
        co_return fail(loaded.error());
      }
      shown.clear();
      for (const wire::OllamaModel& model : *loaded) shown.push_back(model.name);
      if (shown.empty()) co_return Result<void>();
      for (auto& [name, one] : asked) {
        if (std::ranges::find(shown, name) == shown.end()) one.gone = true;
      }
      for (const std::string& name : shown) {
        const auto [it, first] = asked.try_emplace(name);
        Asked& one = it->second;
        // One that came back while others were still on their way out is told at once, the first time.
        const bool revived = std::exchange(one.gone, false) && one.pause == kAskAgain;
        if (!first && !revived && now() < one.again) continue;
        if (!first) one.pause = std::min(one.pause * 2, kAskSeldom);
        one.again = now() + one.pause;
        const auto answer =
            co_await caller_.post("/api/generate", wire::encode_ollama_generate(name, true), soon(by));
        if (!answer) {
          if (now() >= by) break;
          co_return fail(answer.error());
        }
        // 404: its tag was removed while it is in memory; it goes by itself.
        if (!answer->good() && answer->status != 404)
          complaint = caller_.unexpected("POST", "/api/generate", *answer).message;
      }
      co_await caller_.pause(pause, by);
      pause = std::min(pause * 2, kSlowestPoll);
    } while (now() < by);
    Error error = still_resident(caller_.where(), shown);
    if (!complaint.empty()) error.message += "; " + complaint;
    co_return fail(std::move(error));
  }

  std::vector<os::ProcessIdentity> processes() override {
    return processes_ ? processes_->find().descendants : std::vector<os::ProcessIdentity>();
  }
  bool sees_processes() override { return processes_ && !processes_->find().listeners.empty(); }
  bool rests_empty() const override { return true; }

  std::shared_ptr<http::Client> client() override { return caller_.client(); }
  std::string api_prefix() const override { return "/v1"; }
  http::Headers headers() const override { return caller_.headers(); }

 private:
  using Listed = std::vector<wire::OllamaModel>;
  using Decode = Result<Listed> (*)(std::string_view);

  static TimePoint soon(TimePoint by) { return std::min(by, now() + kAnswerLimit); }

  Task<Result<Listed>> list(std::string target, Decode decode, TimePoint by) {
    LM_CO_TRY(const Answer answer, co_await caller_.get(target, soon(by)));
    if (answer.status != 200) co_return fail(caller_.unexpected("GET", target, answer));
    auto listed = decode(answer.body);
    if (listed) co_return std::move(listed);
    co_return fail(ErrorCode::kUnavailable,
                   fmt::format("{}: GET {} was not answered as Ollama does: {}; it begins with {}",
                               caller_.where(), target, listed.error().message, beginning(answer.body)),
                   "bad_upstream");
  }

  // Enough to recognise who answered.
  static std::string beginning(std::string_view body) {
    if (body.empty()) return "nothing";
    std::string shown(body.substr(0, 40));
    std::ranges::replace_if(
        shown,
        [](char c) { return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e; },
        '?');
    return fmt::format("“{}”", shown);
  }

  Model model_of(const wire::OllamaModel& tag) const {
    Model model;
    model.id = ModelId("ollama_" + tag.name);
    model.aliases = {tag.name};
    if (tag.name.ends_with(kLatest) && tag.name.size() > kLatest.size()) {
      const std::string plain = tag.name.substr(0, tag.name.size() - kLatest.size());
      model.aliases.push_back("ollama_" + plain);
      model.aliases.push_back(plain);
    }
    model.kind = tag.kind;
    model.family = Family::kOllama;
    model.artifact.size = tag.size;
    model.remote = Remote{.upstream = upstream_.id, .name = tag.name};
    model.origin = fmt::format("Ollama at {}", caller_.where());
    return model;
  }

  Caller caller_;
  Upstream upstream_;
  OllamaOptions options_;
  std::optional<os::ListeningProcesses> processes_;
  std::map<std::string, ModelKind> kinds_;  // of its tags, as last listed
  std::vector<std::shared_ptr<http::Interruption>> loading_;
};

}  // namespace

Result<std::shared_ptr<UpstreamServer>> make_ollama(boost::asio::any_io_executor executor,
                                                    OllamaOptions options) {
  LM_TRY(http::Endpoint endpoint, http::Endpoint::parse(options.url));
  const bool here = options.place == Place::kHere ||
                    (options.place == Place::kByHost &&
                     (endpoint.kind == http::Endpoint::Kind::kUnix || os::is_this_machine(endpoint.host)));
  Upstream upstream{.id = UpstreamId(options.name),
                    .family = Family::kOllama,
                    .shares_devices = here,
                    .url = endpoint.text()};
  auto client = std::make_shared<http::Client>(
      executor, std::move(endpoint), http::ClientOptions{.kept_connections = 32, .ca_file = options.ca_file});
  return std::make_shared<Ollama>(Caller(executor, std::move(client), {}), std::move(upstream),
                                  std::move(options));
}

}  // namespace lm::backend

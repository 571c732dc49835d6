#include "backend/openai.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "backend/caller.h"
#include "backend/memory_control.h"
#include "os/addresses.h"
#include "os/listening_processes.h"

namespace lm::backend {
namespace {

class OpenAi final : public UpstreamServer, public std::enable_shared_from_this<OpenAi> {
 public:
  OpenAi(Caller caller, std::string prefix, Upstream upstream, OpenAiOptions options)
      : caller_(std::move(caller)),
        prefix_(std::move(prefix)),
        upstream_(std::move(upstream)),
        options_(std::move(options)) {
    const http::Endpoint& root = caller_.client()->endpoint();
    if (upstream_.shares_devices && root.kind != http::Endpoint::Kind::kUnix)
      listening_.emplace(root.host, root.port);
  }

  const Upstream& description() const override { return upstream_; }
  std::vector<Model> configured() const override {
    return offered(upstream_, {}, options_.models, fmt::format("providers.{}", options_.name));
  }

  Task<Result<Sight>> look() override {
    const auto self = shared_from_this();
    auto sight = co_await see(now() + options_.look_limit);
    // Whoever comes back after an error may be somebody else.
    if (!sight) forget();
    co_return sight;
  }

  Task<Result<void>> load(std::string model, Duration limit) override {
    const auto self = shared_from_this();
    if (!upstream_.shares_devices) co_return Result<void>();
    const TimePoint by = now() + limit;
    LM_CO_TRY(const auto control, co_await known_control(by));
    if (!control) co_return Result<void>();
    co_return co_await control->load(std::move(model), by);
  }

  Task<Result<void>> yield(Duration limit) override {
    const auto self = shared_from_this();
    if (!upstream_.shares_devices) co_return Result<void>();
    const TimePoint by = now() + limit;
    LM_CO_TRY(const auto control, co_await known_control(by));
    if (!control) {
      co_return fail(cannot_yield(
          caller_.where(),
          fmt::format(
              "it is neither vLLM, llama-server's router nor LM Studio; stop it, start it as a command of "
              "ours, or say location: remote in providers.{} where it does not use this machine's devices",
              options_.name)));
    }
    co_return co_await control->yield(by);
  }

  std::vector<os::ProcessIdentity> processes() override {
    // A remote one's are not here, and a Unix socket has no port to be found by.
    if (!listening_) return {};
    auto [processes, descendants] = listening_->find();
    processes.insert(processes.end(), descendants.begin(), descendants.end());
    return processes;
  }
  std::shared_ptr<http::Client> client() override { return caller_.client(); }
  std::string api_prefix() const override { return prefix_; }
  http::Headers headers() const override { return caller_.headers(); }

 private:
  using Listed = std::vector<wire::ListedModel>;

  Task<Result<Sight>> see(TimePoint by) {
    LM_CO_TRY(const Listed listed, co_await list(by));
    Sight sight;
    sight.models = offered(upstream_, listed, options_.models, fmt::format("providers.{}", options_.name));
    if (!upstream_.shares_devices) co_return sight;
    LM_CO_TRY(const auto control, co_await find_control(listed, by));
    if (!control) co_return sight;
    sight.tells_residents = true;
    LM_CO_TRY(sight.residents, co_await control->residents(listed, by));
    co_return sight;
  }

  Task<Result<Listed>> list(TimePoint by) {
    const std::string target = prefix_ + "/models";
    LM_CO_TRY(const Answer answer, co_await caller_.get(target, by));
    auto listed = wire::decode_models(answer.body);
    if (answer.good() && listed) co_return std::move(listed);
    // Some have no list, which is what the configured one is for.
    if (!options_.models.empty() && (answer.good() || answer.unknown())) co_return Listed();
    co_return fail(caller_.unexpected("GET", target, answer));
  }

  // What it is, found out once.
  Task<Result<std::shared_ptr<MemoryControl>>> find_control(Listed listed, TimePoint by) {
    if (known_) co_return control_;
    LM_CO_TRY(MemoryControlPtr found, co_await find_llama_router(caller_, prefix_, listed, by));
    if (!found) {
      LM_CO_TRY(found, co_await find_vllm(caller_, listed, by));
    }
    if (!found) {
      LM_CO_TRY(found, co_await find_lm_studio(caller_, by));
    }
    control_ = std::move(found);
    // One that lists nothing yet may not have shown what it is.
    known_ = control_ != nullptr || !listed.empty();
    co_return control_;
  }

  Task<Result<std::shared_ptr<MemoryControl>>> known_control(TimePoint by) {
    if (known_) co_return control_;
    LM_CO_TRY(const Listed listed, co_await list(by));
    LM_CO_TRY(auto control, co_await find_control(listed, by));
    // It names its models where it has to complain.
    if (control) LM_CO_TRY_VOID(co_await control->residents(listed, by));
    co_return control;
  }

  void forget() {
    known_ = false;
    control_.reset();
  }

  Caller caller_;
  std::string prefix_;
  Upstream upstream_;
  OpenAiOptions options_;
  std::optional<os::ListeningProcesses> listening_;
  bool known_ = false;
  std::shared_ptr<MemoryControl> control_;  // null, and known_: it has none
};

// "v1", "v1beta", "v4": a "v" and a digit.
bool is_version(std::string_view part) {
  return part.size() >= 2 && part[0] == 'v' && part[1] >= '0' && part[1] <= '9';
}

}  // namespace

ModelKind kind_of(const wire::ListedModel& model) {
  if (model.kind) return *model.kind;
  std::string name = model.name;
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (name.find("rerank") != std::string::npos) return ModelKind::kRerank;
  if (name.find("embed") != std::string::npos) return ModelKind::kEmbedding;
  return ModelKind::kGeneration;
}

Result<ApiBase> parse_api_base(std::string_view url) {
  LM_TRY(http::Endpoint root, http::Endpoint::parse(url));
  ApiBase base{.root = std::move(root), .prefix = "/v1"};
  std::string& path = base.root.base_path;
  for (std::size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1)) {
    if (!is_version(std::string_view(path).substr(at + 1))) continue;
    base.prefix = path.substr(at);
    path.resize(at);
    break;
  }
  return base;
}

std::vector<Model> offered(const Upstream& upstream, const std::vector<wire::ListedModel>& listed,
                           const std::vector<std::string>& wanted, const std::string& origin) {
  const auto model_of = [&](const wire::ListedModel& one) {
    Model model;
    model.id = ModelId(fmt::format("{}/{}", upstream.id.str(), one.name));
    model.aliases = {"openai_" + one.name};
    model.kind = kind_of(one);
    model.family = upstream.family;
    model.artifact.size = one.size;
    model.remote = Remote{.upstream = upstream.id, .name = one.name};
    model.origin = origin;
    return model;
  };
  std::vector<Model> models;
  if (wanted.empty()) {
    models.reserve(listed.size());
    for (const wire::ListedModel& one : listed) models.push_back(model_of(one));
    return models;
  }
  for (const std::string& name : wanted) {
    const auto it = std::ranges::find(listed, name, &wire::ListedModel::name);
    wire::ListedModel unlisted;
    unlisted.name = name;
    models.push_back(model_of(it == listed.end() ? unlisted : *it));
  }
  return models;
}

Result<std::shared_ptr<UpstreamServer>> make_openai(boost::asio::any_io_executor executor,
                                                    OpenAiOptions options) {
  LM_TRY(ApiBase base, parse_api_base(options.base_url));
  const bool here = options.place == Place::kHere ||
                    (options.place == Place::kByHost &&
                     (base.root.kind == http::Endpoint::Kind::kUnix || os::is_this_machine(base.root.host)));
  Upstream upstream{.id = UpstreamId(options.name),
                    .family = Family::kOpenai,
                    .shares_devices = here,
                    .url = base.root.text() + base.prefix};
  auto client =
      std::make_shared<http::Client>(executor, std::move(base.root),
                                     http::ClientOptions{.kept_connections = 32, .ca_file = options.ca_file});
  Caller caller(executor, std::move(client), options.key);
  return std::make_shared<OpenAi>(std::move(caller), std::move(base.prefix), std::move(upstream),
                                  std::move(options));
}

}  // namespace lm::backend

// llama-server as a router: a child process for each model that it has in memory, which it ends when it is
// told to unload it.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "backend/memory_control.h"

namespace lm::backend {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(100);
// An unload that is asked for is not asked for again before this: a model that somebody has it load again
// meanwhile is.
constexpr Duration kAskAgain = std::chrono::seconds(1);

// A sleeping one has given its weights back, not its process and that one's context on the card.
bool in_memory(const wire::ListedModel& model) {
  return model.status == "loading" || model.status == "loaded" || model.status == "sleeping";
}

class LlamaRouter final : public MemoryControl {
 public:
  LlamaRouter(Caller root, std::string api) : root_(std::move(root)), list_(std::move(api) + "/models") {}

  Task<Result<std::vector<Resident>>> residents(std::vector<wire::ListedModel> listed, TimePoint) override {
    std::vector<Resident> residents;
    for (const wire::ListedModel& model : listed) {
      if (in_memory(model))
        residents.push_back({.name = model.name, .kind = kind_of(model), .bytes = model.size});
    }
    co_return residents;
  }

  Task<Result<void>> load(std::string model, TimePoint by) override {
    bool asked = false;
    for (;;) {
      LM_CO_TRY(const auto listed, co_await list(by));
      const auto it = std::ranges::find(listed, model, &wire::ListedModel::name);
      if (it == listed.end())
        co_return fail(ErrorCode::kNotFound, fmt::format("{} has no model {}", root_.where(), model));
      // One that sleeps wakes up with its first request.
      if (it->status == "loaded" || it->status == "sleeping") co_return Result<void>();
      if (asked && it->failed) {
        co_return fail(ErrorCode::kUnavailable,
                       fmt::format("{} could not load {}; its log says why", root_.where(), model),
                       "load_failed");
      }
      if (!asked && it->status != "loading") {
        LM_CO_TRY(const Answer answer,
                  co_await root_.post("/models/load", wire::encode_text("model", model), by));
        // 400: somebody else has asked for it in the meantime.
        if (!answer.good() && answer.status != 400)
          co_return fail(root_.unexpected("POST", "/models/load", answer));
        asked = true;
      }
      if (!co_await root_.pause(kPoll, by)) {
        co_return fail(ErrorCode::kDeadlineExceeded,
                       fmt::format("{} has not loaded {} in time", root_.where(), model), "load_timeout");
      }
    }
  }

  Task<Result<void>> yield(TimePoint by) override {
    std::map<std::string, TimePoint> asked;
    std::vector<std::string> shown;
    while (now() < by) {
      const auto listed = co_await list(by);
      if (!listed) {
        if (listed.error().code == ErrorCode::kDeadlineExceeded && !shown.empty()) break;
        co_return fail(listed.error());
      }
      shown.clear();
      for (const wire::ListedModel& model : *listed) {
        if (in_memory(model)) shown.push_back(model.name);
      }
      if (shown.empty()) co_return Result<void>();
      for (const std::string& name : shown) {
        if (asked.contains(name) && now() < asked[name] + kAskAgain) continue;
        asked[name] = now();
        const auto answer = co_await root_.post("/models/unload", wire::encode_text("model", name), by);
        if (!answer && answer.error().code == ErrorCode::kDeadlineExceeded) break;
        if (!answer) co_return fail(answer.error());
        if (answer->unknown()) co_return fail(cannot_yield(root_.where(), "it knows no /models/unload"));
        // 400: it is not running any more.
        if (!answer->good() && answer->status != 400)
          co_return fail(root_.unexpected("POST", "/models/unload", *answer));
      }
      co_await root_.pause(kPoll, by);
    }
    co_return fail(still_resident(root_.where(), shown));
  }

 private:
  Task<Result<std::vector<wire::ListedModel>>> list(TimePoint by) {
    LM_CO_TRY(const Answer answer, co_await root_.get(list_, by));
    auto listed = wire::decode_models(answer.body);
    if (!answer.good() || !listed) co_return fail(root_.unexpected("GET", list_, answer));
    co_return std::move(listed);
  }

  Caller root_;
  std::string list_;
};

}  // namespace

Task<Result<MemoryControlPtr>> find_llama_router(Caller root, std::string api,
                                                 std::vector<wire::ListedModel> listed, TimePoint by) {
  bool is_router =
      !listed.empty() && std::ranges::none_of(listed, [](const auto& model) { return model.status.empty(); });
  if (!is_router) {
    LM_CO_TRY(const Answer props, co_await root.get("/props", by));
    is_router = props.good() && wire::decode_text(props.body, "role") == "router";
  }
  if (!is_router) co_return MemoryControlPtr();
  co_return std::make_unique<LlamaRouter>(std::move(root), std::move(api));
}

}  // namespace lm::backend

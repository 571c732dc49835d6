// LM Studio: loads what it is asked for, several instances of a model where somebody wants them. Since 0.4 it
// can be told to unload (/api/v1); before, it could only be asked what is loaded (/api/v0). A path that it
// does not know it answers with 200 and an error, so that only the shape of an answer tells.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "backend/memory_control.h"

namespace lm::backend {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(100);
constexpr Duration kAskAgain = std::chrono::seconds(1);
constexpr const char* kModels = "/api/v1/models";
constexpr const char* kOldModels = "/api/v0/models";

class LmStudio final : public MemoryControl {
 public:
  LmStudio(Caller root, bool unloads) : root_(std::move(root)), unloads_(unloads) {}

  Task<Result<std::vector<Resident>>> residents(std::vector<wire::ListedModel>, TimePoint by) override {
    LM_CO_TRY(const auto listed, co_await list(by));
    std::vector<Resident> residents;
    for (const wire::ListedModel& model : listed) {
      for (const std::string& instance : model.instances)
        residents.push_back({.name = instance, .kind = kind_of(model), .bytes = model.size});
    }
    co_return residents;
  }

  Task<Result<void>> load(std::string model, TimePoint by) override {
    // An old one loads with the first request.
    if (!unloads_) co_return Result<void>();
    LM_CO_TRY(const auto listed, co_await list(by));
    const auto has = [&model](const wire::ListedModel& one) {
      return (one.name == model && !one.instances.empty()) ||
             std::ranges::find(one.instances, model) != one.instances.end();
    };
    if (std::ranges::any_of(listed, has)) co_return Result<void>();
    LM_CO_TRY(const Answer answer,
              co_await root_.post("/api/v1/models/load", wire::encode_text("model", model), by));
    if (!answer.good() || wire::decode_text(answer.body, "instance_id").empty())
      co_return fail(root_.unexpected("POST", "/api/v1/models/load", answer));
    co_return Result<void>();
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
      for (const wire::ListedModel& model : *listed)
        shown.insert(shown.end(), model.instances.begin(), model.instances.end());
      if (shown.empty()) co_return Result<void>();
      if (!unloads_) {
        co_return fail(cannot_yield(
            root_.where(), fmt::format("this LM Studio has no /api/v1/models/unload (0.4 has), and {} loaded",
                                       shown.front())));
      }
      for (const std::string& instance : shown) {
        if (asked.contains(instance) && now() < asked[instance] + kAskAgain) continue;
        asked[instance] = now();
        const auto answer =
            co_await root_.post("/api/v1/models/unload", wire::encode_text("instance_id", instance), by);
        if (!answer && answer.error().code == ErrorCode::kDeadlineExceeded) break;
        if (!answer) co_return fail(answer.error());
        // 404: it has gone by itself. Whatever else it says, the next list tells.
        if (!answer->good() && answer->status != 404)
          co_return fail(root_.unexpected("POST", "/api/v1/models/unload", *answer));
      }
      co_await root_.pause(kPoll, by);
    }
    co_return fail(still_resident(root_.where(), shown));
  }

 private:
  Task<Result<std::vector<wire::ListedModel>>> list(TimePoint by) {
    const char* path = unloads_ ? kModels : kOldModels;
    LM_CO_TRY(const Answer answer, co_await root_.get(path, by));
    auto listed = unloads_ ? wire::decode_lm_studio_models(answer.body) : wire::decode_models(answer.body);
    if (!answer.good() || !listed) co_return fail(root_.unexpected("GET", path, answer));
    co_return std::move(listed);
  }

  Caller root_;
  bool unloads_;
};

}  // namespace

Task<Result<MemoryControlPtr>> find_lm_studio(Caller root, TimePoint by) {
  LM_CO_TRY(const Answer models, co_await root.get(kModels, by));
  // An empty list could be anybody's.
  const auto listed = wire::decode_lm_studio_models(models.body);
  if (models.good() && listed && !listed->empty())
    co_return std::make_unique<LmStudio>(std::move(root), true);
  LM_CO_TRY(const Answer states, co_await root.get(kOldModels, by));
  if (!states.good() || !wire::has_states(states.body)) co_return MemoryControlPtr();
  co_return std::make_unique<LmStudio>(std::move(root), false);
}

}  // namespace lm::backend

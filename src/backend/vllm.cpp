// vLLM: one model for the life of the process. It sleeps and wakes where it was started for that
// (--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1); asleep it keeps its weights in host memory.
#include "backend/memory_control.h"

namespace lm::backend {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(100);

class Vllm final : public MemoryControl {
 public:
  Vllm(Caller root, bool sleeps) : root_(std::move(root)), sleeps_(sleeps) {}

  Task<Result<std::vector<Resident>>> residents(std::vector<wire::ListedModel> listed,
                                                TimePoint by) override {
    names_.clear();
    for (const wire::ListedModel& model : listed) names_.push_back(model.name);
    std::vector<Resident> residents;
    if (sleeps_) {
      LM_CO_TRY(const bool asleep, co_await is_asleep(by));
      if (asleep) co_return residents;
    }
    for (const wire::ListedModel& model : listed)
      residents.push_back({.name = model.name, .kind = kind_of(model), .bytes = model.size});
    co_return residents;
  }

  Task<Result<void>> load(std::string, TimePoint by) override {
    if (!sleeps_) co_return Result<void>();
    LM_CO_TRY(bool asleep, co_await is_asleep(by));
    if (!asleep) co_return Result<void>();
    LM_CO_TRY(const Answer woken, co_await root_.post("/wake_up", {}, by));
    if (!woken.good()) co_return fail(root_.unexpected("POST", "/wake_up", woken));
    for (;;) {
      LM_CO_TRY(asleep, co_await is_asleep(by));
      if (!asleep) co_return Result<void>();
      if (!co_await root_.pause(kPoll, by)) {
        co_return fail(ErrorCode::kDeadlineExceeded, root_.where() + " was woken up and still sleeps",
                       "load_timeout");
      }
    }
  }

  Task<Result<void>> yield(TimePoint by) override {
    if (!sleeps_) {
      co_return fail(cannot_yield(root_.where(),
                                  "this vLLM was started without sleep mode (--enable-sleep-mode and "
                                  "VLLM_SERVER_DEV_MODE=1)"));
    }
    LM_CO_TRY(bool asleep, co_await is_asleep(by));
    if (asleep) co_return Result<void>();
    // It answers when it sleeps, and some of its versions before that.
    const auto put = co_await root_.post("/sleep?level=1", {}, by);
    if (!put && put.error().code != ErrorCode::kDeadlineExceeded) co_return fail(put.error());
    if (put && put->unknown()) co_return fail(cannot_yield(root_.where(), "it knows no /sleep"));
    if (put && !put->good()) co_return fail(root_.unexpected("POST", "/sleep", *put));
    while (now() < by) {
      const auto told = co_await is_asleep(by);
      if (!told && told.error().code == ErrorCode::kDeadlineExceeded) break;
      LM_CO_TRY(asleep, told);
      if (asleep) co_return Result<void>();
      co_await root_.pause(kPoll, by);
    }
    co_return fail(still_resident(root_.where(), names_));
  }

 private:
  Task<Result<bool>> is_asleep(TimePoint by) {
    LM_CO_TRY(const Answer answer, co_await root_.get("/is_sleeping", by));
    const auto asleep = answer.good() ? wire::decode_flag(answer.body, "is_sleeping") : std::nullopt;
    if (!asleep) co_return fail(root_.unexpected("GET", "/is_sleeping", answer));
    co_return *asleep;
  }

  Caller root_;
  bool sleeps_;
  std::vector<std::string> names_;  // as last listed, for people
};

}  // namespace

Task<Result<MemoryControlPtr>> find_vllm(Caller root, std::vector<wire::ListedModel> listed, TimePoint by) {
  // Behind a proxy only one of the two may be left.
  bool is_vllm = !listed.empty() && listed.front().owner == "vllm";
  LM_CO_TRY(const Answer version, co_await root.get("/version", by));
  if (!is_vllm) is_vllm = version.good() && !wire::decode_text(version.body, "version").empty();
  if (!is_vllm) co_return MemoryControlPtr();
  LM_CO_TRY(const Answer sleeping, co_await root.get("/is_sleeping", by));
  const bool sleeps = sleeping.good() && wire::decode_flag(sleeping.body, "is_sleeping").has_value();
  co_return std::make_unique<Vllm>(std::move(root), sleeps);
}

}  // namespace lm::backend

#include "runtime/fetches.h"

#include <fmt/format.h>

#include "base/log.h"

namespace lm::runtime {
namespace {

// News of pulls and imports come at once; this is for what is told by none, as the end of the daemon.
constexpr Duration kLookAgain = std::chrono::seconds(1);

Error why_not(const Pull* pull, const Error& problem) {
  if (pull == nullptr) return problem;
  if (pull->error) return *pull->error;
  if (pull->state == PullState::kDone) {
    return {.code = ErrorCode::kFailedPrecondition,
            .message = fmt::format("{} brought nothing that can be loaded", pull->source),
            .reason = "nothing_fetched",
            .fields = {},
            .retry_after = {}};
  }
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("its pull {} is {}", pull->id, to_string(pull->state)),
          .reason = "not_fetched",
          .fields = {},
          .retry_after = {}};
}

}  // namespace

void Fetches::list(std::map<ModelId, std::string> unfetched, std::set<ModelId> unimported) {
  unfetched_ = std::move(unfetched);
  unimported_ = std::move(unimported);
  std::erase_if(failures_, [&](const auto& failure) { return !unfetched_.contains(failure.first); });
}

const Error* Fetches::failure(const ModelId& model) const {
  const auto found = failures_.find(model);
  return found == failures_.end() ? nullptr : &found->second.error;
}

std::uint64_t Fetches::pull_of(const ModelId& model) const {
  const auto found = pulls_.find(model);
  return found == pulls_.end() ? 0 : found->second;
}

bool Fetches::must_wait(const ModelId& model) const {
  const Model* known = seams_.model(model);
  return known != nullptr && known->problem &&
         (unfetched_.contains(model) || unimported_.contains(model) || known->problem->reason == "importing");
}

void Fetches::asked(const ModelId& model) {
  if (unimported_.contains(model)) return seams_.import(model);
  if (!unfetched_.contains(model)) return;
  const auto failed = failures_.find(model);
  if (failed != failures_.end() && seams_.clock.now() < failed->second.at + kPause) return;
  if (!asked_.insert(model).second) return;
  provide(
      model, "a request", [] { return false; },
      [this, model](const std::optional<Error>& why) {
        asked_.erase(model);
        if (why) log::warning("{} could not be fetched: {}", model.str(), why->message);
      });
}

void Fetches::provide(ModelId model, std::string who, std::function<bool()> is_given_up,
                      std::function<void(std::optional<Error>)> go_on) {
  seams_.run(provide_then(std::move(model), std::move(who), std::move(is_given_up), std::move(go_on)));
}

Task<> Fetches::provide_then(ModelId model, std::string who, std::function<bool()> is_given_up,
                             std::function<void(std::optional<Error>)> go_on) {
  auto why = co_await provided(std::move(model), std::move(who), is_given_up);
  if (!seams_.is_stopping() && !is_given_up()) go_on(std::move(why));
}

Task<std::optional<Error>> Fetches::provided(ModelId model, std::string who,
                                             std::function<bool()> is_given_up) {
  std::uint64_t pull = 0;
  auto news = seams_.hub.subscribe();
  while (!seams_.is_stopping() && !is_given_up()) {
    const Model* known = seams_.model(model);
    if (known == nullptr || known->remote || !known->problem) co_return std::nullopt;
    const auto source = unfetched_.find(model);
    if (unimported_.contains(model)) {
      seams_.import(model);  // `known` is another one now
    } else if (source == unfetched_.end()) {
      if (known->problem->reason != "importing") co_return *known->problem;
    } else if (pull == 0) {
      failures_.erase(model);
      const auto begun = seams_.pull(source->second, who);
      if (!begun) co_return begun.error();
      pull = pulls_[model] = *begun;
      continue;
    } else if (const Pull* fetched = seams_.find(pull); fetched == nullptr || rests(fetched->state)) {
      Error why = why_not(fetched, *known->problem);
      failures_.insert_or_assign(model, Failure{why, seams_.clock.now()});
      seams_.look_again();
      co_return why;
    }
    co_await news.next(kLookAgain);
  }
  co_return std::nullopt;
}

}  // namespace lm::runtime

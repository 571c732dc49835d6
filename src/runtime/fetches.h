// Models of ours that cannot be loaded yet, since nothing of them is here but where they come from, or since
// they are checkpoints that nobody has asked for: fetched and imported when somebody asks for them. Executes;
// that somebody asked is told by requests and wishes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/result.h"
#include "base/task.h"
#include "domain/command.h"
#include "domain/model.h"
#include "runtime/event_hub.h"
#include "runtime/pulls.h"

namespace lm::runtime {

struct FetchesSeams {
  EventHub& hub;
  const Clock& clock;
  std::function<void(Task<>)> run;
  std::function<bool()> is_stopping;
  std::function<const Model*(const ModelId&)> model;                           // as it is listed now
  std::function<Result<std::uint64_t>(const std::string&, std::string)> pull;  // of a source, for whom
  std::function<const Pull*(std::uint64_t)> find;
  std::function<void()> look_again;            // lists the models anew
  std::function<void(const ModelId&)> import;  // begins to; lists the models anew
};

// One thread. Must outlive its tasks.
class Fetches {
 public:
  // How long a request does not try again what could not be fetched.
  static constexpr Duration kPause = std::chrono::minutes(10);

  explicit Fetches(FetchesSeams seams) : seams_(std::move(seams)) {}

  // Which models are not here, with their sources, and which are not imported; as the inventory says.
  void list(std::map<ModelId, std::string> unfetched, std::set<ModelId> unimported);
  // What could not be fetched may be tried again by requests at once.
  void forget_failures() { failures_.clear(); }
  // Why the last attempt came to nothing; null where there was none.
  const Error* failure(const ModelId& model) const;
  // The last pull for this model; 0: none.
  std::uint64_t pull_of(const ModelId& model) const;

  // Whether a wish for the model waits for its files first: they are elsewhere, or have to be imported.
  bool must_wait(const ModelId& model) const;
  // A request for what is not here begins to fetch or import it; nobody waits. What could not be fetched is
  // left for kPause.
  void asked(const ModelId& model);
  // Fetches what is not here and waits for its import. Then says with `go_on` what it came to: nothing where
  // the model can be loaded now. Not where `is_given_up` says so before.
  void provide(ModelId model, std::string who, std::function<bool()> is_given_up,
               std::function<void(std::optional<Error>)> go_on);

 private:
  Task<> provide_then(ModelId model, std::string who, std::function<bool()> is_given_up,
                      std::function<void(std::optional<Error>)> go_on);
  Task<std::optional<Error>> provided(ModelId model, std::string who, std::function<bool()> is_given_up);

  struct Failure {
    Error error;
    TimePoint at;
  };

  FetchesSeams seams_;
  std::map<ModelId, std::string> unfetched_;
  std::set<ModelId> unimported_;
  std::map<ModelId, Failure> failures_;
  std::map<ModelId, std::uint64_t> pulls_;
  std::set<ModelId> asked_;
};

}  // namespace lm::runtime

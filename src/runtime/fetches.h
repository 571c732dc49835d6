// Models of ours of which nothing is here yet, and that are named by where they come from: fetched and
// imported when somebody asks for them. Executes; that somebody asked is told by requests and wishes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

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
  std::function<void(Task<>)> run;
  std::function<bool()> is_stopping;
  std::function<const Model*(const ModelId&)> model;                           // as it is listed now
  std::function<Result<std::uint64_t>(const std::string&, std::string)> pull;  // of a source, for whom
  std::function<const Pull*(std::uint64_t)> find;
  std::function<void()> look_again;  // lists the models anew
};

// One thread. Must outlive its tasks.
class Fetches {
 public:
  explicit Fetches(FetchesSeams seams) : seams_(std::move(seams)) {}

  // Which models are not here, with their sources; as the inventory says.
  void list(std::map<ModelId, std::string> unfetched) { unfetched_ = std::move(unfetched); }
  // What could not be fetched may be tried again by requests.
  void forget_failures() { failures_.clear(); }
  // Why the last attempt came to nothing; null where there was none.
  const Error* failure(const ModelId& model) const;
  // The last pull for this model; 0: none.
  std::uint64_t pull_of(const ModelId& model) const;

  // Whether a wish for the model waits for its files first: they are elsewhere, or are being imported.
  bool must_wait(const ModelId& model) const;
  // A request for what is not here begins to fetch it; nobody waits. What could not be fetched is left.
  void asked(const ModelId& model);
  // Fetches what is not here and waits for its import. Then says with `go_on` what it came to: nothing where
  // the model can be loaded now. Not where `is_given_up` says so before.
  void provide(ModelId model, std::string who, std::function<bool()> is_given_up,
               std::function<void(std::optional<Error>)> go_on);

 private:
  Task<> provide_then(ModelId model, std::string who, std::function<bool()> is_given_up,
                      std::function<void(std::optional<Error>)> go_on);
  Task<std::optional<Error>> provided(ModelId model, std::string who, std::function<bool()> is_given_up);

  FetchesSeams seams_;
  std::map<ModelId, std::string> unfetched_;
  std::map<ModelId, Error> failures_;
  std::map<ModelId, std::uint64_t> pulls_;
  std::set<ModelId> asked_;
};

}  // namespace lm::runtime

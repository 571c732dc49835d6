#include "runtime/local_models.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "runtime/import_folder.h"

namespace lm::runtime {

namespace fs = std::filesystem;

LocalModels::LocalModels(Seams seams)
    : seams_(std::move(seams)),
      stores_({.executor = seams_.executor,
               .program = seams_.importer,
               .looked = [this](bool changed) { stores_looked(changed); }}),
      stores_seen_(seams_.executor),
      fetches_({.hub = seams_.hub,
                .clock = seams_.clock,
                .run = seams_.run,
                .is_stopping = seams_.is_stopping,
                .model = seams_.model,
                .pull = seams_.pull,
                .find = seams_.find_pull,
                .look_again = seams_.look_again,
                .import = [this](const ModelId& model) { import_found(model); }}),
      imports_({.executor = seams_.executor,
                .program = seams_.importer,
                .began = [this](const Import& import) { import_began(import); },
                .progressed =
                    [this](const Import& import, double fraction) {
                      seams_.hub.publish(ImportProgressed{import.model, import_job_, fraction});
                    },
                .ended =
                    [this](const Import& import, Result<std::vector<std::string>> outcome) {
                      import_ended(import, std::move(outcome));
                    }}) {}

StoreFolders LocalModels::store_folders(const config::Config& config) {
  return StoreFolders::of(config.sources, [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
}

Inventory LocalModels::look(const config::Config& config, std::vector<fs::path> folders,
                            std::vector<fs::path> pulled) {
  const StoreFolders others = store_folders(config);
  const auto with_stores = [&](std::vector<Model> own) {
    std::vector<Stored> stored = stores_.models();
    std::ranges::move(named_stores(others), std::back_inserter(stored));
    return doubles_.merge(std::move(own), std::move(stored));
  };
  Inventory inventory = take_inventory(
      config, {.folders = std::move(folders),
               .imports = seams_.imports,
               .pulled = std::move(pulled),
               .huggingface = others.huggingface,
               .checkpoints = seams_.pulled_checkpoints(),
               .found = stores_.checkpoints(),
               .is_wanted = [this](const fs::path& folder) { return wanted_checkpoints_.contains(folder); },
               .with_stores = with_stores,
               .is_unusable = [this](const fs::path& file) { return unusable_.contains(file); },
               .kind_in = seams_.kind_in});
  stores_.look(others.ollama, inventory.candidates, std::exchange(look_into_stores_, false));
  files_.clear();
  for (Model& model : inventory.models) {
    files_.insert(model.artifact.path);
    const Error* failed = imports_.failure(model.artifact.path);
    if (failed != nullptr && model.problem && model.problem->reason == "importing") model.problem = *failed;
    const Error* unfetchable = fetches_.failure(model.id);
    if (unfetchable != nullptr && model.problem && model.problem->reason == "not_fetched")
      model.problem = *unfetchable;
  }
  std::set<ModelId> unimported;
  for (const auto& [model, folder] : inventory.unimported) unimported.insert(model);
  fetches_.list(inventory.unfetched, std::move(unimported));
  unimported_ = inventory.unimported;
  checkpoints_ = inventory.checkpoints;
  otherwise_ = inventory.otherwise;
  missing_ = inventory.missing;
  return inventory;
}

void LocalModels::begin_imports() {
  imports_.want(std::exchange(missing_, {}));
}

Task<> LocalModels::wait_for_stores(Duration limit) {
  if (stores_.is_looking()) co_await stores_seen_.wait(limit);
}

void LocalModels::forget() {
  imports_.forget_failures();
  fetches_.forget_failures();
  look_into_stores_ = true;
}

void LocalModels::stop() {
  imports_.stop();
  stores_.stop();
}

const fs::path* LocalModels::checkpoint_of(const ModelId& model) const {
  const auto found = checkpoints_.find(model);
  return found == checkpoints_.end() ? nullptr : &found->second;
}

void LocalModels::provide(const ModelId& model, const std::string& who, std::function<bool()> is_given_up,
                          std::function<void(std::optional<Error>)> go_on) {
  retry_import(model);
  if (!fetches_.must_wait(model)) return go_on(std::nullopt);
  fetches_.provide(model, who, std::move(is_given_up), std::move(go_on));
}

void LocalModels::look_for_refusal(Event& event) {
  InstanceId instance;
  Error* error = nullptr;
  if (auto* failed = std::get_if<LoadFailed>(&event)) {
    instance = failed->instance;
    error = &failed->error;
  } else if (auto* predicted = std::get_if<FootprintPredicted>(&event); predicted && predicted->error) {
    instance = predicted->instance;
    error = &*predicted->error;
  }
  if (error == nullptr || (error->reason != "invalid_artifact" && error->reason != "unsupported_model"))
    return;
  const ModelId* id = seams_.model_of(instance);
  const Model* model = id == nullptr ? nullptr : seams_.model(*id);
  if (model == nullptr) return;
  const auto next = otherwise_.find(model->artifact.path);
  if (next == otherwise_.end() || !unusable_.insert(next->first).second) return;
  error->message += fmt::format("; {} is imported again, as {}", model->id.str(), next->second);
  boost::asio::post(seams_.executor, [this] {
    if (!seams_.is_stopping()) seams_.look_again();
  });
}

void LocalModels::clean() {
  const auto useless = useless_imports(seams_.imports, files_, fs::file_time_type::clock::now());
  if (useless.empty()) return;
  const auto aside = make_aside(seams_.imports);
  if (!aside) return log::warning("old imports are not removed: {}", aside.error().message);
  for (const fs::path& file : useless) {
    const auto moved = move_aside(*aside, file);
    if (moved)
      log::info("{} is removed: no model is made of it any more", file.string());
    else
      log::warning("{}", moved.error().message);
  }
  seams_.discard(*aside);
}

void LocalModels::import_began(const Import& import) {
  import_job_ = seams_.open_import_job(import.model);
  log::info("{} is being imported from {}", import.model.str(), import.folder.string());
}

// The models are looked at anew: one has its file now, or says why not.
void LocalModels::import_ended(const Import& import, Result<std::vector<std::string>> outcome) {
  const JobId job = import_job_;  // the next look begins another one
  std::optional<Error> error;
  if (outcome) {
    for (const std::string& notice : *outcome) log::info("{}: {}", import.model.str(), notice);
    log::info("{} is imported as {}", import.model.str(), import.file.string());
  } else {
    log::warning("{} could not be imported: {}", import.model.str(), outcome.error().message);
    error = std::move(outcome).error();
  }
  seams_.look_again();
  clean();
  seams_.finish_job(job, std::move(error));
}

// Somebody asks for a checkpoint that lay there.
void LocalModels::import_found(const ModelId& model) {
  const auto folder = unimported_.find(model);
  if (folder == unimported_.end()) return;
  wanted_checkpoints_.insert(folder->second);
  seams_.look_again();
}

// What failed for the machine's state, and not for the checkpoint's, may be another thing by now.
void LocalModels::retry_import(const ModelId& model) {
  const Model* known = seams_.model(model);
  if (known == nullptr || !known->problem) return;
  const fs::path file = known->artifact.path;
  const Error* failed = imports_.failure(file);
  if (failed == nullptr || (failed->code != ErrorCode::kResourceExhausted &&
                            failed->code != ErrorCode::kUnavailable && failed->code != ErrorCode::kInternal))
    return;
  imports_.forget_failure(file);
  seams_.look_again();
}

void LocalModels::stores_looked(bool changed) {
  stores_seen_.open();
  if (changed) seams_.found_others();
}

}  // namespace lm::runtime

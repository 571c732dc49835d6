// The models that are on this disk, or will be, and how they come to be loadable: looked for, fetched,
// imported, imported once more where the engine refuses what came of it. Executes; which are wanted is the
// word of the configuration and of those who ask.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/clock.h"
#include "base/latch.h"
#include "base/result.h"
#include "base/task.h"
#include "domain/event.h"
#include "runtime/aside.h"
#include "runtime/event_hub.h"
#include "runtime/fetches.h"
#include "runtime/imports.h"
#include "runtime/inventory.h"
#include "runtime/stores.h"

namespace lm::runtime {

// On the main thread. stop() before what the seams need goes.
class LocalModels {
 public:
  struct Seams {
    boost::asio::any_io_executor executor;
    const Clock& clock;
    EventHub& hub;
    std::filesystem::path importer;  // llm-importer, the program
    std::filesystem::path imports;   // the folder that it writes into
    std::function<void(Task<>)> run;
    std::function<bool()> is_stopping;
    std::function<const Model*(const ModelId&)> model;  // as it is listed now
    std::function<const ModelId*(InstanceId)> model_of;
    std::function<std::vector<std::filesystem::path>()> pulled_checkpoints;
    std::function<Result<std::uint64_t>(const std::string& source, std::string who)> pull;
    std::function<const Pull*(std::uint64_t)> find_pull;
    std::function<JobId(const ModelId&)> open_import_job;
    std::function<void(JobId, std::optional<Error>)> finish_job;
    std::function<void(const Aside&)> discard;
    std::function<void()> look_again;    // lists the models anew: calls look() and begin_imports()
    std::function<void()> found_others;  // the same, and tells what came and went
    config::KindIn kind_in{};            // what was found in a file, where somebody has looked
  };

  explicit LocalModels(Seams seams);

  // What there is now. `folders`: of models, beside the configuration's own; `pulled`: where pulls put their
  // files. Blocks while it looks; what only a look into files tells comes with found_others().
  Inventory look(const config::Config& config, std::vector<std::filesystem::path> folders,
                 std::vector<std::filesystem::path> pulled);
  // Begins what the last look found missing, once its models are listed.
  void begin_imports();
  // Until the first look into other tools' stores has ended, or the limit passed.
  Task<> wait_for_stores(Duration limit);
  // What failed may be tried again, and stores are looked into again, by the next look.
  void forget();
  // Ends the children.
  void stop();

  // The folder of a pulled checkpoint that is a model of its own; null for any other model.
  const std::filesystem::path* checkpoint_of(const ModelId& model) const;
  // Other tools' folders, as the configuration and our environment name them.
  static StoreFolders store_folders(const config::Config& config);

  // A request is about to ask for the model: Fetches::asked.
  void asked(const ModelId& model) { fetches_.asked(model); }
  // Calls `go_on` once the model's files are here, or with why they do not come; at once where there is
  // nothing to wait for.
  void provide(const ModelId& model, const std::string& who, std::function<bool()> is_given_up,
               std::function<void(std::optional<Error>)> go_on);
  // The last pull for this model; 0: none.
  std::uint64_t pull_of(const ModelId& model) const { return fetches_.pull_of(model); }

  // What was made of a checkpoint and is refused, when it is looked at or loaded, is made of the next
  // quantisation, and the event's error says so.
  void look_for_refusal(Event& event);
  // What was imported and is of no use any more is removed, by a child.
  void clean();

 private:
  void import_began(const Import& import);
  void import_ended(const Import& import, Result<std::vector<std::string>> outcome);
  void import_found(const ModelId& model);
  void retry_import(const ModelId& model);
  void stores_looked(bool changed);

  Seams seams_;
  StoreReader stores_;
  bool look_into_stores_ = true;  // also where their folders are the same as before
  Latch stores_seen_;
  Doubles doubles_;
  Fetches fetches_;
  Imports imports_;
  JobId import_job_;             // of the import under way
  std::vector<Import> missing_;  // as of the last look, and so are these
  std::set<std::filesystem::path> files_;
  std::map<ModelId, std::filesystem::path> checkpoints_, unimported_;
  std::map<std::filesystem::path, std::string> otherwise_;
  std::set<std::filesystem::path> unusable_;            // imports that were refused
  std::set<std::filesystem::path> wanted_checkpoints_;  // of those that were found
};

}  // namespace lm::runtime

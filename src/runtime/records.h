// What the runtime remembers over a restart: learned footprints, decisions, holds and pins. Never asked for
// live truth; a record that cannot be written is a line in the log and no more.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/command.h"
#include "store/pulls.h"

namespace lm::runtime {

struct StoredDecision {
  std::int64_t at_ms = 0;
  Decision decision;
};

class Records {
 public:
  // Opens DATA/state.db, which only the daemon that holds the data folder's lock may do.
  static Result<std::unique_ptr<Records>> open(const std::filesystem::path& data);
  ~Records();
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  // What happened to the database at opening, for the log.
  const std::vector<std::string>& warnings() const;

  DesiredRestored desired() const;
  void hold(const RecordHold& record);
  void pin(const RecordPin& record);

  std::optional<Footprint> footprint(const std::string& key) const;
  void learn(const std::string& key, const Footprint& footprint, Duration load_took);
  // Of the key of domain's experience_key, the latest last.
  std::vector<Experience> experiences(const std::string& key) const;
  void learn(const std::string& key, const Experience& experience, Duration load_took);

  // What a file of that fingerprint was found to be; empty: nobody has looked into it.
  std::optional<ModelKind> kind_in(const std::string& fingerprint) const;
  void found_kind(const std::string& fingerprint, ModelKind kind);

  void decide(const Decision& decision, std::int64_t at_ms);
  // Newest first; empty `model`: all.
  std::vector<StoredDecision> decisions(std::string_view model, std::size_t limit) const;

  // How a switch stands, as its report's JSON, in the place of how it stood: what is told of it should the
  // daemon end before it does, and in the end its outcome.
  void switched(std::uint64_t id, const std::string& report, std::int64_t at_ms, bool ended);
  // Reports of those that have ended, newest first.
  std::vector<std::string> switches(std::size_t limit) const;

  // ---- pulls
  // The id that it got; 0 where it could not be written.
  std::int64_t add_pull(const store::PullRecord& record);
  void update_pull(const store::PullRecord& record);
  std::vector<store::PullRecord> pulls() const;
  void add_file(const store::PulledFileRecord& file);
  void forget_file(const std::string& path);
  bool was_pulled(const std::string& path) const;
  // Folders of checkpoints that pulls have written.
  std::vector<std::filesystem::path> pulled_checkpoints() const;

  // A worker's death or a failed load.
  void died(const ModelId& model, std::string_view how);

 private:
  struct Impl;
  explicit Records(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lm::runtime

#include "runtime/stores.h"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <set>
#include <system_error>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fmt/format.h>

#include "base/checksum.h"
#include "base/hex.h"
#include "base/log.h"
#include "config/model_folder.h"
#include "config/utf8.h"
#include "os/file.h"
#include "os/subprocess.h"
#include "runtime/inventory.h"
#include "runtime/local_copy.h"
#include "wire/stored_model.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostModels = 4'000;
constexpr int kSamples = 64;
constexpr std::int64_t kSample = 4096;
constexpr std::string_view kHubCache = "Hugging Face's cache";

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

fs::path first_folder(const std::vector<fs::path>& candidates) {
  const auto found = std::ranges::find_if(candidates, is_folder);
  return found == candidates.end() ? fs::path() : *found;
}

// The cache links its files to blobs that are named by their content.
std::string sha256_by_link(const fs::path& file) {
  std::error_code error;
  std::string name = fs::read_symlink(file, error).filename().string();
  return !error && is_hex(name, 64) ? name : std::string();
}

fs::path snapshot_in(const fs::path& repository) {
  if (const auto commit = os::read_file(repository / "refs/main", 100); commit && is_hex(*commit, 40)) {
    if (is_folder(repository / "snapshots" / *commit)) return repository / "snapshots" / *commit;
  }
  fs::path newest;
  fs::file_time_type written;
  std::error_code error;
  for (fs::directory_iterator each(repository / "snapshots", error), end; !error && each != end;
       each.increment(error)) {
    std::error_code gone;
    const auto time = each->last_write_time(gone);
    if (gone || !each->is_directory(gone) || (!newest.empty() && time <= written)) continue;
    newest = each->path();
    written = time;
  }
  return newest;
}

std::vector<fs::path> repositories_in(const fs::path& huggingface) {
  std::vector<fs::path> repositories;
  std::error_code error;
  if (huggingface.empty()) return repositories;
  for (fs::directory_iterator each(huggingface, error), end; !error && each != end; each.increment(error)) {
    if (each->path().filename().string().starts_with("models--")) repositories.push_back(each->path());
  }
  std::ranges::sort(repositories);
  return repositories;
}

void add(std::vector<Stored>& all, const fs::path& folder, std::string_view tool) {
  for (Model& model : config::scan_model_folders(std::vector{folder}).models) {
    if (all.size() >= kMostModels) return;
    std::string sha256 = sha256_by_link(model.artifact.path);
    model.origin = tool;
    all.push_back({.model = std::move(model), .sha256 = std::move(sha256)});
  }
}

// Of a file's beginning, its end and what is between. Empty where it cannot be read.
std::string sample(const fs::path& path) {
  const os::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const off_t size = file ? ::lseek(file.get(), 0, SEEK_END) : 0;
  std::string read;
  std::array<char, kSample> piece{};
  for (int i = 0; i < kSamples && size > 0; ++i) {
    const off_t at = std::max<off_t>(0, (size - kSample) / (kSamples - 1) * i);
    const ssize_t n = ::pread(file.get(), piece.data(), piece.size(),
                              i + 1 == kSamples ? std::max<off_t>(0, size - kSample) : at);
    if (n <= 0) return {};
    read.append(piece.data(), static_cast<std::size_t>(n));
  }
  return read.empty() ? read : fmt::format("{:016x}", checksum(read));
}

}  // namespace

StoreFolders StoreFolders::of(const config::ModelSources& sources, const Lookup& lookup) {
  const auto variable = [&](const char* name) -> fs::path { return lookup(name).value_or(""); };
  const fs::path home = variable("HOME");
  const auto choose = [](const std::string& wish, std::vector<fs::path> usual) -> fs::path {
    if (wish == "off") return {};
    if (wish != "auto") return wish;
    std::erase_if(usual, [](const fs::path& path) { return !path.is_absolute(); });
    return first_folder(usual);
  };
  const fs::path named = variable("OLLAMA_MODELS"), hub = variable("HF_HUB_CACHE"),
                 hub_home = variable("HF_HOME");
  return {
      .ollama =
          choose(sources.ollama, named.empty() ? std::vector<fs::path>{home / ".ollama/models",
                                                                       "/usr/share/ollama/.ollama/models",
                                                                       "/var/lib/ollama/models"}
                                               : std::vector<fs::path>{named}),
      .lm_studio = choose(sources.lm_studio, {home / ".lmstudio/models", home / ".cache/lm-studio/models"}),
      .huggingface = choose(
          sources.huggingface,
          {hub.empty() ? (hub_home.empty() ? home / ".cache/huggingface/hub" : hub_home / "hub") : hub})};
}

std::vector<Stored> named_stores(const StoreFolders& folders) {
  std::vector<Stored> all;
  if (is_folder(folders.lm_studio)) add(all, folders.lm_studio, "LM Studio");
  for (const fs::path& repository : repositories_in(folders.huggingface)) {
    if (const fs::path snapshot = snapshot_in(repository); !snapshot.empty()) add(all, snapshot, kHubCache);
  }
  return all;
}

std::vector<Checkpoint> cached_checkpoints(const fs::path& huggingface) {
  std::vector<Checkpoint> all;
  for (const fs::path& repository : repositories_in(huggingface)) {
    const fs::path snapshot = snapshot_in(repository);
    const std::string name = repository.filename().string();  // "models--OWNER--REPO"
    if (snapshot.empty() || !config::is_utf8(snapshot.native()) || !is_checkpoint(snapshot, {})) continue;
    all.push_back(
        {.name = name.substr(name.rfind("--") + 2), .folder = snapshot, .origin = std::string(kHubCache)});
  }
  return all;
}

std::optional<fs::path> cached_snapshot(const fs::path& huggingface, std::string_view repository) {
  std::string name = "models--";
  for (const char c : repository) name += c == '/' ? std::string("--") : std::string(1, c);
  if (huggingface.empty() || name.find("..") != std::string::npos) return std::nullopt;
  fs::path snapshot = snapshot_in(huggingface / name);
  return snapshot.empty() ? std::nullopt : std::optional(std::move(snapshot));
}

// ---- what a child looks into

struct StoreReader::Look {
  explicit Look(const boost::asio::any_io_executor& executor) : limit(executor) {}

  boost::asio::steady_timer limit;
  fs::path ollama;
  std::vector<Checkpoint> candidates;
  std::optional<os::Subprocess> process;
  std::vector<Stored> models;
  std::vector<Checkpoint> checkpoints;

  void hear(std::string_view line) {
    const auto said = wire::decode_stored(line);
    if (!said) return;
    if (const auto* checkpoint = std::get_if<wire::StoredCheckpoint>(&*said)) {
      // Each once, in their order.
      if (checkpoint->index < next_ || checkpoint->index >= candidates.size()) return;
      next_ = checkpoint->index + 1;
      checkpoints.push_back(candidates[checkpoint->index]);
      checkpoints.back().kind = checkpoint->kind;
      return;
    }
    if (models.size() < kMostModels) add(std::get<wire::StoredModel>(*said));
  }

 private:
  std::size_t next_ = 0;

  void add(const wire::StoredModel& model) {
    const auto blob = [&](const std::string& sha256) { return ollama / "blobs" / ("sha256-" + sha256); };
    Stored stored;
    std::string name = model.name;
    if (name.ends_with(":latest")) name.resize(name.size() - std::string_view(":latest").size());
    std::ranges::replace(name, ':', '-');
    stored.model.id = ModelId(config::canonical_name(name));
    stored.model.kind = config::guess_kind(stored.model.id.str());
    stored.model.artifact.path = blob(model.sha256);
    std::error_code missing;
    const auto size = fs::file_size(stored.model.artifact.path, missing);
    if (missing) return;  // its download is not done, or it was removed
    stored.model.artifact.size = Bytes(static_cast<std::int64_t>(size));
    if (!model.projector_sha256.empty()) stored.model.artifact.projector = blob(model.projector_sha256);
    stored.model.origin = "Ollama";
    stored.sha256 = model.sha256;
    models.push_back(std::move(stored));
  }
};

StoreReader::StoreReader(Seams seams) : seams_(std::move(seams)) {}
StoreReader::~StoreReader() = default;

void StoreReader::look(const fs::path& ollama, std::vector<Checkpoint> candidates, bool again) {
  if (candidates.size() > kMostCheckpoints) candidates.resize(kMostCheckpoints);
  if (!again && ollama == ollama_ && candidates == candidates_) return;
  ollama_ = ollama;
  candidates_ = candidates;
  look_ = std::make_shared<Look>(seams_.executor);
  look_->ollama = ollama;
  const std::weak_ptr<Look> look = look_;
  const auto end = [this, look](bool whole) {
    boost::asio::post(seams_.executor, [this, look, whole] {
      if (const auto self = look.lock(); self && self == look_) ended(whole);
    });
  };
  if (ollama.empty() && candidates.empty()) return end(true);
  os::SpawnOptions options;
  options.arguments = {seams_.program.string(), "--look", ollama.string()};
  for (const Checkpoint& candidate : candidates) options.arguments.push_back(candidate.folder.string());
  look_->candidates = std::move(candidates);
  options.environment = os::environment_of_ours({"PATH", "HOME", "LANG", "LD_LIBRARY_PATH"});
  options.standard_output = os::Output::lines([look](std::string_view line) {
    if (const auto self = look.lock()) self->hear(line);
  });
  // Not from within: the process must not be destroyed in its own call.
  options.on_end = [end](const os::ExitStatus& status) {
    if (!status.success())
      log::warning("what other tools keep could not be looked into: the importer {}", to_string(status));
    end(status.success());
  };
  auto process = os::Subprocess::spawn(seams_.executor, std::move(options));
  if (process) {
    look_->process.emplace(*std::move(process));
    look_->limit.expires_after(seams_.limit);
    look_->limit.async_wait([this, look](const boost::system::error_code& cancelled) {
      const auto self = look.lock();
      if (cancelled || !self || self != look_) return;
      log::warning("what other tools keep could not be looked into within {:.0f} s", seconds(seams_.limit));
      ended(false);
    });
    return;
  }
  log::warning("what other tools keep is not looked into: {}", process.error().message);
  look_.reset();
}

void StoreReader::ended(bool whole) {
  const auto done = std::exchange(look_, nullptr);
  std::ranges::sort(done->models, {}, [](const Stored& stored) { return stored.model.id; });
  const auto same = [](const Stored& a, const Stored& b) { return a.model == b.model; };
  const bool changed =
      whole && !(std::ranges::equal(done->models, models_, same) && done->checkpoints == checkpoints_);
  if (changed) {
    models_ = std::move(done->models);
    checkpoints_ = std::move(done->checkpoints);
  }
  seams_.looked(changed);
}

void StoreReader::stop() {
  look_.reset();
}

// ---- doubles

std::vector<Model> Doubles::merge(std::vector<Model> own, std::vector<Stored> stored) {
  struct Known {
    std::size_t index;
    std::string sha256;
  };
  std::map<std::string, std::string> samples;
  const auto sample_of = [&](const fs::path& path) -> const std::string& {
    const std::string key = path.string() + " " + fingerprint_of(path);
    const auto before = samples_.find(key);
    return samples.try_emplace(key, before != samples_.end() ? before->second : sample(path)).first->second;
  };
  std::multimap<Bytes, Known> by_size;
  std::set<std::string> names;
  for (std::size_t i = 0; i < own.size(); ++i) {
    by_size.emplace(own[i].artifact.size, Known{i, {}});
    names.insert(own[i].id.str());
    names.insert(own[i].aliases.begin(), own[i].aliases.end());
  }
  for (Stored& each : stored) {
    Model& model = each.model;
    const auto is_double = [&](const Known& known) {
      const fs::path& other = own[known.index].artifact.path;
      if (!each.sha256.empty() && !known.sha256.empty()) return each.sha256 == known.sha256;
      std::error_code error;
      if (fs::equivalent(model.artifact.path, other, error)) return true;
      const std::string& ours = sample_of(model.artifact.path);
      return !ours.empty() && ours == sample_of(other);
    };
    const auto [first, last] = by_size.equal_range(model.artifact.size);
    const auto same = std::find_if(first, last, [&](const auto& entry) { return is_double(entry.second); });
    if (same != last) {
      Model& shown = own[same->second.index];
      if (same->second.sha256.empty()) same->second.sha256 = each.sha256;
      if (names.insert(model.id.str()).second) shown.aliases.push_back(model.id.str());
      if (shown.artifact.projector.empty()) shown.artifact.projector = model.artifact.projector;
      continue;
    }
    std::string name = model.id.str();
    if (names.contains(name)) name = fmt::format("{}-{}", config::canonical_name(model.origin), name);
    const std::string stem = name;
    for (int number = 2; !names.insert(name).second; ++number) name = fmt::format("{}-{}", stem, number);
    model.id = ModelId(name);
    std::erase_if(model.aliases, [&](const std::string& alias) { return !names.insert(alias).second; });
    by_size.emplace(model.artifact.size, Known{own.size(), each.sha256});
    own.push_back(std::move(model));
  }
  samples_ = std::move(samples);
  return own;
}

}  // namespace lm::runtime

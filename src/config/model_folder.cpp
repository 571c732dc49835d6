#include "config/model_folder.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <sys/stat.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/arriving.h"
#include "config/split_name.h"
#include "config/utf8.h"

namespace lm::config {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMissingTold = 5;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

struct File {
  fs::path path;
  Bytes size;
};

// What a folder holds of interest, itself and not those below.
struct FolderFiles {
  std::vector<File> models;
  std::vector<File> projectors;
};

// Finds the files; knows nothing of models.
class Walk {
 public:
  Walk(const FolderLimits& limits, std::vector<Warning>& warnings) : limits_(limits), warnings_(warnings) {}

  const std::vector<fs::path>& checkpoints() const { return checkpoints_; }

  std::vector<FolderFiles> run(std::span<const fs::path> roots) {
    for (const fs::path& root : roots) {
      struct stat status{};
      if (::stat(root.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
        warn(root, "no such folder of models");
        continue;
      }
      arriving_.merge(arriving_files(root));
      if (seen_.emplace(status.st_dev, status.st_ino).second) walk(root, 0);
    }
    return std::move(found_);
  }

 private:
  void warn(const fs::path& path, std::string message) {
    warnings_.push_back({.file = printable_name(path.string()),
                         .at = {},
                         .key = "model_folders",
                         .message = std::move(message)});
  }

  void walk(const fs::path& folder, int depth) {
    std::error_code error;
    std::vector<fs::path> entries;
    for (fs::directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
         !error && it != end; it.increment(error)) {
      if (entries_left() <= 0) {
        if (!full_)
          warn(folder, fmt::format("more than {} files; the rest is not looked at", limits_.entries));
        full_ = true;
        break;
      }
      ++looked_at_;
      if (!it->path().filename().string().starts_with('.')) entries.push_back(it->path());
    }
    if (error) warn(folder, "cannot be read: " + error.message());
    std::ranges::sort(entries);

    std::set<std::string> names;
    for (const fs::path& entry : entries) names.insert(entry.filename().string());
    FolderFiles files;
    std::vector<fs::path> below;
    bool weights = false;
    for (const fs::path& entry : entries) {
      struct stat status{};
      if (::stat(entry.c_str(), &status) != 0) continue;  // a link to nothing, or gone meanwhile
      const bool folder_below = S_ISDIR(status.st_mode);
      weights = weights || (S_ISREG(status.st_mode) && entry.extension() == ".safetensors");
      const bool model = S_ISREG(status.st_mode) && lower(entry.extension().string()) == ".gguf" &&
                         !is_partial(entry, names) && !arriving_.contains(entry);
      if (!folder_below && !model) continue;
      if (folder_below) {
        if (depth + 1 > limits_.depth) {
          warn(entry, fmt::format("deeper than {} folders; not looked at", limits_.depth));
        } else if (seen_.emplace(status.st_dev, status.st_ino).second) {
          below.push_back(entry);
        }
        continue;
      }
      if (!seen_.emplace(status.st_dev, status.st_ino).second) continue;
      // Whoever asks for models reads JSON, which has no form for it.
      if (!is_utf8(entry.native())) {
        warn(entry, "its name is not UTF-8, so nobody could ask for it; rename it");
        continue;
      }
      const bool projector = lower(entry.filename().string()).find("mmproj") != std::string::npos;
      (projector ? files.projectors : files.models).push_back({.path = entry, .size = Bytes(status.st_size)});
    }
    if (!files.models.empty() || !files.projectors.empty()) found_.push_back(std::move(files));
    if (weights && names.contains("config.json") && is_utf8(folder.native())) checkpoints_.push_back(folder);
    for (const fs::path& next : below) walk(next, depth + 1);
  }

  // By the habits of browsers, curl wrappers, Hugging Face, aria2 and wget.
  static bool is_partial(const fs::path& entry, const std::set<std::string>& names) {
    const std::string stem = lower(entry.stem().string());
    for (const std::string_view ending : {".part", ".incomplete", ".partial", ".tmp", ".download"}) {
      if (stem.ends_with(ending)) return true;
    }
    return names.contains(entry.filename().string() + ".aria2");
  }

  int entries_left() const { return limits_.entries - looked_at_; }

  FolderLimits limits_;
  std::vector<Warning>& warnings_;
  std::vector<FolderFiles> found_;
  std::vector<fs::path> checkpoints_;
  std::set<fs::path> arriving_;
  std::set<std::pair<dev_t, ino_t>> seen_;
  int looked_at_ = 0;
  bool full_ = false;
};

bool is_quantization(std::string_view word) {
  constexpr std::array<std::string_view, 9> kWords = {"f16", "f32",   "bf16",  "fp16", "fp32",
                                                      "fp8", "mxfp4", "nvfp4", "int8"};
  if (std::ranges::find(kWords, word) != kWords.end()) return true;
  for (const std::string_view lead : {"iq", "tq", "q"}) {
    if (word.starts_with(lead) && word.size() > lead.size() &&
        std::isdigit(static_cast<unsigned char>(word[lead.size()])) != 0) {
      return std::ranges::all_of(
          word, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
    }
  }
  return false;
}

// What a projector's name says beyond being one: "qwen3-vl-8b" of "mmproj-Qwen3-VL-8B-F16", nothing of
// "mmproj-model-f16".
std::string projector_subject(const fs::path& path) {
  std::string name = without_quantization(canonical_name(path.stem().string()));
  const std::size_t at = name.find("mmproj");
  name.erase(at, std::string_view("mmproj").size());
  while (!name.empty() && (name.front() == '-' || name.front() == '.' || name.front() == '_'))
    name.erase(0, 1);
  while (!name.empty() && (name.back() == '-' || name.back() == '.' || name.back() == '_')) name.pop_back();
  name = is_quantization(name) ? std::string() : without_quantization(name);
  return name == "model" ? std::string() : name;
}

// The order in which we take one of several projectors of the same model: exact enough, then small.
int projector_rank(const fs::path& path) {
  const std::string name = lower(path.filename().string());
  if (name.find("bf16") != std::string::npos) return 1;
  if (name.find("f16") != std::string::npos) return 0;
  if (name.find("q8") != std::string::npos) return 2;
  return 3;
}

std::optional<fs::path> projector_for(const Model& model, const FolderFiles& files, bool one_subject) {
  const std::string name = without_quantization(canonical_name(model.artifact.path.stem().string()));
  const File* best = nullptr;
  std::pair<int, int> best_rank;
  for (const File& projector : files.projectors) {
    const std::string subject = projector_subject(projector.path);
    const bool named = !subject.empty() && name.starts_with(subject);
    if (!named && !one_subject) continue;
    const std::pair rank(named ? 0 : 1, projector_rank(projector.path));
    if (best == nullptr || rank < best_rank) {
      best = &projector;
      best_rank = rank;
    }
  }
  return best == nullptr ? std::nullopt : std::optional(best->path);
}

Model make_model(const fs::path& path, Bytes size, std::string_view stem) {
  Model model;
  model.id = ModelId(canonical_name(stem));
  model.kind = guess_kind(model.id.str());
  model.artifact.path = path;
  model.artifact.size = size;
  model.origin = path.parent_path().string();
  return model;
}

// One model for each file or set of parts.
std::vector<Model> models_of(const FolderFiles& files) {
  std::vector<Model> models;
  std::map<std::pair<std::string, int>, std::map<int, const File*>> splits;
  for (const File& file : files.models) {
    const std::string stem = file.path.stem().string();
    if (const auto part = split_name(stem)) {
      splits[{part->base, part->count}].emplace(part->index, &file);
    } else {
      models.push_back(make_model(file.path, file.size, stem));
    }
  }
  for (const auto& [key, parts] : splits) {
    const auto& [base, count] = key;
    const File& any = *parts.begin()->second;
    const auto name_of_part = [&](int index) {
      return SplitName{.base = base, .index = index, .count = count}.stem(index) +
             any.path.extension().string();
    };
    Bytes size;
    for (const auto& [index, file] : parts) size += file->size;
    const auto first = parts.find(1);
    Model model = make_model(
        first != parts.end() ? first->second->path : any.path.parent_path() / name_of_part(1), size, base);
    if (static_cast<int>(parts.size()) < count) {
      std::vector<std::string> missing;
      for (int index = 1; index <= count && missing.size() < kMissingTold; ++index) {
        if (!parts.contains(index)) missing.push_back(name_of_part(index));
      }
      const std::size_t all = static_cast<std::size_t>(count) - parts.size();
      const std::string more = all > missing.size() ? fmt::format(" and {} more", all - missing.size()) : "";
      model.problem =
          Error{.code = ErrorCode::kFailedPrecondition,
                .message = fmt::format("parts are not there: {}{}; download them into {}",
                                       fmt::join(missing, ", "), more, any.path.parent_path().string()),
                .reason = "missing_parts",
                .fields = {},
                .retry_after = {}};
    }
    models.push_back(std::move(model));
  }
  std::ranges::sort(models, {}, [](const Model& model) { return model.artifact.path; });

  std::set<std::string> subjects;
  for (const Model& model : models) subjects.insert(without_quantization(model.id.str()));
  for (Model& model : models) {
    if (auto projector = projector_for(model, files, subjects.size() == 1))
      model.artifact.projector = *std::move(projector);
  }
  return models;
}

// The first of a name keeps it; the next are told apart by their folder, then by a number.
void make_unique(std::vector<Model>& models) {
  std::set<std::string> taken;
  for (Model& model : models) {
    const std::string stem = model.id.str();
    std::string name = stem;
    if (taken.contains(name))
      name = canonical_name(model.artifact.path.parent_path().filename().string()) + '-' + stem;
    for (int number = 2; taken.contains(name); ++number) name = fmt::format("{}-{}", stem, number);
    taken.insert(name);
    model.id = ModelId(name);
  }
  // And the name without its quantization, where it is clear who is meant.
  std::map<std::string, int> bare;
  for (const Model& model : models) ++bare[without_quantization(model.id.str())];
  for (Model& model : models) {
    const std::string name = without_quantization(model.id.str());
    if (bare.at(name) == 1 && !taken.contains(name)) model.aliases.push_back(name);
  }
}

}  // namespace

std::string canonical_name(std::string_view stem) {
  std::string name;
  for (std::size_t i = 0; i < stem.size();) {
    const std::size_t length = utf8_length(stem, i);
    const auto c = static_cast<unsigned char>(stem[i]);
    if (length > 1) {
      name += stem.substr(i, length);
    } else if (length == 0) {
      name += '_';
    } else if (c <= ' ' || c == 0x7F || c == '/' || c == '\\' || c == '"' || c == '\'' || c == '*') {
      name += '-';
    } else {
      name += static_cast<char>(std::tolower(c));
    }
    i += std::max<std::size_t>(1, length);
  }
  return name.empty() ? "model" : name;
}

std::string without_quantization(std::string_view name) {
  const std::size_t at = name.find_last_of("-.");
  if (at == std::string_view::npos || at == 0 || !is_quantization(name.substr(at + 1)))
    return std::string(name);
  name = name.substr(0, at);
  if (name.ends_with("-ud")) name.remove_suffix(3);  // "-UD-Q4_K_XL"
  return std::string(name);
}

ModelKind guess_kind(std::string_view name) {
  const std::string text = lower(name);
  if (text.find("rerank") != std::string::npos) return ModelKind::kRerank;
  for (const std::string_view word : {"embed", "minilm", "bge-", "e5-", "gte-"}) {
    const std::size_t at = text.find(word);
    if (at == std::string::npos) continue;
    // "e5-" stands at the start of a word or it is something else.
    if (at == 0 || std::isalnum(static_cast<unsigned char>(text[at - 1])) == 0) return ModelKind::kEmbedding;
  }
  return ModelKind::kGeneration;
}

FolderScan scan_model_folders(std::span<const fs::path> folders, const FolderLimits& limits) {
  FolderScan scan;
  Walk walk(limits, scan.warnings);
  const std::vector<FolderFiles> found = walk.run(folders);
  scan.checkpoints = walk.checkpoints();
  for (const FolderFiles& files : found) {
    for (Model& model : models_of(files)) scan.models.push_back(std::move(model));
  }
  make_unique(scan.models);
  return scan;
}

}  // namespace lm::config

#include "hub/listing.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checksum.h"
#include "config/split_name.h"
#include "http/target.h"

namespace lm::hub {
namespace {

constexpr std::size_t kLargestList = 16u << 20;

// The order in which one is taken where none was named: what most people want, then what is nearest to it.
constexpr std::array<std::string_view, 26> kWished = {
    "Q4_K_M", "Q4_K_S", "Q4_K_L", "Q4_K_XL", "IQ4_XS", "IQ4_NL", "Q4_0",  "Q4_1", "Q5_K_M",
    "Q5_K_S", "Q5_0",   "Q5_1",   "Q6_K",    "Q3_K_L", "Q3_K_M", "IQ3_M", "Q8_0", "Q3_K_S",
    "IQ3_XS", "MXFP4",  "Q2_K",   "IQ2_M",   "IQ2_XS", "F16",    "BF16",  "F32"};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return out;
}

bool ends_with_folded(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && http::equals_ignoring_case(text.substr(text.size() - end.size()), end);
}

std::string_view name_of(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

// The path without ".gguf" and without "-00001-of-00003".
std::string base_of(std::string_view path) {
  path.remove_suffix(5);
  const auto name = config::split_name(path);
  return name ? name->base : std::string(path);
}

bool is_projector(std::string_view path) {
  return upper(name_of(path)).find("MMPROJ") != std::string::npos;
}

// Whether the name says that quantisation: "…-Q4_K_M", "….q4_k_m", "Q4_K_M/…".
bool is_of(std::string_view base, std::string_view quantisation) {
  const std::string where = upper(base), what = upper(quantisation);
  for (std::size_t at = where.find(what); at != std::string::npos; at = where.find(what, at + 1)) {
    const auto borders = [](char c) { return c == '-' || c == '.' || c == '/' || c == '_'; };
    const bool left = at == 0 || borders(where[at - 1]);
    const std::size_t end = at + what.size();
    // "Q4_K" is not meant by "Q4_K_M".
    const bool right = end == where.size() || (borders(where[end]) && where[end] != '_');
    if (left && right) return true;
  }
  return false;
}

std::unexpected<Error> nothing(std::string message) {
  return fail(ErrorCode::kNotFound, std::move(message), "not_found");
}

using Models = std::map<std::string, std::vector<wire::HubFile>>;  // by base

std::string names_of(const Models& models) {
  constexpr std::size_t kMost = 12;
  std::string text;
  std::size_t told = 0;
  for (const auto& [base, files] : models) {
    if (told++ == kMost) return text + fmt::format(" and {} more", models.size() - kMost);
    text += (text.empty() ? "" : ", ") + files.front().path;
  }
  return text;
}

Result<const std::vector<wire::HubFile>*> choose_model(const Models& models, std::string_view pick) {
  if (pick.empty()) {
    if (models.size() == 1) return &models.begin()->second;
    for (const std::string_view wished : kWished) {
      for (const auto& [base, files] : models)
        if (is_of(base, wished)) return &files;
    }
    // Names that say nothing: the smallest.
    const auto size = [](const auto& entry) {
      std::int64_t sum = 0;
      for (const auto& file : entry.second) sum += file.size.count();
      return sum;
    };
    return &std::ranges::min_element(models, {}, size)->second;
  }
  for (const auto& [base, files] : models) {
    for (const auto& file : files)
      if (file.path == pick) return &files;
  }
  for (const auto& [base, files] : models)
    if (is_of(base, pick)) return &files;
  if (ends_with_folded(pick, ".gguf")) {
    for (const auto& [base, files] : models)
      if (http::equals_ignoring_case(name_of(files.front().path), name_of(pick))) return &files;
  }
  return nothing(fmt::format("the repository has no {}; it has {}", pick, names_of(models)));
}

// What an import needs of a checkpoint.
bool is_of_checkpoint(std::string_view path) {
  if (path.find('/') != std::string_view::npos) return path == "1_Pooling/config.json";
  constexpr std::array<std::string_view, 10> kNames = {"config.json",
                                                       "generation_config.json",
                                                       "tokenizer.json",
                                                       "tokenizer.model",
                                                       "vocab.txt",
                                                       "tokenizer_config.json",
                                                       "special_tokens_map.json",
                                                       "added_tokens.json",
                                                       "modules.json",
                                                       "merges.txt"};
  return std::ranges::find(kNames, path) != kNames.end() || path.ends_with(".safetensors") ||
         path.ends_with(".safetensors.index.json") || path.ends_with(".jinja") || path == "vocab.json";
}

Promise promise_of(const wire::HubFile& file) {
  if (!file.sha256.empty()) return {.kind = Promise::Kind::kSha256, .hex = file.sha256};
  if (!file.git_sha1.empty()) return {.kind = Promise::Kind::kGitSha1, .hex = file.git_sha1};
  return {};
}

// ---- where files lie: each source has a folder that no other one has, so that nothing is mixed or replaced

std::string in_place_of(std::string_view text, char what, std::string_view by) {
  std::string out;
  for (const char c : text) {
    if (c == what)
      out += by;
    else
      out += c;
  }
  return out;
}

// "OWNER/REPO", or "OWNER/REPO@REVISION" of another revision than the main one.
std::string folder_of_repository(const Source& source) {
  std::string folder = source.name;
  // Folders of other kinds of sources.
  for (const std::string_view other : {"ollama/", "npm/", "web/"})
    if (folder.starts_with(other)) folder.insert(0, "hf@");
  if (source.revision != "main") folder += "@" + in_place_of(source.revision, '/', "%2F");
  return folder;
}

// "ollama/NAME" of Ollama's own models, "ollama/NAMESPACE/NAME", "ollama/@HOST/NAMESPACE/NAME".
std::string folder_of_tag(const Source& source) {
  std::string name = source.name;
  if (source.host.empty()) return "ollama/" + (name.starts_with("library/") ? name.substr(8) : name);
  return "ollama/@" + in_place_of(source.host, ':', "_") + "/" + name;
}

std::string file_of_tag(const Source& source) {
  return fmt::format("{}-{}.gguf", name_of(source.name), source.revision);
}

std::string folder_of_package(const Source& source) {
  std::string name = source.name;
  std::erase(name, '@');
  return fmt::format("npm/{}@{}", name, source.revision);
}

// "web/HOST/FOLDER" of "https://HOST/FOLDER/NAME": the port where it is not https's, and a number for the
// folder where its name would be no safe one.
std::string folder_of_address(const Address& address, std::string_view raw) {
  std::string host = in_place_of(address.endpoint.host, ':', "_");
  std::ranges::transform(host, host.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  const bool usual = address.endpoint.kind == http::Endpoint::Kind::kHttps && address.endpoint.port == 443;
  if (!usual) host += fmt::format("_{}", address.endpoint.port);
  std::string_view folder = raw.substr(0, raw.rfind('/'));
  if (folder.starts_with('/')) folder.remove_prefix(1);
  if (folder.empty()) return "web/" + host;
  std::string whole = fmt::format("web/{}/{}", host, folder);
  return is_safe_path(whole + "/x") ? whole : fmt::format("web/{}/{:016x}", host, checksum(folder));
}

Task<Result<Listing>> list_hub(Source source, const Surroundings& surroundings, Fetcher& fetcher) {
  LM_CO_TRY(const Address address,
            Address::parse(fmt::format("{}/api/models/{}/revision/{}?blobs=true", surroundings.hub_url,
                                       source.name, http::percent_encode(source.revision))));
  const auto body = co_await fetcher.read(address, {{"Accept", "application/json"}}, kLargestList);
  if (!body) {
    Error error = body.error();
    if (error.code == ErrorCode::kPermissionDenied) {
      // The hub answers so for repositories that do not exist as well.
      error.message +=
          surroundings.hub_token.empty()
              ? fmt::format(
                    "; {} does not exist, or is private or gated: set HF_TOKEN where the daemon is started",
                    source.name)
              : fmt::format(
                    "; the token in HF_TOKEN may not read {}, or it does not exist: accept its terms on "
                    "its page",
                    source.name);
    }
    if (error.code == ErrorCode::kNotFound)
      error.message = fmt::format("{} has no repository {} with a revision {}", surroundings.hub_url,
                                  source.name, source.revision);
    co_return fail(std::move(error));
  }
  LM_CO_TRY(const wire::HubRepository repository, wire::decode_hub_repository(*body));
  LM_CO_TRY(const std::vector<wire::HubFile> chosen, choose_files(repository.files, source.pick));
  // The commit, so that a push in the middle does not mix two versions.
  const std::string& revision = repository.commit.empty() ? source.revision : repository.commit;
  const std::string folder = folder_of_repository(source);
  Listing listing;
  for (const wire::HubFile& file : chosen) {
    LM_CO_TRY(Address from, Address::parse(fmt::format("{}/{}/resolve/{}/{}", surroundings.hub_url,
                                                       source.name, http::percent_encode(revision, true),
                                                       http::percent_encode(file.path, true))));
    listing.files.push_back({.path = folder + "/" + file.path,
                             .address = std::move(from),
                             .size = file.size,
                             .promise = promise_of(file),
                             .version = revision});
  }
  co_return listing;
}

Task<Result<Listing>> list_ollama(Source source, const Surroundings& surroundings, Fetcher& fetcher) {
  const std::string registry = source.host.empty() ? surroundings.registry_url : "https://" + source.host;
  const std::string base = fmt::format("{}/v2/{}", registry, source.name);
  LM_CO_TRY(const Address address, Address::parse(fmt::format("{}/manifests/{}", base, source.revision)));
  const auto body = co_await fetcher.read(
      address, {{"Accept", "application/vnd.docker.distribution.manifest.v2+json"}}, kLargestList);
  if (!body) {
    Error error = body.error();
    if (error.code == ErrorCode::kNotFound)
      error.message =
          fmt::format("{} has no model {} with the tag {}", registry, source.name, source.revision);
    co_return fail(std::move(error));
  }
  LM_CO_TRY(const std::vector<wire::OllamaLayer> layers, wire::decode_ollama_manifest(*body));
  const std::string folder = folder_of_tag(source);
  const std::string name = file_of_tag(source);
  Listing listing;
  for (const wire::OllamaLayer& layer : layers) {
    std::string path;
    if (layer.media_type == "application/vnd.ollama.image.model") path = fmt::format("{}/{}", folder, name);
    if (layer.media_type == "application/vnd.ollama.image.projector")
      path = fmt::format("{}/mmproj-{}", folder, name);
    const bool is_twice =
        std::ranges::any_of(listing.files, [&](const RemoteFile& file) { return file.path == path; });
    if (path.empty() || is_twice) continue;
    LM_CO_TRY(Address from, Address::parse(fmt::format("{}/blobs/sha256:{}", base, layer.sha256)));
    listing.files.push_back({.path = std::move(path),
                             .address = std::move(from),
                             .size = layer.size,
                             .promise = {.kind = Promise::Kind::kSha256, .hex = layer.sha256},
                             .version = {}});
  }
  if (listing.files.empty()) co_return nothing(fmt::format("{} has no model file", source.text()));
  if (std::ranges::any_of(layers, [](const auto& l) { return l.media_type.ends_with(".adapter"); }))
    listing.notes.emplace_back("its adapter is left out: only the model itself is used");
  co_return listing;
}

// The size, and what tells this content from another, of an address of which nothing else is known.
Task<Result<RemoteFile>> look_at(Address address, std::string path, Fetcher& fetcher, int attempts) {
  for (int failures = 1;; ++failures) {
    auto fetched = co_await fetcher.get(address, {{"Range", "bytes=0-0"}});
    if (!fetched) {
      Error error = std::move(fetched).error();
      if (!Fetcher::may_pass(error) || failures >= attempts) co_return fail(std::move(error));
      co_await fetcher.back_off(failures, error.retry_after);
      continue;
    }
    const http::Headers& headers = fetched->response.headers();
    std::string_view size;
    if (fetched->response.status() == 206) {
      if (const auto range = headers.get("Content-Range")) size = range->substr(range->find('/') + 1);
    } else if (const auto length = headers.get("Content-Length")) {
      size = *length;
    }
    std::int64_t bytes = -1;
    std::from_chars(size.data(), size.data() + size.size(), bytes);
    if (bytes < 0) {
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} does not say how large the file is", address.text()), "bad_upstream");
    }
    co_return RemoteFile{.path = std::move(path),
                         .address = address,
                         .size = Bytes(bytes),
                         .promise = {},
                         .version = std::string(headers.get("ETag").value_or(""))};
  }
}

Task<Result<Listing>> list_address(Source source, const Surroundings& surroundings, Fetcher& fetcher) {
  LM_CO_TRY(const Address address, Address::parse(source.secret_text()));
  const std::string raw = address.target.substr(0, address.target.find('?'));
  const auto path = http::percent_decode(name_of(raw));
  if (!path || !is_safe_path(*path) || !ends_with_folded(*path, ".gguf")) {
    co_return fail(ErrorCode::kInvalidArgument,
                   fmt::format("{} does not end in the name of a GGUF file", address.text()), "bad_source");
  }
  LM_CO_TRY(RemoteFile file, co_await look_at(address, folder_of_address(address, raw) + "/" + *path, fetcher,
                                              surroundings.tuning.attempts));
  Listing listing;
  listing.files.push_back(std::move(file));
  listing.notes.emplace_back("nobody promises a hash for a plain address: only the size is checked");
  co_return listing;
}

Task<Result<Listing>> list_package(Source source, const Surroundings& surroundings, Fetcher& fetcher) {
  if (surroundings.npm_url.empty()) {
    co_return fail(ErrorCode::kFailedPrecondition,
                   "npm's registry is not configured: npm config set registry ADDRESS, or set "
                   "NPM_CONFIG_REGISTRY where the daemon is started",
                   "no_registry");
  }
  std::string name = http::percent_encode(source.name);
  if (name.starts_with("%40")) name.replace(0, 3, "@");
  LM_CO_TRY(const Address address,
            Address::parse(fmt::format("{}/{}/{}", surroundings.npm_url, name, source.revision)));
  const auto body = co_await fetcher.read(address, {{"Accept", "application/json"}}, kLargestList);
  if (!body) {
    Error error = body.error();
    if (error.code == ErrorCode::kNotFound)
      error.message = fmt::format("npm's registry has no {} of version {}", source.name, source.revision);
    co_return fail(std::move(error));
  }
  LM_CO_TRY(const wire::NpmTarball tarball, wire::decode_npm_version(*body));
  LM_CO_TRY(const Address from, Address::parse(tarball.url));
  LM_CO_TRY(RemoteFile file, co_await look_at(from, folder_of_package(source) + ".tgz", fetcher,
                                              surroundings.tuning.attempts));
  if (!tarball.sha512.empty()) file.promise = {.kind = Promise::Kind::kSha512, .hex = tarball.sha512};
  Listing listing;
  listing.files.push_back(std::move(file));
  listing.is_package = true;
  co_return listing;
}

}  // namespace

std::string folder_of(const Source& source) {
  switch (source.kind) {
    case Source::Kind::kHuggingFace:
      return folder_of_repository(source);
    case Source::Kind::kOllama:
      return folder_of_tag(source);
    case Source::Kind::kNpm:
      return folder_of_package(source);
    case Source::Kind::kAddress: {
      const auto address = Address::parse(source.name);
      return address ? folder_of_address(*address, address->target) : std::string();
    }
  }
  return {};
}

std::string pick_in_folder(const Source& source) {
  if (source.kind == Source::Kind::kOllama) return file_of_tag(source);
  if (source.kind != Source::Kind::kAddress) return source.pick;
  return http::percent_decode(name_of(source.name)).value_or("");
}

Bytes Listing::total() const {
  Bytes sum;
  for (const RemoteFile& file : files) sum += file.size;
  return sum;
}

Result<std::vector<wire::HubFile>> choose_files(const std::vector<wire::HubFile>& files,
                                                std::string_view pick) {
  Models models;
  std::vector<wire::HubFile> projectors, checkpoint;
  for (const wire::HubFile& file : files) {
    if (!is_safe_path(file.path)) continue;
    if (is_of_checkpoint(file.path)) checkpoint.push_back(file);
    if (!ends_with_folded(file.path, ".gguf")) continue;
    if (is_projector(file.path))
      projectors.push_back(file);
    else
      models[base_of(file.path)].push_back(file);
  }
  if (models.empty()) {
    const bool has_weights =
        std::ranges::any_of(checkpoint, [](const auto& file) { return file.path.ends_with(".safetensors"); });
    if (!has_weights)
      return nothing("the repository has neither a GGUF file nor a checkpoint in safetensors");
    if (!pick.empty())
      return nothing(fmt::format("the repository has no GGUF file, so no {}: pull it without", pick));
    return checkpoint;
  }
  LM_TRY(const std::vector<wire::HubFile>* model, choose_model(models, pick));
  std::vector<wire::HubFile> chosen = *model;
  std::ranges::sort(chosen, {}, &wire::HubFile::path);
  // Beside the model, and of several the one that model folders would take.
  const auto rank = [](const wire::HubFile& file) {
    const std::string name = upper(name_of(file.path));
    if (name.find("BF16") != std::string::npos) return 1;
    if (name.find("F16") != std::string::npos) return 0;
    return name.find("Q8") != std::string::npos ? 2 : 3;
  };
  if (const auto projector = std::ranges::min_element(projectors, {}, rank); projector != projectors.end())
    chosen.push_back(*projector);
  return chosen;
}

Task<Result<Listing>> list_source(Source source, const Surroundings& surroundings, Fetcher& fetcher) {
  Result<Listing> listing = fail(ErrorCode::kUnimplemented, "");
  switch (source.kind) {
    case Source::Kind::kHuggingFace:
      listing = co_await list_hub(std::move(source), surroundings, fetcher);
      break;
    case Source::Kind::kOllama:
      listing = co_await list_ollama(std::move(source), surroundings, fetcher);
      break;
    case Source::Kind::kAddress:
      listing = co_await list_address(std::move(source), surroundings, fetcher);
      break;
    case Source::Kind::kNpm:
      listing = co_await list_package(std::move(source), surroundings, fetcher);
      break;
  }
  if (!listing) co_return listing;
  for (const RemoteFile& file : listing->files) {
    if (!is_safe_path(file.path) || file.size <= Bytes()) {
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("the listing has a file that cannot be kept: {} of {} bytes", file.path,
                                 file.size.count()),
                     "bad_upstream");
    }
  }
  co_return listing;
}

}  // namespace lm::hub

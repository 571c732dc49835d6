// What hubs answer, Ollama's manifests (of its registry and of its store on this disk), and what our children
// say of pulls, imports and stores: whatever comes, hashes are hashes, amounts are amounts, and what is
// written again is read as the same.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/assert.h"
#include "hub/listing.h"
#include "wire/hub.h"
#include "wire/import_line.h"
#include "wire/pull.h"
#include "wire/stored_model.h"

namespace {

using namespace lm;

bool is_hex(std::string_view text, std::size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

void check(const wire::HubRepository& repository) {
  LM_ASSERT(repository.commit.empty() || is_hex(repository.commit, 40), "a commit is one");
  for (const wire::HubFile& file : repository.files) {
    LM_ASSERT(!file.path.empty() && file.size >= Bytes(), "a file has a name, and is not less than empty");
    LM_ASSERT(file.sha256.empty() || is_hex(file.sha256, 64), "a hash is one");
    LM_ASSERT(file.git_sha1.empty() || is_hex(file.git_sha1, 40), "a hash is one");
  }
  for (const std::string_view pick : {"", "Q4_K_M", "model.gguf"}) {
    const auto chosen = hub::choose_files(repository.files, pick);
    if (!chosen) continue;
    LM_ASSERT(!chosen->empty(), "something is chosen, or it is refused");
    for (const wire::HubFile& file : *chosen) {
      const auto same = [&](const wire::HubFile& other) { return other.path == file.path; };
      LM_ASSERT(std::ranges::any_of(repository.files, same), "and is one of those that are there");
    }
  }
}

void check(std::string_view line) {
  if (const auto stored = wire::decode_stored(line)) {
    if (const auto* model = std::get_if<wire::StoredModel>(&*stored)) {
      LM_ASSERT(is_hex(model->sha256, 64), "a file is named by its hash");
      LM_ASSERT(model->projector_sha256.empty() || is_hex(model->projector_sha256, 64), "and its projector");
    }
    const auto again = wire::decode_stored(wire::encode(*stored));
    LM_ASSERT(again && *again == *stored, "what is written is read as the same");
  }
  if (const auto message = wire::decode_pull(line)) {
    const std::string once = wire::encode(*message);
    const auto again = wire::decode_pull(once);
    LM_ASSERT(again && wire::encode(*again) == once, "what is written is read as the same");
  }
  (void)wire::decode_import_line(line);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (const auto repository = wire::decode_hub_repository(input)) check(*repository);
  if (const auto layers = wire::decode_ollama_manifest(input)) {
    for (const wire::OllamaLayer& layer : *layers)
      LM_ASSERT(is_hex(layer.sha256, 64) && layer.size >= Bytes(), "a layer is named by its hash");
  }
  if (const auto tarball = wire::decode_npm_version(input))
    LM_ASSERT(tarball->sha512.empty() || is_hex(tarball->sha512, 128), "a hash is one");
  check(input);
  return 0;
}

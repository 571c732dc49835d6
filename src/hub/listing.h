// From a source to the files that it stands for.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/task.h"
#include "hub/content_hash.h"
#include "hub/fetcher.h"
#include "hub/source.h"
#include "hub/surroundings.h"
#include "wire/hub.h"

namespace lm::hub {

struct RemoteFile {
  std::string path;  // in the folder that is pulled into; is_safe_path
  Address address;
  Bytes size;
  Promise promise;
  std::string version;  // the server's ETag where nothing else tells one content from another
};

struct Listing {
  std::vector<RemoteFile> files;  // never empty
  std::vector<std::string> notes;
  bool is_package = false;  // one tarball of npm's, of which the models are wanted
  Bytes total() const;
};

// Asks the source's server. kNotFound "not_found" names what there is instead; kPermissionDenied
// "unauthorized" and "forbidden" say which variable holds the key; kFailedPrecondition "no_registry".
Task<Result<Listing>> list_source(Source source, const Surroundings& surroundings, Fetcher& fetcher);

// Where files of that source lie in a folder of models, and of no other source: "OWNER/REPO", "ollama/NAME",
// … Empty where it is none that can be fetched. Pure.
std::string folder_of(const Source& source);
// Which of the files there is meant, as choose_files takes it.
std::string pick_in_folder(const Source& source);

// Which of a repository's files are meant by `pick` (a quantisation, a file's path, or empty): all parts of a
// split file, and the projector where there is one. Where there is no GGUF file, those of the checkpoint.
// kNotFound, kInvalidArgument. Pure.
Result<std::vector<wire::HubFile>> choose_files(const std::vector<wire::HubFile>& files,
                                                std::string_view pick);

}  // namespace lm::hub

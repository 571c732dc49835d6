// A model's files: opened first, looked at after, so that a sandbox can fall shut in between.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "gguf_check.h"
#include "wire/messages.h"

namespace lm::worker {

// The files of one GGUF model: one, or the parts NAME-00001-of-000NN.gguf of a split one. Owns descriptors
// and mappings.
class Artifact {
 public:
  // Opens `path`, and its sister parts where its name says that it is the first of several. Reads nothing.
  // Errors: kNotFound or kPermissionDenied with reason io_error; kInvalidArgument with reason
  // invalid_artifact (no regular file, or a part other than the first).
  static Result<Artifact> open(const std::filesystem::path& path);

  Artifact(Artifact&& other) noexcept;
  Artifact& operator=(Artifact&& other) noexcept;
  ~Artifact();

  // Maps the beginning of every part and reads its metadata; needs no more rights than the open descriptors.
  Result<void> read();

  // After read(). The views in them live as long as this.
  const std::vector<Gguf>& parts() const { return ggufs_; }
  const Gguf& first() const { return ggufs_.front(); }
  Bytes size() const;
  // Bytes behind the weights, in all parts: nobody reads them.
  std::uint64_t padding() const;
  const std::filesystem::path& path() const { return path_; }

  // 32 hexadecimal digits of SHA-256 over the size, the first and the last MiB of every part: cheap, survives
  // a rename.
  Result<std::string> fingerprint() const;

 private:
  struct File {
    std::string name;
    int fd = -1;
    std::uint64_t size = 0;
    const char* head = nullptr;  // mapped
    std::uint64_t head_size = 0;
  };

  Artifact() = default;
  void close();

  std::filesystem::path path_;
  std::vector<File> files_;
  std::vector<Gguf> ggufs_;
};

// Everything that the metadata tells, as the manager wants it; without predictions.
wire::Inspected describe(const Artifact& artifact);

}  // namespace lm::worker

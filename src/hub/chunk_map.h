// Which chunks of a file have come: kept in a small file beside it, so that a download goes on after any
// interruption, kill -9 included. A chunk is marked behind its bytes, and both lie in the system's page cache
// from then on; after a power cut the bytes may be missing all the same, which the hash at the end finds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "os/file.h"

namespace lm::hub {

// Owned by one download. Blocks on the disk.
class ChunkMap {
 public:
  // Opens or makes the map. One of another content (`identity`: one line), size or chunk is begun anew.
  static Result<ChunkMap> open(const std::filesystem::path& path, std::string_view identity, Bytes size,
                               Bytes chunk);

  std::size_t count() const { return marks_.size(); }
  bool has(std::size_t chunk) const { return marks_[chunk]; }
  // Bytes of the chunks that are there.
  Bytes present() const;
  // Where a chunk begins, and how long it is: the last may be shorter.
  Bytes offset(std::size_t chunk) const { return chunk_ * static_cast<std::int64_t>(chunk); }
  Bytes length(std::size_t chunk) const;
  bool complete() const;
  // Something was there already when it was opened.
  bool resumed() const { return resumed_; }

  // Behind its bytes. Errors are those of the disk.
  Result<void> mark(std::size_t chunk);
  // Nothing has come.
  Result<void> clear();

 private:
  ChunkMap() = default;

  os::UniqueFd file_;
  std::filesystem::path path_;
  std::size_t header_ = 0;
  Bytes size_, chunk_;
  std::vector<bool> marks_;
  bool resumed_ = false;
};

}  // namespace lm::hub

#include "hub/chunk_map.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/assert.h"
#include "os/system_error.h"

namespace lm::hub {
namespace {

constexpr std::size_t kLargestMap = 64u << 20;

Result<void> write_at(int file, std::string_view bytes, std::size_t at, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(os::system_error(errno, "writing " + path.string()));
    bytes.remove_prefix(static_cast<std::size_t>(written));
    at += static_cast<std::size_t>(written);
  }
  return {};
}

}  // namespace

Result<ChunkMap> ChunkMap::open(const std::filesystem::path& path, std::string_view identity, Bytes size,
                                Bytes chunk) {
  LM_ASSERT(size > Bytes() && chunk > Bytes(), "a download has bytes and chunks");
  LM_ASSERT(identity.find('\n') == std::string_view::npos, "an identity is one line");
  ChunkMap map;
  map.path_ = path;
  map.size_ = size;
  map.chunk_ = chunk;
  const auto count = static_cast<std::size_t>((size.count() + chunk.count() - 1) / chunk.count());
  map.marks_.assign(count, false);
  const std::string header =
      fmt::format("llm-manager chunks 1 {} {} {}\n", size.count(), chunk.count(), identity);
  map.header_ = header.size();
  const auto before = os::read_file(path, kLargestMap);
  map.file_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!map.file_) return fail(os::system_error(errno, "opening " + path.string()));
  if (before && before->starts_with(header) && before->size() == header.size() + count) {
    for (std::size_t i = 0; i < count; ++i) map.marks_[i] = (*before)[header.size() + i] == '1';
    map.resumed_ = std::ranges::find(map.marks_, true) != map.marks_.end();
    return map;
  }
  if (::ftruncate(map.file_.get(), 0) != 0) return fail(os::system_error(errno, "emptying " + path.string()));
  LM_TRY_VOID(write_at(map.file_.get(), header + std::string(count, '0'), 0, path));
  return map;
}

Bytes ChunkMap::length(std::size_t chunk) const {
  return std::min(chunk_, size_ - offset(chunk));
}

Bytes ChunkMap::present() const {
  Bytes sum;
  for (std::size_t i = 0; i < marks_.size(); ++i)
    if (marks_[i]) sum += length(i);
  return sum;
}

bool ChunkMap::complete() const {
  return std::ranges::find(marks_, false) == marks_.end();
}

Result<void> ChunkMap::mark(std::size_t chunk) {
  LM_TRY_VOID(write_at(file_.get(), "1", header_ + chunk, path_));
  marks_[chunk] = true;
  return {};
}

Result<void> ChunkMap::clear() {
  LM_TRY_VOID(write_at(file_.get(), std::string(marks_.size(), '0'), header_, path_));
  marks_.assign(marks_.size(), false);
  resumed_ = false;
  return {};
}

}  // namespace lm::hub

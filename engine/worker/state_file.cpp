#include "state_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.h"

namespace lm::worker {
namespace {

// What the engine writes before the tokens: magic, version, how many.
constexpr std::size_t kHeader = 3 * sizeof(std::uint32_t);

std::unexpected<Error> io_error(const std::filesystem::path& file) {
  const int error = errno;
  return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
              fmt::format("{}: {}", file.string(), std::strerror(error)), "io_error");
}

std::unexpected<Error> damaged(const std::filesystem::path& file, std::string_view how) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("{} {}", file.filename().string(), how),
              "damaged_state");
}

// A file mapped for reading once, from its beginning to its end.
class Mapping {
 public:
  static Result<Mapping> of(const std::filesystem::path& file) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return io_error(file);
    struct stat status{};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(fd);
      return damaged(file, "is no file");
    }
    Mapping out;
    out.size_ = static_cast<std::size_t>(status.st_size);
    if (out.size_ > 0) {
      void* at = ::mmap(nullptr, out.size_, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
      if (at == MAP_FAILED) {
        ::close(fd);
        return io_error(file);
      }
      out.data_ = static_cast<const char*>(at);
    }
    ::close(fd);
    return out;
  }
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
  }
  std::string_view text() const { return {data_, size_}; }

 private:
  Mapping() = default;
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

Result<SlotState> describe(const std::filesystem::path& file, int tokens, const Mapping& mapping) {
  const std::string_view text = mapping.text();
  if (text.size() < kHeader) return damaged(file, "is too short for a state");
  std::uint32_t count = 0;
  std::memcpy(&count, text.data() + 2 * sizeof(std::uint32_t), sizeof(count));
  if (count > (text.size() - kHeader) / sizeof(std::uint32_t)) return damaged(file, "ends within its tokens");
  return SlotState{.file = file,
                   .tokens = tokens,
                   .token_sum = checksum(text.substr(kHeader, std::size_t{count} * sizeof(std::uint32_t))),
                   .size = Bytes(static_cast<std::int64_t>(text.size())),
                   .sum = checksum(text)};
}

}  // namespace

Result<SlotState> describe_state(const std::filesystem::path& file, int tokens) {
  LM_TRY(const Mapping mapping, Mapping::of(file));
  return describe(file, tokens, mapping);
}

Result<void> check_state(const SlotState& state) {
  struct stat status{};
  if (::lstat(state.file.c_str(), &status) != 0) return io_error(state.file);
  if (status.st_size != state.size.count()) {
    return damaged(state.file,
                   fmt::format("has {} bytes, {} were saved", status.st_size, state.size.count()));
  }
  LM_TRY(const SlotState now, describe_state(state.file, state.tokens));
  if (now != state) return damaged(state.file, "is not what was saved");
  return {};
}

}  // namespace lm::worker

#include "hub/package.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <unistd.h>
#include <zlib.h>

#include <fmt/format.h>

#include "hub/source.h"
#include "os/file.h"
#include "os/system_error.h"

namespace lm::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 512;
constexpr Bytes kMost = gib(64);

std::unexpected<Error> no_tarball(const std::string& why) {
  return fail(ErrorCode::kInvalidArgument, "the package cannot be unpacked: " + why, "invalid_artifact");
}

bool is_of_a_model(std::string_view path) {
  if (path == "package.json" || path == "package-lock.json") return false;
  constexpr std::array<std::string_view, 7> kEndings = {".gguf",  ".safetensors", ".json", ".txt",
                                                        ".model", ".jinja",       ".part"};
  return std::ranges::any_of(kEndings, [&](std::string_view ending) { return path.ends_with(ending); });
}

// An octal field of a tar's header.
std::optional<std::int64_t> octal(std::string_view field) {
  std::int64_t value = 0;
  bool any = false;
  for (const char c : field) {
    if (c == ' ' || c == '\0') {
      if (any) break;
      continue;
    }
    if (c < '0' || c > '7' || value > (std::int64_t{1} << 56)) return std::nullopt;
    value = value * 8 + (c - '0');
    any = true;
  }
  return any ? std::optional(value) : std::nullopt;
}

std::string_view text(std::string_view field) {
  return field.substr(0, field.find('\0'));
}

class Unpacking {
 public:
  Unpacking(gzFile from, fs::path folder) : from_(from), folder_(std::move(folder)) {}

  Result<std::vector<UnpackedFile>> run() {
    std::vector<UnpackedFile> files;
    std::array<char, kBlock> header{};
    for (;;) {
      LM_TRY(const std::size_t got, read(header.data(), kBlock));
      if (got == 0) break;
      if (got < kBlock) return no_tarball("it is cut");
      const std::string_view block(header.data(), kBlock);
      if (block.find_first_not_of('\0') == std::string_view::npos) break;
      const auto size = octal(block.substr(124, 12));
      if (!size || !checks(block)) return no_tarball("a header is damaged");
      std::string path(text(block.substr(0, 100)));
      if (const std::string_view prefix = text(block.substr(345, 155));
          block.substr(257, 5) == "ustar" && !prefix.empty())
        path.insert(0, fmt::format("{}/", prefix));
      // Packages have one folder around everything, usually of this name.
      if (const std::size_t slash = path.find('/'); slash != std::string::npos) path.erase(0, slash + 1);
      const char type = block[156];
      const bool wanted = (type == '0' || type == '\0') && is_safe_path(path) && is_of_a_model(path);
      LM_TRY_VOID(take(wanted ? std::optional(path) : std::nullopt, Bytes(*size)));
      if (wanted) files.push_back({.path = std::move(path), .size = Bytes(*size)});
    }
    if (files.empty()) return fail(ErrorCode::kNotFound, "the package has no files of a model", "not_found");
    return files;
  }

 private:
  static bool checks(std::string_view block) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i)
      sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
    return octal(block.substr(148, 8)) == sum;
  }

  Result<std::size_t> read(char* into, std::size_t size) {
    const int got = ::gzread(from_, into, static_cast<unsigned>(size));
    if (got < 0) return no_tarball("it is damaged");
    total_ += Bytes(got);
    if (total_ > kMost) return no_tarball("it holds more than " + to_string(kMost));
    return static_cast<std::size_t>(got);
  }

  // The next `size` bytes and what fills their last block, into the file or nowhere.
  Result<void> take(const std::optional<std::string>& path, Bytes size) {
    os::UniqueFd file;
    if (path) {
      const fs::path place = folder_ / *path;
      LM_TRY_VOID(os::make_private_folders(place.parent_path()));
      file.reset(::open(place.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!file) return fail(os::system_error(errno, "making " + place.string()));
    }
    const std::int64_t padded = (size.count() + 511) / 512 * 512;
    std::array<char, 64 * kBlock> piece{};
    for (std::int64_t at = 0; at < padded;) {
      const auto most = static_cast<std::size_t>(std::min<std::int64_t>(padded - at, piece.size()));
      LM_TRY(const std::size_t got, read(piece.data(), most));
      if (got < most) return no_tarball("it is cut");
      auto useful = static_cast<std::size_t>(
          std::clamp<std::int64_t>(size.count() - at, 0, static_cast<std::int64_t>(got)));
      for (const char* next = piece.data(); file && useful > 0;) {
        const ssize_t written = ::write(file.get(), next, useful);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail(os::system_error(errno, "writing " + *path));
        next += written;
        useful -= static_cast<std::size_t>(written);
      }
      at += static_cast<std::int64_t>(got);
    }
    if (file && ::fsync(file.get()) != 0) return fail(os::system_error(errno, "writing " + *path));
    return {};
  }

  gzFile from_;
  fs::path folder_;
  Bytes total_;
};

}  // namespace

Result<std::vector<UnpackedFile>> unpack_package(const fs::path& tarball, const fs::path& folder) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> from(::gzopen(tarball.c_str(), "rbe"), ::gzclose);
  if (!from) return fail(os::system_error(errno, "opening " + tarball.string()));
  LM_TRY_VOID(os::make_private_folders(folder));
  return Unpacking(from.get(), folder).run();
}

}  // namespace lm::hub

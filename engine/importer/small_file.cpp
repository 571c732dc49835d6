#include "small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lm::importer {

std::string small_file(const std::filesystem::path& path, std::size_t largest) {
  // O_NONBLOCK: a FIFO of that name must not stop us.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return {};
  struct stat status{};
  std::string text;
  if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
      static_cast<std::size_t>(status.st_size) <= largest) {
    text.resize(static_cast<std::size_t>(status.st_size));
    const auto n = ::read(fd, text.data(), text.size());
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  }
  ::close(fd);
  return text;
}

}  // namespace lm::importer

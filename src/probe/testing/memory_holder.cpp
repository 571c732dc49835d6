// A program for process_memory_test: takes memory when told to, on a line socket at descriptor 3, and holds
// it. "anonymous MIB", "shared MIB" or "file PATH" is answered by "ready" when every page has been touched.
#include <cstddef>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

constexpr int kLink = 3;

bool read_line(std::string& line) {
  line.clear();
  char c = 0;
  while (::read(kLink, &c, 1) == 1) {
    if (c == '\n') return true;
    line.push_back(c);
  }
  return false;
}

bool take(const std::string& command) {
  const auto space = command.find(' ');
  const std::string kind = command.substr(0, space);
  const std::string what = command.substr(space + 1);
  void* memory = MAP_FAILED;
  std::size_t size = 0;
  if (kind == "file") {
    const int fd = ::open(what.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (fd < 0 || ::fstat(fd, &status) != 0) return false;
    size = static_cast<std::size_t>(status.st_size);
    memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  } else {
    size = std::stoul(what) << 20;
    if (size == 0) return true;
    const int sharing = kind == "shared" ? MAP_SHARED : MAP_PRIVATE;
    memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
  }
  if (memory == MAP_FAILED) return false;
  auto* bytes = static_cast<volatile char*>(memory);
  for (std::size_t at = 0; at < size; at += 4096) {
    if (kind == "file") {
      [[maybe_unused]] const char read = bytes[at];
    } else {
      bytes[at] = 'x';
    }
  }
  return true;
}

}  // namespace

int main() {
  std::string line;
  while (read_line(line)) {
    const std::string answer = take(line) ? "ready\n" : "failed\n";
    if (::write(kLink, answer.data(), answer.size()) < 0) return 1;
  }
}

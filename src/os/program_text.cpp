#include "os/program_text.h"

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <sys/mman.h>

#include "os/file.h"

namespace lm::os {

namespace {

// A line of proc(5)'s maps: 55d0c000-55d0f000 r-xp 00002000 08:02 173521 /usr/bin/name
struct Mapping {
  std::uintptr_t from = 0, to = 0;
  bool is_code_of_a_file = false;
};

Mapping parsed(std::string_view line) {
  Mapping mapping;
  const char* const begin = line.data();
  const char* const end = begin + line.size();
  const auto from = std::from_chars(begin, end, mapping.from, 16);
  if (from.ec != std::errc{} || from.ptr == end || *from.ptr != '-') return {};
  const auto to = std::from_chars(from.ptr + 1, end, mapping.to, 16);
  if (to.ec != std::errc{} || mapping.to < mapping.from) return {};
  const std::string_view rest = line.substr(static_cast<std::size_t>(to.ptr - begin));
  mapping.is_code_of_a_file = rest.starts_with(" r-xp ") && rest.find(" /") != std::string_view::npos;
  return mapping;
}

}  // namespace

Result<std::size_t> release_program_text() {
  const auto maps = read_file("/proc/self/maps");
  if (!maps) return fail(maps.error());
  std::size_t released = 0;
  std::string_view left = *maps;
  while (!left.empty()) {
    const std::size_t end = left.find('\n');
    const Mapping mapping = parsed(left.substr(0, end));
    left.remove_prefix(end == std::string_view::npos ? left.size() : end + 1);
    if (!mapping.is_code_of_a_file) continue;
    // A mapping that refuses (locked memory) stays as it was.
    void* const from = reinterpret_cast<void*>(mapping.from);  // NOLINT(performance-no-int-to-ptr): as told
    if (::madvise(from, mapping.to - mapping.from, MADV_DONTNEED) == 0) released += mapping.to - mapping.from;
  }
  return released;
}

}  // namespace lm::os

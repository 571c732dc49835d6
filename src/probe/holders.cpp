#include "probe/holders.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>

#include "os/file.h"
#include "os/system_error.h"
#include "probe/status_text.h"

namespace lm::probe {

Result<std::vector<Holder>> read_host_holders(std::size_t most, const std::filesystem::path& root) {
  std::error_code error;
  std::filesystem::directory_iterator entries(root / "proc", error);
  if (error) return fail(os::system_error(error.value(), "reading the folder /proc"));
  std::vector<Holder> holders;
  for (const auto end = std::filesystem::directory_iterator(); !error && entries != end;
       entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    int pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size())
      continue;
    const auto text = os::read_file(entries->path() / "status");
    if (!text) continue;  // it has ended meanwhile
    Bytes held;
    for (const auto* field : {"RssAnon", "RssShmem", "VmSwap", "HugetlbPages"}) {
      held += bytes_of(*text, field).value_or(Bytes());
    }
    if (held <= Bytes()) continue;
    holders.push_back({.pid = pid, .name = std::string(field_of(*text, "Name").value_or("")), .bytes = held});
  }
  const auto larger = [](const Holder& a, const Holder& b) {
    return std::tie(b.bytes, a.pid) < std::tie(a.bytes, b.pid);
  };
  const auto kept = static_cast<std::ptrdiff_t>(std::min(most, holders.size()));
  std::partial_sort(holders.begin(), holders.begin() + kept, holders.end(), larger);
  holders.resize(static_cast<std::size_t>(kept));
  return holders;
}

}  // namespace lm::probe

#include "config/arriving.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

namespace lm::config {
namespace {

namespace fs = std::filesystem;

// A split model has some hundred parts at most.
constexpr std::size_t kLongestList = std::size_t{16} << 20;
constexpr std::string_view kEnd = "end\n";

std::string_view take(std::string_view& rest, char end) {
  const std::string_view field = rest.substr(0, rest.find(end));
  rest.remove_prefix(std::min(rest.size(), field.size() + 1));
  return field;
}

}  // namespace

std::string arriving_text(const std::vector<Arrival>& arrivals) {
  std::string text;
  for (const Arrival& one : arrivals)
    text += fmt::format("{}\t{}\t{}\t{}\n", one.from, one.to, one.size, one.hash);
  return text += kEnd;
}

std::optional<std::vector<Arrival>> read_arriving(const fs::path& list) {
  std::error_code missing;
  const auto size = fs::file_size(list, missing);
  if (missing || size > kLongestList) return std::nullopt;
  std::string text(size, '\0');
  std::ifstream stream(list, std::ios::binary);
  if (!stream.read(text.data(), static_cast<std::streamsize>(text.size()))) return std::nullopt;
  if (!text.ends_with(kEnd)) return std::nullopt;
  std::string_view rest = std::string_view(text).substr(0, text.size() - kEnd.size());
  std::vector<Arrival> arrivals;
  while (!rest.empty()) {
    std::string_view line = take(rest, '\n');
    Arrival one;
    one.from = take(line, '\t');
    one.to = take(line, '\t');
    const std::string_view bytes = take(line, '\t');
    one.hash = line;
    const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), one.size);
    if (one.from.empty() || one.to.empty() || error != std::errc() || end != bytes.data() + bytes.size())
      return std::nullopt;
    arrivals.push_back(std::move(one));
  }
  return arrivals;
}

std::set<fs::path> arriving_files(const fs::path& folder) {
  std::set<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator each(folder / ".pull", error), end; !error && each != end;
       each.increment(error)) {
    const auto arrivals = read_arriving(each->path() / kArrivingList);
    if (!arrivals) continue;
    for (const Arrival& one : *arrivals) files.insert(folder / one.to);
  }
  return files;
}

}  // namespace lm::config

#include "simulate/workload.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/nearest.h"
#include "simulate/seeded.h"

namespace lm::simulate {
namespace {

constexpr double kLongestSeconds = 100.0 * 365 * 24 * 3600;
constexpr int kMostTokens = 1'000'000'000;
constexpr std::size_t kMostModels = 1000;
constexpr std::size_t kLongestName = 128;

enum Column { kTime, kModel, kContext, kGenerated };
constexpr std::array<std::string_view, 4> kColumns = {"t_s", "model", "context_tokens", "generated_tokens"};
constexpr std::string_view kClientColumn = "client";  // may be missing

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const std::size_t comma = line.find(',');
    std::string_view cell = line.substr(0, comma);
    while (cell.starts_with(' ')) cell.remove_prefix(1);
    while (cell.ends_with(' ')) cell.remove_suffix(1);
    cells.push_back(cell);
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

class TraceReader {
 public:
  explicit TraceReader(const std::string& file) : file_(file) {}

  Result<Workload> read(std::string_view text) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      std::string_view line = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (line.ends_with('\r')) line.remove_suffix(1);
      ++line_;
      if (line.empty()) continue;
      LM_TRY_VOID(widths_ == 0 ? read_names(line) : read_arrival(line));
    }
    if (workload_.arrivals.empty()) return wrong("a trace needs a line for each request", 0);
    workload_.clients = static_cast<int>(clients_.size());
    return std::move(workload_);
  }

 private:
  std::unexpected<Error> wrong(const std::string& what, int line) const {
    return fail(ErrorCode::kInvalidArgument,
                line == 0 ? fmt::format("{}: {}", file_, what) : fmt::format("{}:{}: {}", file_, line, what),
                "invalid_trace");
  }

  Result<void> read_names(std::string_view line) {
    const std::vector<std::string_view> cells = cells_of(line);
    const std::vector<std::string> names(cells.begin(), cells.end());
    for (std::size_t column = 0; column < kColumns.size(); ++column) {
      const auto found = std::ranges::find(cells, kColumns[column]);
      if (found == cells.end()) {
        const auto meant = config::nearest(kColumns[column], names);
        return wrong(fmt::format("the first line must name the columns {}; {} is not there{}",
                                 fmt::join(kColumns, ", "), kColumns[column],
                                 meant ? fmt::format(", is {} meant?", *meant) : std::string()),
                     line_);
      }
      places_[column] = static_cast<std::size_t>(found - cells.begin());
    }
    if (const auto client = std::ranges::find(cells, kClientColumn); client != cells.end())
      client_place_ = static_cast<std::size_t>(client - cells.begin());
    widths_ = cells.size();
    return {};
  }

  Result<void> read_arrival(std::string_view line) {
    const std::vector<std::string_view> cells = cells_of(line);
    if (cells.size() != widths_)
      return wrong(fmt::format("expected {} cells, found {}", widths_, cells.size()), line_);
    const auto cell = [&](Column column) { return cells[places_[column]]; };
    const auto at = number<double>(cell(kTime));
    if (!at || !std::isfinite(*at) || std::abs(*at) > kLongestSeconds)
      return wrong(fmt::format("t_s must be seconds, found \"{}\"", cell(kTime)), line_);
    if (!first_) first_ = at;
    if (*at < last_)
      return wrong(fmt::format("t_s goes back, from {} to {}: sort the trace by time", last_, *at), line_);
    last_ = *at;
    const auto context = number<int>(cell(kContext));
    const auto generated = number<int>(cell(kGenerated));
    for (const auto& [column, value] : {std::pair(kContext, context), std::pair(kGenerated, generated)}) {
      if (!value || *value < 0 || *value > kMostTokens)
        return wrong(
            fmt::format("{} must be a number of tokens, found \"{}\"", kColumns[column], cell(column)),
            line_);
    }
    const std::string name(cell(kModel));
    if (name.empty() || name.size() > kLongestName) return wrong("the model has no name", line_);
    const auto [known, fresh] = models_.try_emplace(name, static_cast<int>(models_.size()));
    if (fresh) workload_.models.push_back(name);
    if (models_.size() > kMostModels)
      return wrong(fmt::format("more than {} models: is the column right?", kMostModels), line_);
    workload_.arrivals.push_back({.at = from_seconds(*at - *first_),
                                  .model = known->second,
                                  .context = *context,
                                  .generated = *generated,
                                  .service = {},
                                  .client = client_of(cells)});
    return {};
  }

  int client_of(const std::vector<std::string_view>& cells) {
    if (!client_place_ || cells[*client_place_].empty()) return -1;
    return clients_.try_emplace(std::string(cells[*client_place_]), static_cast<int>(clients_.size()))
        .first->second;
  }

  const std::string& file_;
  int line_ = 0;
  std::size_t widths_ = 0;  // cells in a line; 0: the names have not been read
  std::array<std::size_t, kColumns.size()> places_{};
  std::optional<std::size_t> client_place_;
  std::map<std::string, int> models_, clients_;
  std::optional<double> first_;
  double last_ = -2 * kLongestSeconds;
  Workload workload_;
};

}  // namespace

Duration Workload::span() const {
  return arrivals.empty() ? Duration() : arrivals.back().at - arrivals.front().at;
}

Result<Workload> read_trace(std::string_view csv, const std::string& file) {
  return TraceReader(file).read(csv);
}

Workload synthesize(const Synthetic& wanted) {
  Workload workload;
  workload.by_tokens = false;
  std::vector<double> shares;
  double sum = 0;
  for (int i = 0; i < wanted.models; ++i) {
    workload.models.push_back(i < 26 ? std::string(1, static_cast<char>('A' + i))
                                     : fmt::format("M{}", i + 1));
    sum += std::pow(i + 1, -wanted.skew);
    shares.push_back(sum);
  }
  Seeded random(wanted.seed);
  for (double at = random.exponential(wanted.rate); at < seconds(wanted.span);
       at += random.exponential(wanted.rate)) {
    const double share = random.uniform() * sum;
    const auto model = std::ranges::upper_bound(shares, share);
    workload.arrivals.push_back(
        {.at = from_seconds(at),
         .model = static_cast<int>(std::min<std::ptrdiff_t>(model - shares.begin(), wanted.models - 1)),
         .context = 0,
         .generated = 0,
         .service = from_seconds(random.exponential(1 / seconds(wanted.service))),
         .client = -1});
  }
  return workload;
}

Workload scaled(Workload workload, double factor) {
  for (Arrival& arrival : workload.arrivals) arrival.at = from_seconds(seconds(arrival.at) / factor);
  return workload;
}

}  // namespace lm::simulate

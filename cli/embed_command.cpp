// embed: texts into vectors.
#include <algorithm>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "config/utf8.h"

namespace lm::cli {
namespace {

constexpr std::string_view kDefaultModel = "embedding";
constexpr std::size_t kShownNumbers = 6;
constexpr int kShownText = 40;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
    begin = end + 1;
  }
  return lines;
}

Error unusable(std::string message, std::string reason) {
  return {.code = ErrorCode::kInvalidArgument,
          .message = std::move(message),
          .reason = std::move(reason),
          .fields = {},
          .retry_after = {}};
}

// As people and other programs write numbers: 0.5 rather than 5E-1.
std::string row(const boost::json::array& vector) {
  std::vector<double> numbers;
  for (const auto& number : vector) numbers.push_back(number.is_number() ? number.to_number<double>() : 0);
  return fmt::format("[{}]", fmt::join(numbers, ","));
}

}  // namespace

ExitCode run(Context& context, const EmbedOptions& options) {
  std::vector<std::string> texts;
  for (const std::string& text : options.texts) {
    if (text != "-") {
      texts.push_back(text);
      continue;
    }
    const auto input = context.host.read_input(context.interrupts);
    if (!input) return context.report(interrupted());
    for (std::string& line : lines_of(*input)) texts.push_back(std::move(line));
  }
  if (texts.empty()) return context.report(unusable("there is no text: standard input is empty", "usage"));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (!config::is_utf8(texts[i]))
      return context.report(unusable(
          fmt::format("text {} is not UTF-8, which is all that the daemon is told", i + 1), "usage"));
  }
  auto daemon = context.daemon();
  if (!daemon) return context.report(daemon.error());

  const std::string model = options.model.empty() ? std::string(kDefaultModel) : options.model;
  const auto answer = daemon->post(
      "/v1/embeddings", {{"model", model}, {"input", boost::json::array(texts.begin(), texts.end())}},
      Patience::kEndless);
  if (!answer) return context.report(answer.error());
  if (context.json) {
    print_json(context, *answer);
    return ExitCode::kOk;
  }
  const auto value = parse_json(*answer);
  const auto* data = value ? array_of(*value, "data") : nullptr;
  if (data == nullptr || data->size() != texts.size()) {
    return context.report(unusable("the daemon answered without a vector for each text", "bad_answer"));
  }
  for (std::size_t i = 0; i < data->size(); ++i) {
    const auto* vector = array_of((*data)[i], "embedding");
    if (vector == nullptr)
      return context.report(unusable("the daemon answered without a vector for each text", "bad_answer"));
    // A file gets every number, a person the beginning.
    if (!context.out().is_terminal) {
      context.out().line(row(*vector));
      continue;
    }
    std::string numbers;
    for (std::size_t n = 0; n < std::min(kShownNumbers, vector->size()); ++n) {
      if ((*vector)[n].is_number()) numbers += fmt::format("{:8.4f}", (*vector)[n].to_number<double>());
    }
    const std::string line =
        fmt::format("{}  {} … ({} numbers)", fit(printable(texts[i]), kShownText), numbers, vector->size());
    context.out().line(fit(line, context.out().columns()));
  }
  return ExitCode::kOk;
}

}  // namespace lm::cli

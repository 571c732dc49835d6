#include "runtime/state_sidecar.h"

#include <charconv>
#include <map>

#include <fmt/format.h>

#include "base/checksum.h"

namespace lm::runtime {
namespace {

constexpr std::string_view kTitle = "llm-manager conversation 1\n";
constexpr std::string_view kSeal = "seal ";

template <class Number>
bool read_number(std::string_view text, Number& number, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size() && number >= Number();
}

// Values are one line each.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

}  // namespace

std::filesystem::path sidecar_of(const std::filesystem::path& state_file) {
  return std::filesystem::path(state_file).replace_extension(".state");
}

std::string to_text(const StateSidecar& s) {
  std::string text(kTitle);
  text += fmt::format("model {}\nfingerprint {}\nsaved_ms {}\nreread_us {}\n", one_line(s.model.str()),
                      one_line(s.fingerprint), s.saved_ms,
                      std::chrono::duration_cast<std::chrono::microseconds>(s.reread).count());
  text += fmt::format("tokens {}\ntoken_sum {:016x}\nsize {}\nsum {:016x}\n", s.state.tokens,
                      s.state.token_sum, s.state.size.count(), s.state.sum);
  return text + fmt::format("{}{:016x}\n", kSeal, checksum(text));
}

Result<StateSidecar> read_sidecar(std::string_view text, const std::filesystem::path& sidecar_file) {
  const auto foreign = [&](std::string_view how) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} {}", sidecar_file.string(), how),
                "foreign_state");
  };
  const std::size_t seal = text.rfind(kSeal);
  if (!text.starts_with(kTitle) || seal == std::string_view::npos || seal == 0 || text[seal - 1] != '\n')
    return foreign("is none of ours");
  if (text.substr(seal) != fmt::format("{}{:016x}\n", kSeal, checksum(text.substr(0, seal))))
    return foreign("was changed or cut");

  std::map<std::string_view, std::string_view> fields;
  std::string_view rest = text.substr(kTitle.size(), seal - kTitle.size());
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return foreign("has a line without a value");
    fields[line.substr(0, space)] = line.substr(space + 1);
  }
  StateSidecar out;
  out.model = ModelId(std::string(fields["model"]));
  out.fingerprint = fields["fingerprint"];
  std::int64_t reread_us = 0, size = 0;
  const bool good = read_number(fields["saved_ms"], out.saved_ms) &&
                    read_number(fields["reread_us"], reread_us) &&
                    read_number(fields["tokens"], out.state.tokens) &&
                    read_number(fields["token_sum"], out.state.token_sum, 16) &&
                    read_number(fields["size"], size) && read_number(fields["sum"], out.state.sum, 16);
  if (!good) return foreign("lacks a number");
  out.reread = std::chrono::microseconds(reread_us);
  out.state.size = Bytes(size);
  out.state.file = std::filesystem::path(sidecar_file).replace_extension(".slot");
  return out;
}

}  // namespace lm::runtime

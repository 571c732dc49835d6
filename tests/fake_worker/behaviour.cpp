#include "behaviour.h"

#include <charconv>
#include <fstream>
#include <functional>
#include <map>

#include <fmt/format.h>

namespace lm::fake {
namespace {

using Set = std::function<bool(Behaviour&, const std::string&)>;

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

template <class T>
Set integer(T Behaviour::* field) {
  return [field](Behaviour& b, const std::string& text) {
    const auto value = number(text);
    if (value) b.*field = static_cast<T>(*value);
    return value.has_value();
  };
}

Set flag(bool Behaviour::* field) {
  return [field](Behaviour& b, const std::string& text) {
    b.*field = text == "1";
    return text == "1" || text == "0";
  };
}

template <class T>
Set megabytes(T Behaviour::* field) {
  return [field](Behaviour& b, const std::string& text) {
    const auto value = number(text);
    if (value) b.*field = mib(*value);
    return value.has_value();
  };
}

Set milliseconds(Duration Behaviour::* field) {
  return [field](Behaviour& b, const std::string& text) {
    const auto value = number(text);
    if (value) b.*field = std::chrono::milliseconds(*value);
    return value.has_value();
  };
}

Set words(std::string Behaviour::* field) {
  return [field](Behaviour& b, const std::string& text) {
    b.*field = text;
    return !text.empty();
  };
}

template <class Enum>
Set one_of(Enum Behaviour::* field, std::map<std::string, Enum> names) {
  return [field, names = std::move(names)](Behaviour& b, const std::string& text) {
    const auto it = names.find(text);
    if (it != names.end()) b.*field = it->second;
    return it != names.end();
  };
}

const std::map<std::string, Set>& keys() {
  static const std::map<std::string, Moment> moments = {{"inspection", Moment::kInspection},
                                                        {"loading", Moment::kLoading},
                                                        {"prefill", Moment::kPrefill},
                                                        {"decode", Moment::kDecode},
                                                        {"stop", Moment::kStop}};
  static const std::map<std::string, Set> table = {
      {"kind", one_of(&Behaviour::kind, {{"generation", ModelKind::kGeneration},
                                         {"embedding", ModelKind::kEmbedding},
                                         {"rerank", ModelKind::kRerank}})},
      {"context", integer(&Behaviour::context)},
      {"architecture", words(&Behaviour::architecture)},
      {"memory_mb", megabytes(&Behaviour::memory)},
      {"predict_mb", megabytes(&Behaviour::predict)},
      {"claim_mb", megabytes(&Behaviour::claim)},
      {"card_mb", megabytes(&Behaviour::card_memory)},
      {"card_predict_mb", megabytes(&Behaviour::card_predict)},
      {"card_folder", words(&Behaviour::card_folder)},
      {"slots", integer(&Behaviour::slots)},
      {"stage_ms", milliseconds(&Behaviour::stage_time)},
      {"inspect_ms", milliseconds(&Behaviour::inspect_time)},
      {"first_byte_ms", milliseconds(&Behaviour::first_byte_time)},
      {"token_ms", milliseconds(&Behaviour::token_time)},
      {"tokens", integer(&Behaviour::tokens)},
      {"say", words(&Behaviour::say)},
      {"echo", flag(&Behaviour::echo)},
      {"fail", words(&Behaviour::fail)},
      {"fail_inspection", words(&Behaviour::fail_inspection)},
      {"crash_at", one_of(&Behaviour::crash_at, moments)},
      {"after_tokens", integer(&Behaviour::after_tokens)},
      {"crash_by", words(&Behaviour::crash_by)},
      {"hang_at", one_of(&Behaviour::hang_at, moments)},
      {"silent", flag(&Behaviour::silent)},
      {"garbage", flag(&Behaviour::garbage)},
      {"endless_line", flag(&Behaviour::endless_line)},
      {"unknown_kind", flag(&Behaviour::unknown_kind)},
      {"wrong_generation", flag(&Behaviour::wrong_generation)},
      {"ready_twice", flag(&Behaviour::ready_twice)},
      {"ready_before_socket", flag(&Behaviour::ready_before_socket)},
      {"ignore_sigterm", flag(&Behaviour::ignore_sigterm)},
      {"times", integer(&Behaviour::times)}};
  return table;
}

// Counts a load; past the last one that was to go wrong it behaves.
void forgive(Behaviour& b, const std::filesystem::path& file) {
  const std::filesystem::path seen = file.string() + ".seen";
  std::error_code error;
  const auto before = std::filesystem::file_size(seen, error);
  std::ofstream(seen, std::ios::app) << 'x';
  if (error || before < static_cast<std::uintmax_t>(b.times)) return;
  Behaviour good;
  good.kind = b.kind;
  good.context = b.context;
  good.memory = b.memory;
  good.card_memory = b.card_memory;
  good.card_folder = b.card_folder;
  good.slots = b.slots;
  good.stage_time = b.stage_time;
  good.first_byte_time = b.first_byte_time;
  good.token_time = b.token_time;
  good.tokens = b.tokens;
  good.say = b.say;
  good.echo = b.echo;
  b = good;
}

}  // namespace

Result<Behaviour> Behaviour::read(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) return lm::fail(ErrorCode::kNotFound, "cannot open " + file.string(), "io_error");
  Behaviour behaviour;
  std::string line;
  for (int row = 1; std::getline(in, line); ++row) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t equals = line.find('=');
    const auto it = equals == std::string::npos ? keys().end() : keys().find(line.substr(0, equals));
    if (it == keys().end() || !it->second(behaviour, line.substr(equals + 1))) {
      return lm::fail(ErrorCode::kInvalidArgument,
                      fmt::format("{}:{}: this is no fake model: {:.80}", file.string(), row, line),
                      "invalid_artifact");
    }
  }
  return behaviour;
}

Result<Behaviour> read_for_load(const std::filesystem::path& file) {
  auto behaviour = Behaviour::read(file);
  if (behaviour && behaviour->times > 0) forgive(*behaviour, file);
  return behaviour;
}

}  // namespace lm::fake

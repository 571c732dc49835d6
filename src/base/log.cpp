#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace lm::log {
namespace {

// "INFO", as the requirements' log has it; spdlog's own names are in small letters.
class UpperCaseLevel final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& line, const std::tm&, spdlog::memory_buf_t& out) override {
    for (const char c : spdlog::level::to_string_view(line.level))
      out.push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c));
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<UpperCaseLevel>(); }
};

}  // namespace

Result<void> open(std::string_view level, const std::filesystem::path& file) {
  try {
    std::vector<spdlog::sink_ptr> sinks = {std::make_shared<spdlog::sinks::stderr_color_sink_mt>()};
    if (!file.empty()) sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string()));
    auto logger = std::make_shared<spdlog::logger>("llm-manager", sinks.begin(), sinks.end());
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<UpperCaseLevel>('*').set_pattern("%Y-%m-%d %H:%M:%S.%e [%^%*%$] %v");
    logger->set_formatter(std::move(formatter));
    logger->set_level(spdlog::level::from_str(std::string(level)));
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& e) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("cannot open the log file {}: {}", file.string(), e.what()), "io_error");
  }
  return {};
}

std::string redact(std::string_view secret) {
  if (secret.size() < 12) return "…";
  return std::string(secret.substr(0, 5)) + "…";
}

}  // namespace lm::log

#include "http/sse.h"

#include <utility>

namespace lm::http {
namespace {

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (const char c : value) out += c == '\n' || c == '\r' ? ' ' : c;
  out += '\n';
}

}  // namespace

std::string sse_event(std::string_view data, std::string_view event, std::string_view id) {
  std::string out;
  out.reserve(data.size() + event.size() + id.size() + 32);
  if (!event.empty()) append_field(out, "event", event);
  if (!id.empty()) append_field(out, "id", id);
  for (;;) {
    const std::size_t end = data.find_first_of("\r\n");
    out += "data: ";
    out += data.substr(0, end);
    out += '\n';
    if (end == std::string_view::npos) break;
    const bool pair = data[end] == '\r' && end + 1 < data.size() && data[end + 1] == '\n';
    data.remove_prefix(end + (pair ? 2 : 1));
  }
  out += '\n';
  return out;
}

std::string sse_comment(std::string_view text) {
  std::string out = ": ";
  for (const char c : text) out += c == '\n' || c == '\r' ? ' ' : c;
  out += "\n\n";
  return out;
}

SseParser::SseParser(std::function<void(SseEvent)> on_event, std::size_t limit)
    : on_event_(std::move(on_event)), limit_(limit) {}

Result<void> SseParser::feed(std::string_view bytes) {
  if (bytes.empty()) return {};
  if (std::exchange(after_return_, false) && bytes.front() == '\n') bytes.remove_prefix(1);
  while (!bytes.empty()) {
    const std::size_t end = bytes.find_first_of("\r\n");
    const std::string_view part = bytes.substr(0, end);
    if (line_.size() + part.size() + event_.data.size() > limit_) {
      return fail(ErrorCode::kUnavailable,
                  "an event of the stream is larger than " + std::to_string(limit_) + " bytes",
                  "bad_upstream");
    }
    if (end == std::string_view::npos) {
      line_ += part;
      return {};
    }
    if (line_.empty()) {
      take_line(part);
    } else {
      line_ += part;
      take_line(std::exchange(line_, {}));
    }
    const bool was_return = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (was_return) {
      if (bytes.empty())
        after_return_ = true;
      else if (bytes.front() == '\n')
        bytes.remove_prefix(1);
    }
  }
  return {};
}

bool SseParser::finish() {
  const bool begun = has_data_ || !line_.empty();
  line_.clear();
  event_ = {};
  has_data_ = false;
  return begun;
}

void SseParser::take_line(std::string_view line) {
  if (std::exchange(at_start_, false) && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  if (line.empty()) {
    // An event without data is none; its name does not carry over, its id does.
    SseEvent done = std::exchange(event_, SseEvent{.event = {}, .data = {}, .id = event_.id});
    if (std::exchange(has_data_, false)) on_event_(std::move(done));
    return;
  }
  if (line.front() == ':') return;
  const std::size_t colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (name == "data") {
    if (has_data_) event_.data += '\n';
    event_.data += value;
    has_data_ = true;
  } else if (name == "event") {
    event_.event = value;
  } else if (name == "id") {
    if (value.find('\0') == std::string_view::npos) event_.id = value;
  }
}

}  // namespace lm::http

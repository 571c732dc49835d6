#include "http/target.h"

namespace lm::http {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The length of "http://host:port" at the beginning of an absolute target, 0 of any other.
std::size_t origin_length(std::string_view target) {
  const std::size_t scheme = target.find("://");
  if (target.empty() || target.front() == '/' || scheme == std::string_view::npos) return 0;
  const std::size_t end = target.find_first_of("/?", scheme + 3);
  return end == std::string_view::npos ? target.size() : end;
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0 || high + low == 0) return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string percent_encode(std::string_view text, bool keep_slash) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string_view raw_path(std::string_view target) {
  const std::size_t origin = origin_length(target);
  target.remove_prefix(origin);
  std::string_view path = target.substr(0, target.find_first_of("?#"));
  if (origin != 0 && path.empty()) return "/";
  if (path.empty() || (path.front() != '/' && path != "*")) return {};
  return path;
}

std::string_view authority_of(std::string_view target) {
  const std::size_t origin = origin_length(target);
  if (origin == 0) return {};
  const std::size_t start = target.find("://") + 3;
  return target.substr(start, origin - start);
}

bool split_target(Request& request) {
  const std::string_view raw = raw_path(request.target);
  if (raw.empty()) return false;
  auto path = percent_decode(raw);
  if (!path) return false;
  request.path = std::move(*path);
  request.query.clear();
  const std::size_t mark = request.target.find('?');
  if (mark == std::string::npos) return true;
  std::string_view query = std::string_view(request.target).substr(mark + 1);
  query = query.substr(0, query.find('#'));
  while (!query.empty()) {
    const std::size_t amp = query.find('&');
    const std::string_view pair = query.substr(0, amp);
    query.remove_prefix(amp == std::string_view::npos ? query.size() : amp + 1);
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    auto key = percent_decode(pair.substr(0, equals), true);
    auto value =
        equals == std::string_view::npos ? std::string() : percent_decode(pair.substr(equals + 1), true);
    if (!key || !value) return false;
    request.query.emplace_back(std::move(*key), std::move(*value));
  }
  return true;
}

}  // namespace lm::http

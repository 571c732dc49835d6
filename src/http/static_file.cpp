#include "http/static_file.h"

#include <algorithm>
#include <zlib.h>

#include <fmt/format.h>

namespace lm::http {
namespace {

// A file that comes to more is none of ours.
constexpr std::size_t kMostUnpacked = 16u << 20;
// Says to zlib that a header of gzip's comes first.
constexpr int kGzipWindow = 15 + 16;

constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// "gzip;q=0" says no; what has another weight, or none, says yes.
bool is_refused(std::string_view parameters) {
  const std::string_view weight = trimmed(parameters);
  if (!weight.starts_with("q=") && !weight.starts_with("Q=")) return false;
  return weight.substr(2).find_first_not_of("0.") == std::string_view::npos;
}

// Weak marks compare as strong ones do: both say that nothing has to be sent.
bool has_it(const Headers& headers, std::string_view tag) {
  const auto known = headers.get("If-None-Match");
  if (!known) return false;
  bool has = false;
  for_each_token(*known, [&](std::string_view one) {
    if (one.starts_with("W/")) one.remove_prefix(2);
    has = has || one == tag || one == "*";
  });
  return has;
}

}  // namespace

bool takes_gzip(const Headers& headers) {
  const auto list = headers.get("Accept-Encoding");
  if (!list) return false;
  bool named = false;
  bool takes = false;
  for_each_token(*list, [&](std::string_view token) {
    const std::size_t end = std::min(token.find(';'), token.size());
    const std::string_view name = trimmed(token.substr(0, end));
    const bool is_gzip = equals_ignoring_case(name, "gzip");
    if (!is_gzip && (name != "*" || named)) return;
    named = named || is_gzip;
    takes = !is_refused(end < token.size() ? token.substr(end + 1) : std::string_view());
  });
  return takes;
}

Result<std::string> unpack_gzip(std::span<const char> packed, std::size_t limit) {
  const auto wrong = [] { return fail(ErrorCode::kInternal, "these bytes are not gzip's", "not_gzip"); };
  z_stream stream{};
  // It reads through a pointer that is not const, and does not write there.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  if (inflateInit2(&stream, kGzipWindow) != Z_OK) return wrong();
  std::string text;
  int said = Z_OK;
  while (said == Z_OK && text.size() < limit) {
    const std::size_t done = text.size();
    text.resize(std::min(limit, std::max<std::size_t>(4 * packed.size(), 2 * done)));
    stream.next_out = reinterpret_cast<Bytef*>(text.data() + done);
    stream.avail_out = static_cast<uInt>(text.size() - done);
    said = inflate(&stream, Z_NO_FLUSH);
    text.resize(text.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (said != Z_STREAM_END) return wrong();
  return text;
}

Task<void> answer_file(Exchange& exchange, StaticFile file) {
  const Headers& asked = exchange.request().headers;
  const bool packed = takes_gzip(asked);
  // The two forms are two things for whoever keeps them.
  const std::string tag = fmt::format("\"{}{}\"", file.hash, packed ? "-gzip" : "");
  Headers headers{
      {"Content-Type", std::string(file.content_type)},
      {"ETag", tag},
      {"Cache-Control", file.is_forever ? "public, max-age=31536000, immutable" : "no-cache"},
      {"Vary", "Accept-Encoding"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
  };
  if (file.content_type.starts_with("text/html")) {
    headers.add("Content-Security-Policy", kPolicy);
    headers.add("Cross-Origin-Opener-Policy", "same-origin");
  }
  if (has_it(asked, tag)) {
    headers.erase("Content-Type");
    co_await exchange.respond({.status = 304, .headers = std::move(headers), .body = {}});
    co_return;
  }
  if (!packed) {
    auto text = unpack_gzip(file.packed, kMostUnpacked);
    if (!text) {
      co_await exchange.fail(500, std::move(text).error());
      co_return;
    }
    co_await exchange.respond({.status = 200, .headers = std::move(headers), .body = *std::move(text)});
    co_return;
  }
  headers.add("Content-Encoding", "gzip");
  headers.add("Content-Length", std::to_string(file.packed.size()));
  if (!exchange.begin(200, std::move(headers))) co_return;
  co_await exchange.end(std::string_view(file.packed.data(), file.packed.size()));
}

void add_files(Router& router, std::span<const StaticFile> files) {
  for (const StaticFile& file : files) {
    router.add(Method::kGet, file.path,
               Route{[file](Exchange& exchange) { return answer_file(exchange, file); }, Principal::kNone});
  }
}

}  // namespace lm::http

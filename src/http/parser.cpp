#include "http/parser.h"

#include <algorithm>
#include <utility>

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "http/target.h"

namespace lm::http {
namespace {

namespace beast = boost::beast;
using beast::http::field;

// How far a header's end has been looked for, so that a header sent byte by byte costs linear time.
class HeaderEnd {
 public:
  // The header's length with its final empty line; nullopt where it has not arrived.
  std::optional<std::size_t> find(std::string_view input) {
    const std::size_t at = input.find("\r\n\r\n", looked_ < 3 ? 0 : looked_ - 3);
    looked_ = input.size();
    if (at == std::string_view::npos) return std::nullopt;
    looked_ = 0;
    return at + 4;
  }

 private:
  std::size_t looked_ = 0;
};

// Beast's parser with our own message as its target: nothing is copied twice and nothing is kept in Beast's
// containers.
template <bool kIsRequest>
class Sink final : public beast::http::basic_parser<kIsRequest> {
 public:
  std::string method;
  std::string target;
  int status = 0;
  int version = 11;
  Headers headers;
  std::string* body = nullptr;
  bool in_trailer = false;
  bool reserve_body = false;

 private:
  using error_code = beast::error_code;
  using string_view = beast::string_view;

  void on_request_impl(beast::http::verb, string_view method_text, string_view target_text, int v,
                       error_code&) override {
    method.assign(method_text.data(), method_text.size());
    target.assign(target_text.data(), target_text.size());
    version = v;
  }
  void on_response_impl(int code, string_view, int v, error_code&) override {
    status = code;
    version = v;
  }
  void on_field_impl(field, string_view name, string_view value, error_code&) override {
    // A trailer's fields are nobody's business: merging them into the header is how requests get smuggled.
    if (!in_trailer) headers.add({name.data(), name.size()}, {value.data(), value.size()});
  }
  void on_header_impl(error_code&) override { in_trailer = true; }
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code&) override {
    // A promise of bytes is not bytes: reserve no more than a megabyte on the client's word.
    if (reserve_body && length)
      body->reserve(static_cast<std::size_t>(std::min<std::uint64_t>(*length, 1u << 20)));
  }
  std::size_t on_body_impl(string_view data, error_code&) override { return append(data); }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view data, error_code&) override {
    return append(data);
  }
  void on_finish_impl(error_code&) override {}

  std::size_t append(string_view data) {
    body->append(data.data(), data.size());
    return data.size();
  }
};

std::unexpected<Refusal> refuse(int status, ErrorCode code, std::string message, std::string reason) {
  return std::unexpected(Refusal{
      .status = status, .error = fail(code, std::move(message), std::move(reason)).error(), .headers = {}});
}

std::unexpected<Refusal> refuse_bad_request(std::string message) {
  return refuse(400, ErrorCode::kInvalidArgument, std::move(message), "bad_request");
}

bool is_token_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_chunked_alone(const Headers& headers) {
  return headers.count("Transfer-Encoding") == 1 &&
         equals_ignoring_case(headers.get("Transfer-Encoding").value_or(""), "chunked");
}

// The shortest body in chunks is "0\r\n\r\n". Beast 1.81 asserts that a last chunk which it sees a second
// time has so many bytes, which a first one that comes byte by byte has not: nothing is shown to it before.
constexpr std::size_t kShortestChunkedBody = 5;

}  // namespace

struct RequestParser::Impl {
  Impl() {
    sink.body = &request.body;
    sink.reserve_body = true;
    sink.eager(true);
    sink.header_limit(UINT32_MAX);  // ours is checked before Beast sees a byte, over the whole header
  }

  Sink<true> sink;
  Request request;
  ParseLimits limits;
  HeaderEnd end;
  bool started = false;
  bool header_done = false;
  bool body_begun = false;

  std::unexpected<Refusal> refuse_parse(beast::error_code ec) const {
    using beast::http::error;
    if (ec == error::body_limit) {
      return refuse(413, ErrorCode::kInvalidArgument,
                    "the request's body is larger than the " + std::to_string(limits.body) + " bytes allowed",
                    "body_too_large");
    }
    if (ec == error::bad_version) {
      return refuse(505, ErrorCode::kInvalidArgument, "only HTTP/1.0 and HTTP/1.1 are spoken here",
                    "bad_version");
    }
    return refuse_bad_request("malformed HTTP request (" + ec.message() + ")");
  }

  std::unexpected<Refusal> refuse_header() const {
    return refuse(
        431, ErrorCode::kInvalidArgument,
        "the request's header is larger than the " + std::to_string(limits.header) + " bytes allowed",
        "header_too_large");
  }

  std::expected<std::size_t, Refusal> feed_header(std::string_view input) {
    std::size_t taken = 0;
    if (!started) {
      // Empty lines before a request are tolerated, as the standard asks.
      while (taken < input.size() && (input[taken] == '\r' || input[taken] == '\n')) ++taken;
      if (taken == input.size()) return taken;
      if (!is_token_character(input[taken])) return refuse_bad_request("this is not HTTP");
      started = true;
      if (taken != 0) return taken;  // the end is looked for from the same first byte each time
    }
    const auto length = end.find(input);
    if (!length) {
      if (input.size() > limits.header) return refuse_header();
      return std::size_t{0};
    }
    if (*length > limits.header) return refuse_header();
    beast::error_code ec;
    sink.body_limit(limits.body);
    const std::size_t used = sink.put(boost::asio::buffer(input.data(), *length), ec);
    request.method_text = std::move(sink.method);
    request.method = method_from_string(request.method_text);
    request.target = std::move(sink.target);
    request.headers = std::move(sink.headers);
    request.version = sink.version;
    if (ec && ec != beast::http::error::need_more) return refuse_parse(ec);
    if (!sink.is_header_done() || used != *length) return refuse_bad_request("malformed HTTP header");
    header_done = true;
    if (auto refusal = judge()) return std::unexpected(std::move(*refusal));
    return used;
  }

  // What the standard demands of a request beyond its grammar, and what smuggling lives on.
  std::optional<Refusal> judge() {
    const Headers& headers = request.headers;
    if (headers.has("Transfer-Encoding")) {
      if (request.version == 10) return refuse_bad_request("HTTP/1.0 has no transfer encoding").error();
      if (!is_chunked_alone(headers)) {
        return refuse(501, ErrorCode::kUnimplemented, "the only transfer encoding taken is chunked",
                      "bad_encoding")
            .error();
      }
    }
    const std::size_t hosts = headers.count("Host");
    if (hosts > 1 || (hosts == 0 && request.version == 11)) {
      return refuse_bad_request("a request needs exactly one Host header").error();
    }
    if (auto authority = authority_of(request.target); !authority.empty()) {
      request.headers.set("Host", std::string(authority));
    }
    if (const auto expect = headers.get("Expect"); expect && !equals_ignoring_case(*expect, "100-continue")) {
      return refuse(417, ErrorCode::kInvalidArgument, "the only expectation met is 100-continue",
                    "bad_expectation")
          .error();
    }
    if (!split_target(request)) return refuse_bad_request("the request's target cannot be decoded").error();
    return std::nullopt;
  }
};

RequestParser::RequestParser(ParseLimits limits) : impl_(std::make_unique<Impl>()) {
  impl_->limits = limits;
}
RequestParser::~RequestParser() = default;

std::expected<std::size_t, Refusal> RequestParser::feed(std::string_view input) {
  if (!impl_->header_done) return impl_->feed_header(input);
  if (done() || input.empty()) return std::size_t{0};
  if (!impl_->body_begun) {
    if (impl_->sink.chunked() && input.size() < kShortestChunkedBody) return std::size_t{0};
    impl_->body_begun = true;
  }
  beast::error_code ec;
  const std::size_t used = impl_->sink.put(boost::asio::buffer(input.data(), input.size()), ec);
  if (ec && ec != beast::http::error::need_more) return impl_->refuse_parse(ec);
  if (!done() && input.size() - used > impl_->limits.header) return impl_->refuse_header();
  return used;
}

bool RequestParser::started() const {
  return impl_->started;
}
bool RequestParser::header_done() const {
  return impl_->header_done;
}
bool RequestParser::done() const {
  return impl_->header_done && impl_->sink.is_done();
}
bool RequestParser::keep_alive() const {
  return impl_->sink.keep_alive();
}
Request& RequestParser::request() {
  return impl_->request;
}

struct ResponseParser::Impl {
  Impl(ParseLimits l, bool h) : limits(l), head_only(h) { renew(); }

  void renew() {
    sink.emplace();
    sink->eager(true);
    sink->header_limit(UINT32_MAX);
    sink->body_limit(boost::none);
    sink->skip(head_only);
  }

  std::optional<Sink<false>> sink;
  ParseLimits limits;
  bool head_only;
  HeaderEnd end;
  bool started = false;
  bool header_done = false;
  bool body_begun = false;
  bool ended = false;  // by the peer's closing
};

namespace {

std::unexpected<Error> bad_upstream(std::string message) {
  return fail(ErrorCode::kUnavailable, std::move(message), "bad_upstream");
}

}  // namespace

ResponseParser::ResponseParser(ParseLimits limits, bool head_only)
    : impl_(std::make_unique<Impl>(limits, head_only)) {}
ResponseParser::~ResponseParser() = default;

Result<std::size_t> ResponseParser::feed(std::string_view input, std::string& body) {
  Impl& impl = *impl_;
  std::size_t taken = 0;
  if (!input.empty()) impl.started = true;
  while (!impl.header_done) {
    const std::string_view rest = input.substr(taken);
    const auto length = impl.end.find(rest);
    if (length.value_or(rest.size()) > impl.limits.header) {
      return bad_upstream("the answer's header is larger than " + std::to_string(impl.limits.header) +
                          " bytes");
    }
    if (!length) return taken;
    beast::error_code ec;
    impl.sink->body = &body;
    const std::size_t used = impl.sink->put(boost::asio::buffer(rest.data(), *length), ec);
    if (ec && ec != beast::http::error::need_more)
      return bad_upstream("malformed HTTP answer (" + ec.message() + ")");
    if (!impl.sink->is_header_done() || used != *length) return bad_upstream("malformed HTTP answer");
    taken += used;
    if (impl.sink->status / 100 == 1 && impl.sink->status != 101) {
      impl.renew();
      continue;
    }
    if (impl.sink->headers.has("Transfer-Encoding") && !is_chunked_alone(impl.sink->headers)) {
      return bad_upstream("the answer has a transfer encoding other than chunked");
    }
    impl.header_done = true;
  }
  if (done() || taken == input.size()) return taken;
  if (!impl.body_begun) {
    if (impl.sink->chunked() && input.size() - taken < kShortestChunkedBody) return taken;
    impl.body_begun = true;
  }
  beast::error_code ec;
  impl.sink->body = &body;
  taken += impl.sink->put(boost::asio::buffer(input.data() + taken, input.size() - taken), ec);
  if (ec && ec != beast::http::error::need_more)
    return bad_upstream("malformed HTTP answer (" + ec.message() + ")");
  if (!done() && input.size() - taken > impl.limits.header)
    return bad_upstream("the answer has an endless chunk header");
  return taken;
}

Result<void> ResponseParser::feed_end() {
  if (done()) return {};
  if (!impl_->header_done || !impl_->sink->need_eof()) {
    return bad_upstream(impl_->header_done ? "the connection was cut before the answer's end"
                                           : "the connection was closed before an answer");
  }
  impl_->ended = true;
  return {};
}

bool ResponseParser::started() const {
  return impl_->started;
}
bool ResponseParser::header_done() const {
  return impl_->header_done;
}
bool ResponseParser::done() const {
  return impl_->header_done && (impl_->ended || impl_->sink->is_done());
}
bool ResponseParser::keep_alive() const {
  return !impl_->ended && impl_->sink->keep_alive() && impl_->sink->status != 101;
}
int ResponseParser::status() const {
  return impl_->sink->status;
}
Headers& ResponseParser::headers() {
  return impl_->sink->headers;
}

}  // namespace lm::http

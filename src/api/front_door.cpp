#include "api/front_door.h"

#include <algorithm>
#include <optional>

namespace lm::api {
namespace {

constexpr std::string_view kNoPage =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>LLM Manager</title>"
    "<h1>LLM Manager is running</h1><p>This program was built without its dashboard: scripts/bootstrap "
    "builds "
    "it, with Node from npm's registry. <code>llm-manager ps</code> shows what is in memory.</p></html>\n";

// Browsers say that they want HTML. Everybody else asks, in Ollama's way, whether it is running.
bool is_browser(const http::Request& request) {
  const auto wanted = request.headers.get("Accept");
  return wanted && wanted->find("text/html") != std::string_view::npos;
}

Task<> open(http::Exchange& exchange, std::optional<http::StaticFile> page) {
  if (!is_browser(exchange.request())) {
    co_await exchange.respond({.status = 200,
                               .headers = {{"Content-Type", "text/plain; charset=utf-8"}, {"Vary", "Accept"}},
                               .body = "Ollama is running"});
    co_return;
  }
  if (page) {
    exchange.add_header("Vary", "Accept");
    co_return co_await http::answer_file(exchange, *page);
  }
  co_await exchange.respond({.status = 200,
                             .headers = {{"Content-Type", "text/html; charset=utf-8"}, {"Vary", "Accept"}},
                             .body = std::string(kNoPage)});
}

}  // namespace

void add_front_door(http::Router& router, std::span<const http::StaticFile> page) {
  const auto front = std::ranges::find(page, "/", &http::StaticFile::path);
  std::optional<http::StaticFile> file;
  if (front != page.end()) file = *front;
  router.add(
      http::Method::kGet, "/",
      http::Route{[file](http::Exchange& exchange) { return open(exchange, file); }, http::Principal::kNone});
  for (const http::StaticFile& one : page) {
    if (one.path != "/") http::add_files(router, {&one, 1});
  }
}

}  // namespace lm::api

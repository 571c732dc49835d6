// For tests: tests/fake_ollama as a child, told how to lie through its own door.
#pragma once

#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>

#include "backend/caller.h"
#include "os/subprocess.h"
#include "os/testing/run.h"

namespace lm::backend::testing {

// What processes hold: their private memory, the host's device for all of them.
inline DeviceBytes held_by(const std::vector<os::ProcessIdentity>& processes) {
  Bytes sum;
  for (const os::ProcessIdentity& process : processes) {
    if (os::identify(process.pid) != Result<os::ProcessIdentity>(process)) continue;
    std::ifstream status(fmt::format("/proc/{}/status", process.pid));
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("RssAnon:")) sum += kib(std::atoll(line.c_str() + 8));
    }
  }
  return {{host_device(), sum}};
}

class FakeOllama {
 public:
  explicit FakeOllama(boost::asio::io_context& io, std::vector<std::string> arguments = {}) : io_(io) {
    os::SpawnOptions options;
    options.arguments = {"python3", LM_FAKE_OLLAMA, "--port", "0"};
    options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
    options.environment = os::environment_of_ours({"PATH", "HOME"});
    options.environment.emplace_back("PYTHONDONTWRITEBYTECODE=1");
    options.standard_output = os::Output::lines([this](std::string_view line) {
      constexpr std::string_view kSays = "listening on ";
      if (line.starts_with(kSays)) url_ = line.substr(kSays.size());
    });
    options.standard_error = os::Output::inherit();
    auto spawned = os::Subprocess::spawn(io.get_executor(), std::move(options));
    if (!spawned) throw std::runtime_error(spawned.error().message);
    process_.emplace(std::move(*spawned));
    if (!os::testing::run_until(io, [this] { return !url_.empty(); }))
      throw std::runtime_error("the stand-in for Ollama did not start");
    client_ = std::make_shared<http::Client>(io.get_executor(), *http::Endpoint::parse(url_));
  }

  const std::string& url() const { return url_; }
  std::uint16_t port() const { return client_->endpoint().port; }
  pid_t pid() const { return process_->pid(); }

  // {"keeps_memory": "hidden"}, or empty: honest again.
  void lie(const std::string& how) { post("/_test", fmt::format(R"({{"liar":{{{}}}}})", how)); }
  // As somebody else who uses it.
  Answer post(const std::string& target, const std::string& body) {
    const Caller caller(io_.get_executor(), client_, {});
    auto answer = os::testing::run(io_, caller.post(target, body, now() + std::chrono::seconds(20)));
    if (!answer) throw std::runtime_error(answer.error().message);
    return *answer;
  }
  void load(const std::string& model) { post("/api/generate", fmt::format(R"({{"model":"{}"}})", model)); }
  // What it knows of itself, as JSON.
  std::string confess() {
    const Caller caller(io_.get_executor(), client_, {});
    return os::testing::run(io_, caller.get("/_test", now() + std::chrono::seconds(20))).value().body;
  }
  // As a package's service would be ended, at once.
  void kill() {
    (void)os::send_signal(*os::open_pidfd(process_->pid()), 9);
    os::testing::run_until(io_, [this] { return has_ended(); });
  }
  bool has_ended() const {
    const auto stat = os::read_process_stat(process_->pid());
    return !stat || stat->state == 'Z';
  }

 private:
  boost::asio::io_context& io_;
  std::optional<os::Subprocess> process_;
  std::string url_;
  std::shared_ptr<http::Client> client_;
};

}  // namespace lm::backend::testing

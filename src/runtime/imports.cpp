#include "runtime/imports.h"

#include <algorithm>
#include <signal.h>
#include <system_error>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "os/file.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

// Whoever waits for a model must not wait for one that is only being made.
constexpr int kNice = 5;
// The notices of an import come in one line.
constexpr std::size_t kLongestLine = std::size_t{1} << 16;

}  // namespace

struct Imports::Running {
  Import import;
  std::optional<os::Subprocess> process;
  std::vector<std::string> notices;
  std::optional<Error> error;
  bool unwanted = false;
};

Imports::Imports(Seams seams) : seams_(std::move(seams)) {}
Imports::~Imports() = default;

void Imports::want(std::vector<Import> missing) {
  if (stopped_) return;
  std::erase_if(failures_, [&](const auto& failure) {
    return std::ranges::find(missing, failure.first, &Import::file) == missing.end();
  });
  wanted_.clear();
  if (running_) {
    // It ends by itself, and what follows begins then.
    if (std::ranges::find(missing, running_->import.file, &Import::file) == missing.end()) {
      running_->unwanted = true;
      if (running_->process) running_->process->signal(SIGKILL);
    }
  }
  for (auto& import : missing) {
    const auto same = [&](const Import& other) { return other.file == import.file; };
    if (failures_.contains(import.file) || std::ranges::any_of(wanted_, same)) continue;
    if (running_ && !running_->unwanted && same(running_->import)) continue;
    wanted_.push_back(std::move(import));
  }
  if (!running_) begin_next();
}

const Error* Imports::failure(const fs::path& file) const {
  const auto found = failures_.find(file);
  return found == failures_.end() ? nullptr : &found->second;
}

void Imports::stop() {
  stopped_ = true;
  wanted_.clear();
  running_.reset();
}

void Imports::begin_next() {
  if (wanted_.empty()) return;
  running_ = std::make_shared<Running>();
  running_->import = std::move(wanted_.front());
  wanted_.pop_front();
  const Import& import = running_->import;
  seams_.began(import);

  os::SpawnOptions options;
  options.arguments = {seams_.program.string(), import.folder.string(), import.file.string()};
  if (!import.quantize.empty())
    options.arguments.insert(options.arguments.end(), {"--quantize", import.quantize});
  options.environment = os::environment_of_ours({"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH"});
  options.nice = kNice;
  options.oom_score_adjustment = 500;
  options.longest_line = kLongestLine;
  const std::weak_ptr<Running> running = running_;
  options.standard_output = os::Output::lines([this, running](std::string_view line) {
    if (running.lock() == running_) hear(line);
  });
  // Not from within: the process must not be destroyed in its own call.
  options.on_end = [this, running](const os::ExitStatus& status) {
    boost::asio::post(seams_.executor, [this, running, status] {
      if (const auto self = running.lock(); self && self == running_) ended(status);
    });
  };
  Result<os::Subprocess> process = fail(ErrorCode::kInternal, "nothing was started");
  if (auto made = os::make_private_folders(import.file.parent_path()); !made) {
    process = fail(std::move(made).error());
  } else {
    process = os::Subprocess::spawn(seams_.executor, std::move(options));
  }
  if (process) {
    running_->process.emplace(std::move(*process));
    return;
  }
  running_->error = std::move(process).error().with_context("the importer does not start");
  boost::asio::post(seams_.executor, [this, running] {
    if (const auto self = running.lock(); self && self == running_) ended({.code = 1});
  });
}

void Imports::hear(std::string_view line) {
  auto said = wire::decode_import_line(line);
  if (!said || !*said) return;
  if (const auto* progress = std::get_if<wire::ImportProgress>(&**said)) {
    const auto total = static_cast<double>(progress->total.count());
    seams_.progressed(running_->import,
                      total > 0 ? std::min(1.0, static_cast<double>(progress->done.count()) / total) : 0);
  } else if (auto* written = std::get_if<wire::ImportWritten>(&**said)) {
    running_->notices = std::move(written->notices);
  } else if (auto* error = std::get_if<Error>(&**said)) {
    running_->error = std::move(*error);
  }
}

void Imports::ended(const os::ExitStatus& status) {
  const auto done = std::exchange(running_, nullptr);
  Result<std::vector<std::string>> outcome = std::move(done->notices);
  std::error_code error;
  // One that would be wanted again at once, without end.
  const bool there = fs::exists(done->import.file, error);
  if (!status.success() || !there) {
    Error why{.code = ErrorCode::kInternal,
              .message = status.success() ? std::string("the importer left no file")
                                          : fmt::format("the importer {}", to_string(status)),
              .reason = "internal",
              .fields = {},
              .retry_after = {}};
    if (done->error) why = std::move(*done->error);
    if (done->unwanted)
      why = {.code = ErrorCode::kCancelled,
             .message = "it is not wanted any more",
             .reason = "cancelled",
             .fields = {},
             .retry_after = {}};
    if (!done->unwanted) failures_.insert_or_assign(done->import.file, why);
    outcome = std::unexpected(std::move(why));
  }
  seams_.ended(done->import, std::move(outcome));
  // Whoever was told may have wanted others meanwhile, which began the next.
  if (!running_) begin_next();
}

}  // namespace lm::runtime

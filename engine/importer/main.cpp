// llm-importer: a Hugging Face folder in, a GGUF file out. This process opens files and publishes the result;
// a child of it, confined, reads what is in them.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>

#include "checkpoint_folder.h"
#include "found_checkpoint.h"
#include "import.h"
#include "ollama_store.h"
#include "os/sandbox/sandbox.h"
#include "report.h"
#include "unfinished_file.h"

namespace lm::importer {
namespace {

constexpr const char* kHelp =
    "llm-importer makes one GGUF file of a Hugging Face checkpoint folder. llm-manager starts it; people "
    "may.\n"
    "\n"
    "  llm-importer FOLDER OUT.gguf [--quantize none|8bit|4bit] [--threads N]\n"
    "  llm-importer --look OLLAMA CHECKPOINT…\n"
    "\n"
    "Without --quantize, models that generate become 4-bit and those that embed 8-bit. Progress and the end "
    "are\n"
    "lines of JSON on standard output. OUT.gguf is visible only when it is whole. "
    "The second form\nlists the models whose manifests Ollama keeps in the folder OLLAMA "
    "(\"\": none), and which of the checkpoints\ncould be imported.\n";

struct Arguments {
  std::filesystem::path folder, out;
  ImportOptions options;
};

std::optional<Arguments> parse(const std::vector<std::string_view>& given) {
  Arguments out;
  out.options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::string_view> paths;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto value = [&] { return i + 1 < given.size() ? given[++i] : std::string_view(); };
    if (given[i] == "--quantize") {
      out.options.quantization = quantization_named(value());
      if (!out.options.quantization) return std::nullopt;
    } else if (given[i] == "--threads") {
      const auto text = value();
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.options.threads);
      if (error != std::errc() || end != text.data() + text.size() || out.options.threads < 1 ||
          out.options.threads > 512)
        return std::nullopt;
    } else {
      paths.push_back(given[i]);
    }
  }
  if (paths.size() != 2) return std::nullopt;
  out.folder = paths[0];
  out.out = paths[1];
  return out;
}

// The confined half. Its exit status is 0 exactly when `out` holds a whole model.
int read_and_write(const CheckpointFolder& folder, const ImportOptions& options, int out) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto size = static_cast<std::int64_t>(folder.size());
  // The files are mapped; what is written is never more than what is read, but for small ones. A megabyte of
  // weights takes well below a second.
  const auto confined = os::enter_inspection_sandbox({.address_space = Bytes(size) + gib(4),
                                                      .cpu = std::chrono::seconds(600 + size / (1 << 20)),
                                                      .may_start_threads = true,
                                                      .written = Bytes(size) * 2 + mib(256)});
  auto imported = confined ? import_checkpoint(folder, options, out, ProgressReport())
                           : Result<Imported>(std::unexpected(confined.error()));
  if (!imported) {
    report_failed(imported.error());
    return 1;
  }
  report_written(*imported);
  return 0;
}

// Why the confined half said nothing.
Error crash(int status) {
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  std::string how = fmt::format("ended with status {}", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  if (signal == SIGBUS)
    how = "found a file cut short while it read it";
  else if (signal == SIGXCPU || signal == SIGKILL)
    how = "took too long, or was killed";
  else if (signal != 0)
    how = fmt::format("crashed ({})", ::strsignal(signal));
  return {.code = ErrorCode::kInvalidArgument,
          .message = "the import " + how,
          .reason = "invalid_checkpoint",
          .fields = {},
          .retry_after = {}};
}

Result<void> run(const Arguments& arguments, bool& told) {
  LM_TRY(const auto folder, CheckpointFolder::open(arguments.folder));
  LM_TRY(auto file, UnfinishedFile::create(arguments.out));
  ImportOptions options = arguments.options;
  struct statvfs disk{};
  if (::fstatvfs(file.fd(), &disk) == 0)
    options.room = Bytes(static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize));
  const auto child = ::fork();
  if (child < 0)
    return fail(ErrorCode::kUnavailable, "no process could be started for the import", "io_error");
  if (child == 0) ::_exit(read_and_write(folder, options, file.fd()));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
    told = true;
    return fail(ErrorCode::kInvalidArgument, "the import failed");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return fail(crash(status));
  return file.publish();
}

// Manifests and descriptions are small, and all of them are read before the first byte of one is understood.
int look(std::span<const std::string_view> folders) {
  const auto manifests =
      folders.front().empty() ? std::vector<Manifest>() : collect_manifests(folders.front());
  std::vector<FoundCheckpoint> checkpoints;
  for (const auto folder : folders.subspan(1)) checkpoints.push_back(collect_checkpoint(folder));
  // What is written goes to standard output, which may be a file.
  const auto confined = os::enter_inspection_sandbox(
      {.address_space = gib(4), .cpu = std::chrono::seconds(10), .written = mib(16)});
  if (!confined) {
    report_failed(confined.error());
    return 1;
  }
  for (const wire::StoredModel& model : read_manifests(manifests)) report_stored(model);
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    if (const auto kind = kind_of_checkpoint(checkpoints[i]))
      report_stored(wire::StoredCheckpoint{.index = i, .kind = *kind});
  }
  return 0;
}

int main(int argc, char** argv) {
  const std::vector<std::string_view> given(argv + 1, argv + argc);
  for (const auto argument : given) {
    if (argument == "--help" || argument == "-h") {
      std::fputs(kHelp, stdout);
      return 0;
    }
  }
  if (given.size() >= 2 && given[0] == "--look") return look(std::span(given).subspan(1));
  const auto arguments = parse(given);
  if (!arguments) {
    std::fputs(kHelp, stderr);
    report_failed({.code = ErrorCode::kInvalidArgument,
                   .message = "quantize is none of none, 8bit and 4bit, or the importer was called wrongly",
                   .reason = "invalid_options",
                   .fields = {},
                   .retry_after = {}});
    return 2;
  }
  bool told = false;
  if (const auto done = run(*arguments, told); !done) {
    if (!told) report_failed(done.error());
    return 1;
  }
  report_imported(arguments->out.string());
  return 0;
}

}  // namespace
}  // namespace lm::importer

int main(int argc, char** argv) {
  return lm::importer::main(argc, argv);
}

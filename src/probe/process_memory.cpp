#include "probe/process_memory.h"

#include <optional>
#include <string>

#include <fmt/format.h>

#include "os/file.h"
#include "probe/status_text.h"

namespace lm::probe {
namespace {

Error ended(os::ProcessIdentity process) {
  return Error{.code = ErrorCode::kNotFound,
               .message = fmt::format("process {} has ended", process.pid),
               .reason = {},
               .fields = {{"pid", std::int64_t{process.pid}}},
               .retry_after = {}};
}

// The text of a file about this very process: who it is about is looked up after it was read, since a number
// is given to another process only when the first has gone.
Result<std::string> read_about(os::ProcessIdentity process, const char* file,
                               const std::filesystem::path& root) {
  auto text = os::read_file(root / "proc" / std::to_string(process.pid) / file);
  if (!text) {
    if (text.error().code == ErrorCode::kNotFound) return fail(ended(process));
    return text;
  }
  const auto stat = os::read_process_stat(process.pid, root);
  if (!stat || stat->identity != process || stat->state == 'Z' || stat->state == 'X')
    return fail(ended(process));
  return text;
}

}  // namespace

Result<ProcessMemory> read_process_memory(os::ProcessIdentity process, const std::filesystem::path& root) {
  LM_TRY(const std::string text, read_about(process, "status", root));
  const auto anonymous = bytes_of(text, "RssAnon");
  // Without its memory lines it is just ending, or a thread of the kernel.
  if (!anonymous) return fail(ended(process));
  return ProcessMemory{
      .anonymous = *anonymous,
      .shared = bytes_of(text, "RssShmem").value_or(Bytes()),
      .swapped = bytes_of(text, "VmSwap").value_or(Bytes()),
      .huge = bytes_of(text, "HugetlbPages").value_or(Bytes()),
      .reclaimable = bytes_of(text, "RssFile").value_or(Bytes()),
  };
}

Result<Bytes> read_proportional_size(os::ProcessIdentity process, const std::filesystem::path& root) {
  LM_TRY(const std::string text, read_about(process, "smaps_rollup", root));
  const auto size = bytes_of(text, "Pss");
  if (!size) return fail(ended(process));
  return *size;
}

}  // namespace lm::probe

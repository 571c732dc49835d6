// What the importer tells whoever started it: lines of JSON on standard output, the last of which is how it
// ended. Whoever reads them trusts the exit status only: a line may come from a process that a checkpoint
// has taken over.
#pragma once

#include "base/error.h"
#include "import.h"
#include "wire/stored_model.h"

namespace lm::importer {

// {"kind": "progress", "done": BYTES, "total": BYTES}, for each percent once.
class ProgressReport {
 public:
  void operator()(Bytes done, Bytes total);

 private:
  std::int64_t percent_ = -1;
};

// {"kind": "written", "architecture": …, "quantization": …, "size": …, "tensors": …, "notices": […]}
void report_written(const Imported& imported);
// {"kind": "imported", "path": …}: the file is visible and on the disk.
void report_imported(std::string_view path);
// wire/stored_model.h
void report_stored(const wire::StoredLine& line);
// {"kind": "failed", "code": …, "reason": …, "message": …}
void report_failed(const Error& error);

}  // namespace lm::importer

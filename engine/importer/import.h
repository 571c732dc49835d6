// One import from the first byte to the last: reads a folder's open files, writes the GGUF to an open
// descriptor, tells how far it is. Runs in the sandbox: opens nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "checkpoint_folder.h"
#include "quantization.h"

namespace lm::importer {

struct Imported {
  std::string architecture;  // as the engine says it
  std::string quantization;  // "Q4_K_M"
  Bytes size;                // of the file
  std::int64_t tensors = 0;
  std::vector<std::string> notices;
};

struct ImportOptions {
  std::optional<Bytes> room{};               // on the disk that is written to; empty: not known
  std::optional<Quantization> quantization;  // empty: by what the model is for
  int threads = 1;
};

// `progress(done, total)` in bytes of the file, from this thread, often. `out`: written from its position on,
// to its end, not synced. Errors: as make_plan's; io_error when the disk is full or fails.
Result<Imported> import_checkpoint(const CheckpointFolder& folder, const ImportOptions& options, int out,
                                   const std::function<void(Bytes done, Bytes total)>& progress);

}  // namespace lm::importer

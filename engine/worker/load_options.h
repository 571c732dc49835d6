// The options of a load with every choice made: what the user set, and our own where he did not.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "domain/model.h"

namespace lm::worker {

struct EffectiveOptions {
  int context = 0;  // tokens, all slots together
  int parallel = 1;
  int batch = 512;  // logical
  int micro_batch = 512;
  bool unified = true;               // slots share one key-value cache, each may use all of it
  int kv_type_k = 0, kv_type_v = 0;  // ggml_type
  bool mmap = true;
  bool operator==(const EffectiveOptions&) const = default;
};

// The same, for a file with `padding` bytes behind its weights: one that is much longer than they are is
// read, not mapped, since the engine maps, and reads ahead, all of a file.
LoadOptions for_file(LoadOptions wanted, std::uint64_t padding);

// kInvalidArgument, reason invalid_options: names the option and what is legal. `context_train`: 0 where it
// is not known.
Result<EffectiveOptions> choose_options(const LoadOptions& wanted, ModelKind kind, int context_train,
                                        bool on_host);

}  // namespace lm::worker

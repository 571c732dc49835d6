// Turns a planned tensor's rows into the bytes of its type, a part at a time, on several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "plan.h"

namespace lm::importer {

// Holds two buffers of some megabytes each thread, for all tensors one after the other.
class TensorEncoder {
 public:
  TensorEncoder(const ModelShape& shape, int threads);

  // Calls `write` with the bytes in order. Gives the source's pages back to the kernel as it goes. Errors:
  // kInvalidArgument invalid_checkpoint, where a weight is no number or does not fit the type; what `write`
  // returns.
  Result<void> encode(const PlannedTensor& tensor,
                      const std::function<Result<void>(std::span<const char>)>& write);

 private:
  const ModelShape& shape_;
  int threads_;
  std::vector<char> out_;
  std::vector<std::vector<float>> floats_;  // for each thread
};

}  // namespace lm::importer

// All tensors of a checkpoint, whichever of its safetensors files each lies in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint_folder.h"
#include "safetensors.h"

namespace lm::importer {

struct Weight {
  WeightType type = WeightType::kOther;
  std::string type_name;
  std::vector<std::int64_t> shape;  // outermost first
  const OpenFile* file = nullptr;   // the folder's
  std::uint64_t begin = 0;
  std::uint64_t size = 0;

  std::string_view bytes() const;  // of a file that was mapped
};

using Weights = std::map<std::string, Weight, std::less<>>;

// With a model.safetensors.index.json: the files that it names, and each tensor must lie where it says.
// Without: model.safetensors, or the only *.safetensors that there is. The folder must outlive the result.
// Errors: kInvalidArgument, reason invalid_checkpoint, naming the file; io_error.
Result<Weights> read_weights(const CheckpointFolder& folder);

}  // namespace lm::importer

// How a checkpoint makes one vector of a text, as sentence-transformers writes it down beside the model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "architecture.h"
#include "base/result.h"
#include "checkpoint_folder.h"

namespace lm::importer {

// The engine's numbers.
enum class Pooling : std::uint32_t { kMean = 1, kFirst = 2, kLast = 3 };

// nullopt: a model that generates. From modules.json and the folder that it names. Without them an encoder
// pools by the mean, as sentence-transformers does, and a decoder without a head by the last token; `notices`
// says so. Errors: kUnimplemented unsupported_model for other poolings, and for layers after the pooling (the
// engine's vectors are normalised, with or without a Normalize module).
Result<std::optional<Pooling>> read_pooling(const CheckpointFolder& folder, const Architecture& architecture,
                                            const ModelShape& shape, std::vector<std::string>& notices);

}  // namespace lm::importer

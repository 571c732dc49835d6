// One conversation of a model, as a slot of its worker held it, in a file: what is known of the file, so that
// it can be checked before the engine reads it.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/bytes.h"
#include "base/time.h"

namespace lm {

struct SlotState {
  std::filesystem::path file;
  int tokens = 0;
  std::uint64_t token_sum = 0;  // checksum of the tokens: equal for equal conversations
  Bytes size;
  std::uint64_t sum = 0;  // checksum of the whole file
  bool operator==(const SlotState&) const = default;
};

// A folder that states may be written to, and how much of it.
struct StatePlace {
  std::filesystem::path folder;
  Bytes limit;
  bool operator==(const StatePlace&) const = default;
};

// What the first request that followed a restored conversation made of it.
struct Resumption {
  int restored = 0;  // tokens that were restored
  int shared = 0;    // of them, those that the request's prompt begins with
  int reused = 0;    // of those, the ones that were not read again
  bool operator==(const Resumption&) const = default;
};

}  // namespace lm

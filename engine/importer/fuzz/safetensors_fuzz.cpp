// libFuzzer: the header of a safetensors file. scripts/fuzz builds and runs it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto head = bytes.substr(0, lm::importer::safetensors_head_size(bytes, size));
  const auto entries = lm::importer::read_safetensors(head, size);
  if (!entries) return 0;
  // What was let through lies in the file, one after the other, to its end.
  std::uint64_t at = size;
  for (auto entry = entries->rbegin(); entry != entries->rend(); ++entry) {
    if (entry->begin > at || entry->size != at - entry->begin) std::abort();
    at = entry->begin;
  }
  return 0;
}

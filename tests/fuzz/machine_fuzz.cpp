// A machine's description that is read has models with sane numbers.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "simulate/machine.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto machine =
      lm::simulate::read_machine(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.yaml");
  if (!machine) return 0;
  for (const lm::simulate::SimulatedModel& model : machine->models) {
    LM_ASSERT(model.slots > 0 && model.prefill > 0 && model.decode > 0, "it answers at all");
    LM_ASSERT(model.memory >= lm::Bytes() && model.load >= lm::Duration(), "and takes no less than nothing");
  }
  return 0;
}

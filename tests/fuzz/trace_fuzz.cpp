// A trace that is read has its arrivals in order, each of a model that it names.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "simulate/workload.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto workload =
      lm::simulate::read_trace(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.csv");
  if (!workload) return 0;
  lm::Duration last{};
  for (const lm::simulate::Arrival& arrival : workload->arrivals) {
    LM_ASSERT(arrival.at >= last, "time does not run backwards");
    LM_ASSERT(arrival.model >= 0 && static_cast<std::size_t>(arrival.model) < workload->models.size(),
              "each is for a model that is named");
    LM_ASSERT(arrival.context >= 0 && arrival.generated >= 0, "nobody asks for less than nothing");
    last = arrival.at;
  }
  return 0;
}

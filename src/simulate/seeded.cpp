#include "simulate/seeded.h"

#include <array>
#include <cmath>
#include <iterator>
#include <vector>

namespace lm::simulate {
namespace {

// The state that Matsumoto and Nishimura's init_by_array makes of a key (mt19937ar, 2002), as Python seeds
// its generator; the standard library has only their older seeding by one number.
struct KeyedState {
  using result_type = std::uint32_t;
  std::vector<std::uint32_t> key;

  template <class Out>
  void generate(Out begin, Out end) const {
    constexpr std::size_t kWords = std::mt19937::state_size;
    std::array<std::uint32_t, kWords> state;
    state[0] = 19650218U;
    for (std::uint32_t i = 1; i < kWords; ++i)
      state[i] = 1812433253U * (state[i - 1] ^ (state[i - 1] >> 30U)) + i;
    std::size_t i = 1;
    const auto advance = [&] {
      if (++i < kWords) return;
      state[0] = state[kWords - 1];
      i = 1;
    };
    for (std::size_t k = 0, j = 0; k < std::max(kWords, key.size()); ++k) {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30U)) * 1664525U)) + key[j] +
                 static_cast<std::uint32_t>(j);
      advance();
      j = (j + 1) % key.size();
    }
    for (std::size_t k = 1; k < kWords; ++k) {
      state[i] =
          (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30U)) * 1566083941U)) - static_cast<std::uint32_t>(i);
      advance();
    }
    state[0] = 0x80000000U;
    for (std::size_t n = 0; begin != end; ++begin, ++n) *begin = state[n];
  }
};

}  // namespace

Seeded::Seeded(std::uint64_t seed) {
  KeyedState state{.key = {static_cast<std::uint32_t>(seed)}};
  if (seed >> 32U != 0) state.key.push_back(static_cast<std::uint32_t>(seed >> 32U));
  words_.seed(state);
}

double Seeded::uniform() {
  const std::uint32_t high = static_cast<std::uint32_t>(words_()) >> 5U;
  const std::uint32_t low = static_cast<std::uint32_t>(words_()) >> 6U;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

double Seeded::exponential(double rate) {
  return -std::log(1.0 - uniform()) / rate;
}

}  // namespace lm::simulate

// Random numbers of a seed, the same on every machine and the same as Python's random.Random(seed) gives: so
// that a workload can be made again elsewhere, number for number.
#pragma once

#include <cstdint>
#include <random>

namespace lm::simulate {

class Seeded {
 public:
  explicit Seeded(std::uint64_t seed);

  // In [0, 1), with 53 random bits.
  double uniform();
  // Exponentially distributed with that rate; the mean is 1/rate.
  double exponential(double rate);

 private:
  std::mt19937 words_;
};

}  // namespace lm::simulate

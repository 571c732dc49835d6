// Random worlds, one for each seed: which seeds, what the dice say, and how one is played again.
//   LLM_MANAGER_SEED        first seed (else from the time; always printed)
//   LLM_MANAGER_SIM_SEEDS   worlds        LLM_MANAGER_SIM_EVENTS   events in each
//   LLM_MANAGER_SIM_TIMES   so many times as many worlds as otherwise
//   LLM_MANAGER_TRACE=1     every event and command as text
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/arbiter_world.h"

namespace lm::core::testing {

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

inline std::uint64_t first_seed() {
  static const std::uint64_t kSeed = from_environment(
      "LLM_MANAGER_SEED",
      static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()) %
          1'000'000'000);
  return kSeed;
}

// The command that plays the running world again, printed also where a broken invariant ends the process.
inline char replay[512];

inline void on_abort(int) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, replay, std::strlen(replay));
}

// So many worlds; a twentieth of them where a sanitizer watches.
constexpr std::uint64_t worlds(std::uint64_t n) {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return n / 20;
#else
  return n;
#endif
}

// Runs `world` for each seed until one fails.
inline void for_each_seed(
    std::uint64_t seeds, std::uint64_t events,
    const std::function<std::uint64_t(std::uint64_t seed, std::uint64_t events)>& world) {
  seeds = from_environment("LLM_MANAGER_SIM_SEEDS", seeds * from_environment("LLM_MANAGER_SIM_TIMES", 1));
  events = from_environment("LLM_MANAGER_SIM_EVENTS", events);
  std::signal(SIGABRT, on_abort);
  const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  const auto began = std::chrono::steady_clock::now();
  std::uint64_t steps = 0;
  for (std::uint64_t i = 0; i < seeds && !::testing::Test::HasFailure(); ++i) {
    const std::uint64_t seed = first_seed() + i;
    const std::string line = fmt::format(
        "replay: LLM_MANAGER_SEED={} LLM_MANAGER_SIM_SEEDS=1 LLM_MANAGER_SIM_EVENTS={} LLM_MANAGER_TRACE=1 "
        "core_sim_test --gtest_filter='*.{}'\n",
        seed, events, name);
    std::strncpy(replay, line.c_str(), sizeof(replay) - 1);
    steps += world(seed, events);
    if (::testing::Test::HasFailure()) fmt::print(stderr, "{}", line);
  }
  std::signal(SIGABRT, SIG_DFL);
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  fmt::print("seed {}, {} worlds, {} events in {:.2f} s, {:.0f} events/s\n", first_seed(), seeds, steps, took,
             static_cast<double>(steps) / std::max(took, 1e-9));
}

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  int upto(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }  // 0 to n-1
  int between(int a, int b) { return a + upto(b - a + 1); }
  bool chance(int percent) { return upto(100) < percent; }
  double real(double a, double b) { return a + (b - a) * (static_cast<double>(engine_() >> 11) * 0x1.0p-53); }
  Duration exponential(double mean) { return sec(-mean * std::log(1.0 - real(0, 1)) + 1e-6); }
  template <class T>
  T& one_of(std::vector<T>& all) {
    return all[static_cast<std::size_t>(upto(static_cast<int>(all.size())))];
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace lm::core::testing

// An amount of memory. Signed, so that differences are amounts too; a negative amount is legal only as a difference.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lm {

class Bytes {
 public:
  constexpr Bytes() = default;
  constexpr explicit Bytes(std::int64_t count) : count_(count) {}

  constexpr std::int64_t count() const { return count_; }
  constexpr auto operator<=>(const Bytes&) const = default;

  constexpr Bytes& operator+=(Bytes other) { count_ += other.count_; return *this; }
  constexpr Bytes& operator-=(Bytes other) { count_ -= other.count_; return *this; }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return a += b; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return a -= b; }
  friend constexpr Bytes operator*(Bytes a, std::int64_t n) { return Bytes(a.count_ * n); }

 private:
  std::int64_t count_ = 0;
};

constexpr Bytes kib(std::int64_t n) { return Bytes(n << 10); }
constexpr Bytes mib(std::int64_t n) { return Bytes(n << 20); }
constexpr Bytes gib(std::int64_t n) { return Bytes(n << 30); }

// For people, in powers of 1024 with the unit that fits: "0 B", "312.4 MB", "2.37 GB" (GB is 2^30, as the requirements write it).
std::string to_string(Bytes bytes);

// "2.37 GB", "512MiB", "4096": what people write in configuration. Units B, K, M, G, T with optional B or iB, powers of 1024,
// any case. nullopt where it is not an amount, is negative, or overflows.
std::optional<Bytes> parse_bytes(std::string_view text);

}  // namespace lm

// A 64-bit checksum for content that we wrote ourselves and may have been cut, mixed up or damaged since:
// many bytes in little time, the same on every machine of one byte order, no protection against malice.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace lm {

// Takes content in pieces; the value depends on the content alone, not on how it was cut into pieces.
class Checksum {
 public:
  void add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    total_ += size;
    if (kept_ > 0) {
      const std::size_t taken = std::min(size, kBlock - kept_);
      std::memcpy(block_.data() + kept_, bytes, taken);
      kept_ += taken;
      bytes += taken;
      size -= taken;
      if (kept_ < kBlock) return;
      mix(block_.data());
      kept_ = 0;
    }
    for (; size >= kBlock; bytes += kBlock, size -= kBlock) mix(bytes);
    std::memcpy(block_.data(), bytes, size);
    kept_ = size;
  }
  void add(std::string_view text) { add(text.data(), text.size()); }

  std::uint64_t value() const {
    Checksum last = *this;
    if (last.kept_ > 0) {
      std::memset(last.block_.data() + last.kept_, 0, kBlock - last.kept_);
      last.mix(last.block_.data());
    }
    std::uint64_t sum = total_ * kPrimes[0];
    for (const std::uint64_t lane : last.lanes_) {
      sum = (std::rotl(sum, 29) ^ lane) * kPrimes[1];
      sum ^= sum >> 32;
    }
    return sum;
  }

 private:
  static constexpr std::size_t kLanes = 8;
  static constexpr std::size_t kBlock = kLanes * 8;
  static constexpr std::array<std::uint64_t, 2> kPrimes = {0x9e3779b97f4a7c15, 0xd6e8feb86659fd93};

  // Each lane is a bijection of its state for a given word, and of the word for a given state: a single
  // changed word always changes the sum.
  void mix(const unsigned char* bytes) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + 8 * i, 8);
      lanes_[i] = std::rotl(lanes_[i] ^ word, 27) * kPrimes[0] + kPrimes[1];
    }
  }

  std::array<std::uint64_t, kLanes> lanes_ = {1, 2, 3, 4, 5, 6, 7, 8};
  std::array<unsigned char, kBlock> block_{};
  std::size_t kept_ = 0;
  std::uint64_t total_ = 0;
};

inline std::uint64_t checksum(std::string_view text) {
  Checksum sum;
  sum.add(text);
  return sum.value();
}

}  // namespace lm

// Ids that cannot be mixed up: StrongId<struct RequestTag> is a number, StrongName<struct ModelTag> a string.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace lm {

// A number handed out by its owner, starting at 1; 0 names nothing.
template <class Tag>
class StrongId {
 public:
  constexpr StrongId() = default;
  constexpr explicit StrongId(std::uint64_t value) : value_(value) {}
  constexpr std::uint64_t value() const { return value_; }
  constexpr explicit operator bool() const { return value_ != 0; }
  constexpr auto operator<=>(const StrongId&) const = default;

 private:
  std::uint64_t value_ = 0;
};

// A name given from outside; empty names nothing.
template <class Tag>
class StrongName {
 public:
  StrongName() = default;
  explicit StrongName(std::string text) : text_(std::move(text)) {}
  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }
  auto operator<=>(const StrongName&) const = default;

 private:
  std::string text_;
};

}  // namespace lm

template <class Tag>
struct std::hash<lm::StrongId<Tag>> {
  std::size_t operator()(lm::StrongId<Tag> id) const noexcept { return std::hash<std::uint64_t>{}(id.value()); }
};
template <class Tag>
struct std::hash<lm::StrongName<Tag>> {
  std::size_t operator()(const lm::StrongName<Tag>& name) const noexcept { return std::hash<std::string>{}(name.str()); }
};

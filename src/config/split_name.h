// The names of a model's parts where it is split over several files: "model-00002-of-00003". Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lm::config {

struct SplitName {
  std::string base;  // "model"
  int index = 0;     // from 1 on
  int count = 0;

  // The stem of its part with that number.
  std::string stem(int part) const;
  bool operator==(const SplitName&) const = default;
};

// Of a file's stem, without ".gguf"; a path before it stays in the base. nullopt where it is no part of
// anything.
std::optional<SplitName> split_name(std::string_view stem);

}  // namespace lm::config

// The name that somebody meant.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lm::config {

// Letters to change, add, drop or swap with their neighbour to come from one to the other; upper and lower
// case count as equal, - and _ too.
int edit_distance(std::string_view a, std::string_view b);

// The same to `name` or to the beginning of it that is nearest: people know the start of a long name.
int edit_distance_to_beginning(std::string_view word, std::string_view name);

// The candidate nearest to `word`, if it is near enough to be meant: within a third of its letters. Ties: the
// first.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

// ", did you mean linger?", or ", it may be one of a, b, c" where nothing is near and there are few; else
// empty.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace lm::config

// S: what a change of models costs, measured. The quantum follows it, so it must neither be guessed for long
// nor be led astray by one measurement. Kept by the arbiter.
//
// Three kinds of measurement say something of it, each more than the one before: a load that had room and
// took nobody's place; a change to a model that had not been loaded before, whose file may come from the disk
// and not from memory; a change to one that had. The best kind that was seen counts: its first measurement
// replaces whatever was believed before, later ones move the mean by a fifth, and those of a lesser kind are
// left out. One that is far beyond what is believed counts as four times that: a machine that slept in the
// middle of a load has not become slow, and one that has is believed after a few changes.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace lm::core {

class ChangeCost {
 public:
  // Believed until anything was measured, and never thought far off.
  static constexpr Duration kGuess = std::chrono::seconds(2);

  // From the order to load to readiness.
  void loaded(Duration took);
  // From the closed gate to the next model's readiness, of which `room` went by until what the others held
  // was free, without waiting for their answers; `first`: that model was not loaded before.
  void changed(Duration took, Duration room, bool first);

  Duration value() const { return value_; }
  // What the quantum is to follow: nothing until a change back to a model was measured. A turn that ends too
  // early for want of knowledge costs a change, once, and mostly a first load that was to come anyway; one
  // that lasts for a multiple of what a file took to come from the disk keeps somebody waiting for nothing.
  Duration of_returning() const { return basis_ == Basis::kChanges ? value_ : Duration(); }
  // The part of it from the last answer's end to the order to load; 0 until a change was measured.
  Duration room() const { return room_; }

 private:
  enum class Basis : std::uint8_t { kGuess, kLoads, kFirstChanges, kChanges };
  void measured(Duration cost, Basis kind);

  Duration value_ = kGuess;
  Duration room_{};
  Basis basis_ = Basis::kGuess;
  bool any_change_ = false;
};

}  // namespace lm::core

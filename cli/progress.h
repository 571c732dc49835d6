// The progress of a load: one line redrawn on a terminal, one line a stage elsewhere.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/console.h"

namespace lm::cli {

struct LoadProgress {
  std::string model;
  std::string stage;               // "weights"; empty: not yet loading
  std::string detail;              // the state of the instance machine: "queued", "loading"
  std::optional<double> fraction;  // 0…1 of the stage
};

// "██████▌·····": exactly `columns` wide; eighths of a column.
std::string bar(double fraction, int columns);

// "tinyllama  reading the weights  ██████▌·····  52 %  1.2 s": at most `columns` wide; first the bar goes,
// then the name is cut.
std::string progress_line(const LoadProgress& progress, double seconds, int columns);

// What a stage or state does, for people: "weights" is "reading the weights"; unknown words stay as they are.
std::string_view stage_text(std::string_view word);

// Owned by the command that shows it, and used on its thread. Its destructor clears the line.
class ProgressDisplay {
 public:
  explicit ProgressDisplay(const Stream& stream) : stream_(&stream) {}
  ~ProgressDisplay() { clear(); }
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void show(LoadProgress progress, double seconds);
  // Redraws with a later time.
  void tick(double seconds);
  void clear();

 private:
  const Stream* stream_;
  std::optional<LoadProgress> shown_;
  std::string last_word_;
  bool drawn_ = false;
};

}  // namespace lm::cli

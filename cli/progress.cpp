#include "cli/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "cli/display_width.h"
#include "cli/span_text.h"

namespace lm::cli {
namespace {

constexpr int kWidestBar = 30;
constexpr int kNarrowestBar = 6;

std::string_view word_of(const LoadProgress& progress) {
  return progress.stage.empty() ? std::string_view(progress.detail) : std::string_view(progress.stage);
}

}  // namespace

std::string bar(double fraction, int columns) {
  constexpr std::array<std::string_view, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (columns <= 0) return {};
  const double clean = std::isfinite(fraction) ? std::clamp(fraction, 0.0, 1.0) : 0.0;
  const int eighths = static_cast<int>(clean * columns * 8);
  std::string out;
  int used = 0;
  for (; used < eighths / 8; ++used) out += "█";
  if (eighths % 8 != 0) {
    out += kEighths.at(static_cast<std::size_t>(eighths % 8));
    ++used;
  }
  for (; used < columns; ++used) out += "·";
  return out;
}

std::string_view stage_text(std::string_view word) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kTexts = {{
      {"fetching", "fetching it"},
      {"importing", "importing it"},
      {"queued", "waiting for its turn"},
      {"reserved", "its memory is reserved"},
      {"standby_taken", "a worker takes it"},
      {"starting", "starting a worker"},
      {"loading", "loading"},
      {"upstream", "its upstream loads it"},
      {"metadata", "reading the metadata"},
      {"vocabulary", "reading the vocabulary"},
      {"weights", "reading the weights"},
      {"context", "making the context"},
      {"warm_up", "warming up"},
      {"draining", "another model finishes its answers"},
      {"reclaiming", "another model's memory comes back"},
      {"ready", "ready"},
  }};
  const auto* it = std::ranges::find(kTexts, word, &std::pair<std::string_view, std::string_view>::first);
  return it == kTexts.end() ? word : it->second;
}

std::string progress_line(const LoadProgress& progress, double seconds, int columns) {
  const std::string name = printable(progress.model);
  const std::string what = printable(stage_text(word_of(progress)));
  std::string tail = "  " + span_text(seconds);
  if (progress.fraction)
    tail = fmt::format("  {:3.0f} %{}", std::clamp(*progress.fraction, 0.0, 1.0) * 100, tail);
  std::string head = name + "  " + what;
  const int room = columns - display_width(head) - display_width(tail) - 2;
  if (progress.fraction && room >= kNarrowestBar)
    head += "  " + bar(*progress.fraction, std::min(room, kWidestBar));
  const int for_head = columns - display_width(tail);
  if (for_head <= 1) return fit(head, columns);
  return fit(head, for_head) + tail;
}

void ProgressDisplay::show(LoadProgress progress, double seconds) {
  if (stream_->can_redraw) {
    shown_ = std::move(progress);
    tick(seconds);
    return;
  }
  const std::string word(word_of(progress));
  // "loading" says nothing beside its stages, and comes between them.
  if (word.empty() || word == "loading" || word == last_word_) return;
  last_word_ = word;
  stream_->line(printable(fmt::format("{}: {}", progress.model, stage_text(word))));
}

void ProgressDisplay::tick(double seconds) {
  if (!stream_->can_redraw || !shown_) return;
  // One column less: some terminals wrap when the last one is written.
  stream_->write("\r" + progress_line(*shown_, seconds, stream_->columns() - 1) + "\x1b[K");
  drawn_ = true;
}

void ProgressDisplay::clear() {
  if (drawn_) stream_->write("\r\x1b[K");
  drawn_ = false;
}

}  // namespace lm::cli

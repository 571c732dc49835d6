// The small file beside a saved conversation that says what it is: lines of text, sealed by a checksum, so
// that a later daemon knows what it finds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "domain/ids.h"
#include "domain/kept_state.h"

namespace lm::runtime {

struct StateSidecar {
  ModelId model;
  std::string fingerprint;    // of everything that the state depends on
  std::int64_t saved_ms = 0;  // Unix time
  Duration reread{};          // what reading its prompt again would take
  SlotState state;            // its file has the sidecar's name but for the ending
  bool operator==(const StateSidecar&) const = default;
};

// The sidecar's path for a state's file.
std::filesystem::path sidecar_of(const std::filesystem::path& state_file);

std::string to_text(const StateSidecar& sidecar);
// kInvalidArgument "foreign_state" for what to_text() has not written. The file is the folder's
// own, whatever the text says.
Result<StateSidecar> read_sidecar(std::string_view text, const std::filesystem::path& sidecar_file);

}  // namespace lm::runtime

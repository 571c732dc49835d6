// What the child that pulls a model tells the daemon: one line of JSON for each message.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lm::wire {

// What will be fetched is known.
struct PullListed {
  std::vector<std::string> files;  // relative to the folder that is pulled into
  Bytes total;
};

struct PullProgressed {
  std::string stage;  // "listing", "downloading", "verifying"
  Bytes done;         // of the total: also what an earlier attempt has left behind
  Bytes total;
};

// Something that people should know and that ends nothing: a retry, a hash that nobody promised.
struct PullNoted {
  std::string text;
};

struct PulledFile {
  std::string path;  // absolute
  Bytes size;
  std::string hash;  // "sha256:…"; empty where nothing was promised
  bool operator==(const PulledFile&) const = default;
};

// Every file is whole, checked and where it belongs.
struct PullSucceeded {
  std::vector<PulledFile> files;
};

struct PullFailed {
  Error error;
};

using PullMessage = std::variant<PullListed, PullProgressed, PullNoted, PullSucceeded, PullFailed>;

// A line without its end.
std::string encode(const PullMessage& message);
// kInvalidArgument where the line is none of them.
Result<PullMessage> decode_pull(std::string_view line);

}  // namespace lm::wire

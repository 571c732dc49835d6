// The pulls that the daemon owns: each runs in a child of its own, is remembered over restarts, and can be
// paused, resumed and cancelled. What the child writes is believed as far as it is shown; files are looked at
// again when it has ended.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/result.h"
#include "domain/ids.h"
#include "runtime/aside.h"
#include "runtime/records.h"

namespace lm::runtime {

enum class PullState : std::uint8_t { kWaiting, kRunning, kPaused, kDone, kFailed, kCancelled };
std::string_view to_string(PullState state);
// Nothing happens to it any more by itself: also of one that is paused.
bool rests(PullState state);

// A pull as it is now. A plain value.
struct Pull {
  std::uint64_t id = 0;
  std::string source;  // hub::Source::text(): without an address's query
  std::filesystem::path folder;
  PullState state = PullState::kWaiting;
  std::string who;
  std::int64_t asked_at_ms = 0;
  std::string stage;  // "listing", "downloading", "verifying"; empty where nothing is known
  Bytes done, total;
  double rate = 0;   // bytes a second, of the last seconds
  std::string note;  // the last thing that people should know
  std::optional<Error> error;
  std::vector<std::string> files;  // once it is done
  std::vector<ModelId> models;     // that are listed from them
};

struct PullsSeams {
  boost::asio::any_io_executor executor;
  const Clock& clock;
  std::filesystem::path program;  // that has the hidden command __pull
  Records& records;
  std::function<void(const Pull&)> publish;
  // Files are there: looks at the model folders again, and says which models are made of them.
  std::function<std::vector<ModelId>(const std::vector<std::string>& files)> arrived;
};

// One thread. stop() before it is destroyed.
class Pulls {
 public:
  static constexpr std::size_t kAtOnce = 2;
  // A child that dies without a word is started again, so many times in a row without a byte in between.
  static constexpr int kMostDeaths = 3;
  // What lies in ".pull" and is of nothing that anybody knows is removed once it is so old.
  static constexpr auto kKeepUnknown = std::chrono::days(7);

  explicit Pulls(PullsSeams seams);
  ~Pulls();
  Pulls(const Pulls&) = delete;
  Pulls& operator=(const Pulls&) = delete;

  // Goes on with what an earlier daemon has left unfinished; paused ones stay so, and so do those of an
  // address whose query nobody has written down. Looks also at what lies unfinished in `folders`: what no
  // pull knows is listed, as paused; what was to be removed is.
  void begin(const std::vector<std::filesystem::path>& folders);
  // Ends the children; the pulls go on with the next daemon.
  void stop();

  // The id of the pull. One of the same source that is under way is the same pull; one that is paused is
  // resumed. Addresses that differ in their query only are the same source. kInvalidArgument "bad_source";
  // kFailedPrecondition while stopping.
  Result<std::uint64_t> start(const std::string& source, std::filesystem::path folder, std::string who);
  // All succeed where it is so already; one that has failed is resumed too. kNotFound "pull_not_found";
  // kFailedPrecondition "pull_ended", "address_needed".
  Result<void> pause(std::uint64_t id);
  Result<void> resume(std::uint64_t id);
  // What has come of it is removed.
  Result<void> cancel(std::uint64_t id);

  // Null where there is none.
  const Pull* find(std::uint64_t id) const;
  // By id.
  std::vector<Pull> all() const;

  // Removes what was put aside, in a child.
  void discard(const Aside& aside);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace lm::runtime

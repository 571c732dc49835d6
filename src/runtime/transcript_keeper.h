// Keeps conversations as people had them, in DATA/conversations.db, without the daemon's thread ever waiting
// for a disk: one thread of its own writes, another one reads and searches.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/any_io_executor.hpp>

#include "base/latch.h"
#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "store/transcripts.h"

namespace lm::runtime {

// Used on the daemon's one thread. The file and the threads are made when somebody first asks; a file that
// cannot be opened is told to whoever asks, and tried again for the next.
class TranscriptKeeper {
 public:
  struct Seams {
    boost::asio::any_io_executor executor;
    std::function<std::int64_t()> unix_ms;
    Duration between_writes = std::chrono::milliseconds(500);  // what is shown of an answer is stored so soon
    Duration longest = std::chrono::seconds(30);               // that somebody waits for the disk
    std::size_t most_waiting = 10'000;                         // jobs
  };

  TranscriptKeeper(Seams seams, std::filesystem::path folder);
  // What was not stored by close() is lost; a write that is under way ends first.
  ~TranscriptKeeper();
  TranscriptKeeper(const TranscriptKeeper&) = delete;
  TranscriptKeeper& operator=(const TranscriptKeeper&) = delete;

  // The job's value, or its error; what was returned is in the file. kDeadlineExceeded "disk_slow" after
  // `longest` (the job may still be done), kResourceExhausted "disk_slow" where too many wait. `job` runs on
  // another thread: it captures values.
  template <class T>
  using Job = std::function<Result<T>(store::Transcripts&)>;
  template <class T>
  Task<Result<T>> change(Job<T> job) {
    return await_job(true, std::move(job));
  }
  template <class T>
  Task<Result<T>> look(Job<T> job) {
    return await_job(false, std::move(job));
  }

  // An answer, from its first piece to its end. Owned by whoever shows it; destroyed before end() it is
  // stored as half of one. One without text is none. May outlive the keeper, to no effect.
  class Answer {
   public:
    Answer(Answer&& other) noexcept : state_(std::move(other.state_)) {}
    Answer& operator=(Answer&&) = delete;
    ~Answer();

    // Beyond Transcripts::kMostText nothing more is stored, and the answer stays half.
    void append(std::string_view text);
    // Once. It is in the file, whole, when this returns; the error says why it is not.
    Task<Result<void>> end();

   private:
    friend class TranscriptKeeper;
    struct State;
    explicit Answer(std::shared_ptr<State> state) : state_(std::move(state)) {}
    std::shared_ptr<State> state_;
  };
  // `conversation`: its number, as Transcripts::say tells it.
  Answer begin_answer(std::int64_t conversation, std::string model);

  // Stores what has come of all answers, for at most `limit`.
  Task<> close(Duration limit);

 private:
  struct Inside;
  // What is done on a thread with its view of the file, or with the reason why there is none.
  using AnyJob = std::function<void(Result<store::Transcripts*>)>;

  // The latch opens on our thread when the job is done. An error: it was not begun.
  Result<Latch> start(bool writes, AnyJob job);
  Duration longest() const;

  template <class T>
  Task<Result<T>> await_job(bool writes, Job<T> job) {
    const auto result = std::make_shared<std::optional<Result<T>>>();
    AnyJob any = [result, job = std::move(job)](Result<store::Transcripts*> opened) {
      if (opened) {
        result->emplace(job(**opened));
      } else {
        result->emplace(std::unexpected(std::move(opened).error()));
      }
    };
    LM_CO_TRY(const Latch done, start(writes, std::move(any)));
    if (!co_await done.wait(longest()))
      co_return fail(ErrorCode::kDeadlineExceeded, "the disk has not answered in time", "disk_slow");
    co_return std::move(**result);
  }

  std::shared_ptr<Inside> inside_;
};

}  // namespace lm::runtime

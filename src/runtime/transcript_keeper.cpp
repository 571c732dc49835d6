#include "runtime/transcript_keeper.h"

#include <algorithm>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/log.h"

namespace lm::runtime {
namespace {

namespace asio = boost::asio;
using End = store::AnswerPart::End;

// A write may end while the next one is asked for.
constexpr int kMostRounds = 4;

Error gone() {
  return fail(ErrorCode::kUnavailable, "the daemon ends", "stopping").error();
}

}  // namespace

struct TranscriptKeeper::Answer::State {
  State(std::weak_ptr<Inside> of, asio::any_io_executor executor)
      : inside(std::move(of)), settled(executor) {}

  std::weak_ptr<Inside> inside;
  store::AnswerPart part;  // what is to be written next
  std::size_t length = 0;
  bool too_long = false;
  std::optional<Error> error;
  Latch settled;  // its end is written, or cannot be
};

// Everything on the daemon's thread, but for what a desk's thread has of its own.
struct TranscriptKeeper::Inside : std::enable_shared_from_this<Inside> {
  // A thread, and its view of the file, which only it touches.
  struct Desk {
    std::unique_ptr<asio::thread_pool> thread;
    std::unique_ptr<store::Database> database;
    std::optional<store::Transcripts> transcripts;
  };
  struct Opened {
    Result<store::Transcripts*> transcripts;
    std::vector<std::string> warnings;
  };

  Inside(Seams s, std::filesystem::path f)
      : seams(std::move(s)), folder(std::move(f)), timer(seams.executor) {}

  // ---- on the desks' threads

  Opened open_to_write() {
    if (writer.transcripts) return {&*writer.transcripts, {}};
    auto opened = store::Database::open(folder, store::conversation_layout());
    if (!opened) return {std::unexpected(std::move(opened).error()), {}};
    writer.database = std::move(opened->database);
    store::Transcripts transcripts(*writer.database);
    if (auto recovered = transcripts.recover(); !recovered) {
      writer.database.reset();
      return {std::unexpected(std::move(recovered).error()), std::move(opened->warnings)};
    }
    writer.transcripts.emplace(transcripts);
    return {&*writer.transcripts, std::move(opened->warnings)};
  }

  Result<store::Transcripts*> open_to_read() {
    if (reader.transcripts) return &*reader.transcripts;
    LM_TRY(reader.database, store::Database::open_read_only(folder, store::conversation_layout()));
    reader.transcripts.emplace(*reader.database);
    return &*reader.transcripts;
  }

  // ---- jobs

  void submit(bool writes, AnyJob job, std::function<void()> after) {
    for (Desk* desk : {&writer, &reader}) {
      if (!desk->thread) desk->thread = std::make_unique<asio::thread_pool>(1);
    }
    ++waiting;
    // Until it is back, the daemon's thread has something to wait for.
    auto back = [self = shared_from_this(), after = std::move(after),
                 work = asio::make_work_guard(seams.executor)](std::vector<std::string> warnings,
                                                               bool is_open) {
      asio::post(self->seams.executor, [self, after, warnings = std::move(warnings), is_open] {
        --self->waiting;
        self->is_open = self->is_open || is_open;
        for (const std::string& warning : warnings) log::warning("{}", warning);
        after();
      });
    };
    auto read = [self = shared_from_this(), job, back](std::vector<std::string> warnings) {
      job(self->open_to_read());
      back(std::move(warnings), true);
    };
    if (!writes && is_open) {
      asio::post(*reader.thread, [read] { read({}); });
      return;
    }
    // The file is made, mended and brought up to date by the one who writes.
    asio::post(*writer.thread, [self = shared_from_this(), writes, job = std::move(job), read, back] {
      Opened opened = self->open_to_write();
      const bool is_open = opened.transcripts.has_value();
      if (!writes && is_open) {
        asio::post(*self->reader.thread, [read, warnings = std::move(opened.warnings)] { read(warnings); });
        return;
      }
      job(std::move(opened.transcripts));
      back(std::move(opened.warnings), is_open);
    });
  }

  // ---- answers

  bool has_something(const Answer::State& answer) const {
    return !answer.part.text.empty() || answer.part.end != End::kNotYet;
  }

  void write_soon() {
    if (armed || writing || closed) return;
    armed = true;
    timer.expires_after(seams.between_writes);
    timer.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
      const auto self = weak.lock();
      if (error || !self) return;
      self->armed = false;
      self->write();
    });
  }

  // One write at a time: its end begins the next, where somebody waits for one.
  void write() {
    if (writing || closed) return;
    const auto batch = std::make_shared<std::vector<std::shared_ptr<Answer::State>>>();
    std::vector<store::AnswerPart> parts;
    for (const auto& answer : answers) {
      if (!has_something(*answer)) continue;
      if (answer->part.text.empty() && answer->part.message == 0) {
        answer->settled.open();  // nothing was said
        continue;
      }
      parts.push_back(answer->part);
      answer->part.text.clear();
      batch->push_back(answer);
    }
    forget_settled();
    if (batch->empty()) return;
    writing = true;
    round = Latch(seams.executor);
    const auto ends = std::make_shared<std::vector<End>>();
    for (const store::AnswerPart& part : parts) ends->push_back(part.end);
    const auto result = std::make_shared<Result<std::vector<std::int64_t>>>(std::unexpected(gone()));
    submit(
        true,
        [result, parts = std::move(parts), now = seams.unix_ms()](Result<store::Transcripts*> opened) {
          if (opened) {
            *result = (*opened)->write(parts, now);
          } else {
            *result = std::unexpected(std::move(opened).error());
          }
        },
        [self = shared_from_this(), batch, ends, result] { self->written(*batch, *ends, *result); });
  }

  void written(const std::vector<std::shared_ptr<Answer::State>>& batch, const std::vector<End>& ends,
               const Result<std::vector<std::int64_t>>& result) {
    writing = false;
    if (!result) log::warning("{} answers are not kept: {}", batch.size(), result.error().message);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      Answer::State& answer = *batch[i];
      if (result) {
        answer.part.message = (*result)[i];
      } else {
        answer.error = result.error();
      }
      if (answer.part.message < 0)
        answer.error =
            fail(ErrorCode::kNotFound, "its conversation was removed", "conversation_not_found").error();
      if (answer.error || ends[i] != End::kNotYet) answer.settled.open();
    }
    forget_settled();
    round.open();
    const auto ended = [](const auto& answer) { return answer->part.end != End::kNotYet; };
    if (std::ranges::any_of(answers, ended)) {
      write();
    } else if (std::ranges::any_of(answers, [&](const auto& answer) { return has_something(*answer); })) {
      write_soon();
    }
  }

  void forget_settled() {
    std::erase_if(answers, [](const auto& answer) { return answer->settled.is_open(); });
  }

  Seams seams;
  std::filesystem::path folder;
  Desk writer, reader;
  bool is_open = false;  // the file is there and as it should be
  bool closed = false;
  std::size_t waiting = 0;

  std::vector<std::shared_ptr<Answer::State>> answers;  // that are not settled
  asio::steady_timer timer;
  bool armed = false;
  bool writing = false;
  Latch round{seams.executor};  // of the write under way
};

TranscriptKeeper::TranscriptKeeper(Seams seams, std::filesystem::path folder)
    : inside_(std::make_shared<Inside>(std::move(seams), std::move(folder))) {}

TranscriptKeeper::~TranscriptKeeper() {
  inside_->closed = true;
  inside_->timer.cancel();
  for (const auto& answer : inside_->answers) {
    answer->error = gone();
    answer->settled.open();
  }
  inside_->answers.clear();
  for (Inside::Desk* desk : {&inside_->writer, &inside_->reader}) {
    if (!desk->thread) continue;
    desk->thread->stop();
    desk->thread->join();
  }
  for (Inside::Desk* desk : {&inside_->writer, &inside_->reader}) {
    desk->thread.reset();  // and with it what was not begun, which holds us
    desk->transcripts.reset();
    desk->database.reset();
  }
}

Result<Latch> TranscriptKeeper::start(bool writes, AnyJob job) {
  if (inside_->waiting >= inside_->seams.most_waiting) {
    return fail(Error{.code = ErrorCode::kResourceExhausted,
                      .message = "too many wait for the disk that conversations are kept on",
                      .reason = "disk_slow",
                      .fields = {},
                      .retry_after = std::chrono::seconds(5)});
  }
  Latch done(inside_->seams.executor);
  inside_->submit(writes, std::move(job), [done]() mutable { done.open(); });
  return done;
}

Duration TranscriptKeeper::longest() const {
  return inside_->seams.longest;
}

TranscriptKeeper::Answer TranscriptKeeper::begin_answer(std::int64_t conversation, std::string model) {
  auto state = std::make_shared<Answer::State>(inside_, inside_->seams.executor);
  state->part.conversation = conversation;
  state->part.model = std::move(model);
  inside_->answers.push_back(state);
  return Answer(std::move(state));
}

Task<> TranscriptKeeper::close(Duration limit) {
  const auto inside = inside_;
  for (int i = 0; i < kMostRounds; ++i) {
    inside->write();
    if (!inside->writing) co_return;
    const Latch round = inside->round;
    if (!co_await round.wait(limit)) break;
  }
  if (inside->writing) log::warning("not all answers could be kept in time");
}

TranscriptKeeper::Answer::~Answer() {
  if (!state_ || state_->part.end != End::kNotYet) return;
  state_->part.end = End::kHalf;
  if (const auto inside = state_->inside.lock()) inside->write();
}

void TranscriptKeeper::Answer::append(std::string_view text) {
  if (text.empty() || state_->error || state_->too_long) return;
  state_->length += text.size();
  if (state_->length > static_cast<std::size_t>(store::Transcripts::kMostText)) {
    state_->too_long = true;
    return;
  }
  state_->part.text += text;
  if (const auto inside = state_->inside.lock()) inside->write_soon();
}

Task<Result<void>> TranscriptKeeper::Answer::end() {
  const auto state = state_;
  const auto inside = state->inside.lock();
  if (!inside) co_return fail(gone());
  state->part.end = state->too_long ? End::kHalf : End::kWhole;
  inside->write();
  if (!co_await state->settled.wait(inside->seams.longest))
    co_return fail(ErrorCode::kDeadlineExceeded, "the disk has not answered in time", "disk_slow");
  if (state->error) co_return fail(*state->error);
  if (state->too_long) {
    co_return fail(ErrorCode::kResourceExhausted, "it is longer than what is kept of an answer",
                   "answer_too_long");
  }
  co_return Result<void>();
}

}  // namespace lm::runtime

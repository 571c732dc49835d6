#include "api/kept_exchange.h"

#include <filesystem>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::api {
namespace {

using runtime::TranscriptKeeper;
using store::Message;
using store::Transcripts;

// A client: what came to it.
class Client final : public http::Exchange {
 public:
  explicit Client(boost::asio::any_io_executor executor)
      : Exchange(http::Request()), executor_(std::move(executor)) {}

  boost::asio::any_io_executor executor() const override { return executor_; }
  Task<Result<void>> respond(http::Response response) override {
    status = response.status;
    body = std::move(response.body);
    ended_ = true;
    co_return Result<void>();
  }
  Task<Result<void>> fail(int with, Error error) override {
    return respond({.status = with, .headers = {}, .body = error.reason});
  }
  void add_header(std::string_view name, std::string_view value) override { headers.add(name, value); }
  Result<void> begin(int with, http::Headers) override {
    status = with;
    return {};
  }
  Task<Result<void>> write(std::string_view bytes) override {
    body += bytes;
    if (on_write) on_write(bytes);
    co_return Result<void>();
  }
  Task<Result<void>> end(std::string_view last) override {
    body += last;
    ended_ = true;
    co_return Result<void>();
  }
  bool begun() const override { return status != 0; }
  bool ended() const override { return ended_; }
  bool client_gone() const override { return false; }
  http::RawStream take_over() override { std::abort(); }

  int status = 0;
  http::Headers headers;
  std::string body;
  std::function<void(std::string_view)> on_write;

 private:
  boost::asio::any_io_executor executor_;
  bool ended_ = false;
};

class KeptExchangeTest : public ::testing::Test {
 protected:
  KeptExchangeTest() {
    conversation_ = change<std::int64_t>([](Transcripts& t) -> Result<std::int64_t> {
                      LM_TRY(const auto begun, t.create({}, 1));
                      return t.say(begun.id, {}, "hello", "m", 1);
                    }).value();
    exchange_.emplace(client_, http::Request(), keeper_.begin_answer(conversation_, "m"));
  }
  template <class T>
  Result<T> change(TranscriptKeeper::Job<T> job) {
    return os::testing::run(io_, keeper_.change<T>(std::move(job)));
  }
  // The answer as it is kept; empty where none is.
  std::optional<Message> kept() {
    auto messages = change<std::vector<Message>>([](Transcripts& t) -> Result<std::vector<Message>> {
      LM_TRY(const auto all, t.find({}));
      return t.messages(all.front().conversation.id, {}, 1, 10);
    });
    return messages->empty() ? std::nullopt : std::optional(messages->front());
  }
  void begin(int status, std::string type) {
    EXPECT_TRUE(exchange_->begin(status, {{"Content-Type", std::move(type)}, {"Content-Length", "1"}}));
  }
  void write(std::string_view bytes) { EXPECT_TRUE(os::testing::run(io_, exchange_->write(bytes))); }
  void end(std::string_view last = {}) { EXPECT_TRUE(os::testing::run(io_, exchange_->end(last))); }
  // Nothing can be stored any more.
  void remove_conversation() {
    ASSERT_TRUE(change<int>([](Transcripts& t) -> Result<int> {
      LM_TRY(const auto all, t.find({}));
      LM_TRY_VOID(t.remove(all.front().conversation.id, {}));
      return 0;
    }));
  }

  os::testing::TemporaryFolder folder_;
  boost::asio::io_context io_;
  TranscriptKeeper keeper_{{.executor = io_.get_executor(), .unix_ms = [] { return 1; }}, folder_.path()};
  Client client_{io_.get_executor()};
  std::int64_t conversation_ = 0;
  std::optional<KeptExchange> exchange_;
};

constexpr std::string_view kPiece =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Good "
    "\"}},{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n";
constexpr std::string_view kEnd =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"day.\"},\"finish_reason\":\"stop\"}]}\n\n";
constexpr std::string_view kWhole =
    R"({"choices":[{"index":0,"message":{"role":"assistant","content":"Good day."}}]})";

TEST_F(KeptExchangeTest, AStreamPassesByteForByteAndIsStoredBeforeItsEndIsSeen) {
  begin(200, "text/event-stream");
  write(": ping\n\n");
  write(kPiece.substr(0, 20));
  write(kPiece.substr(20));
  bool was_stored = false;
  client_.on_write = [&](std::string_view) {
    // Another connection looks into the file while the client is given the end.
    auto reader = store::Database::open_read_only(folder_.path(), store::conversation_layout());
    auto text = (*reader)->prepare("SELECT complete FROM messages WHERE text = 'Good day.'");
    was_stored = text->step().value_or(false) && text->integer(0) == 1;
  };
  write(kEnd);
  EXPECT_TRUE(was_stored);
  client_.on_write = nullptr;
  write("data: [DONE]\n\n");
  end();
  EXPECT_EQ(client_.body, ": ping\n\n" + std::string(kPiece) + std::string(kEnd) + "data: [DONE]\n\n");
  EXPECT_TRUE(client_.ended());
}

TEST_F(KeptExchangeTest, AWholeAnswerIsStoredBeforeItIsSeen) {
  begin(200, "application/json");
  EXPECT_TRUE(exchange_->begun());
  write(kWhole.substr(0, 30));
  write(kWhole.substr(30));
  EXPECT_EQ(client_.body, "") << "nothing is seen that is not stored";
  end();
  EXPECT_EQ(client_.body, kWhole);
  EXPECT_EQ(kept()->text, "Good day.");
  EXPECT_TRUE(kept()->complete);
  EXPECT_FALSE(client_.headers.has("X-Conversation-Kept"));
}

TEST_F(KeptExchangeTest, WhatCannotBeStoredIsPassedOnAndSaid) {
  remove_conversation();
  EXPECT_TRUE(
      os::testing::run(io_, exchange_->respond({.status = 200, .headers = {}, .body = std::string(kWhole)})));
  EXPECT_EQ(client_.body, kWhole);
  EXPECT_EQ(client_.headers.get("X-Conversation-Kept"), "no");
}

TEST_F(KeptExchangeTest, InAStreamACommentSaysIt) {
  remove_conversation();
  begin(200, "text/event-stream");
  write(kEnd);
  EXPECT_EQ(client_.body, ": not kept: its conversation was removed\n\n" + std::string(kEnd));
}

TEST_F(KeptExchangeTest, RefusalsArePassedOnAndNotKept) {
  begin(400, "application/json");
  write(R"({"error":{}})");
  end();
  EXPECT_EQ(client_.status, 400);
  EXPECT_EQ(client_.body, R"({"error":{}})");
  exchange_.reset();
  os::testing::run(io_, keeper_.close(std::chrono::seconds(20)));
  EXPECT_FALSE(kept());
}

TEST_F(KeptExchangeTest, AnAnswerThatBreaksOffUnseenIsAnError) {
  begin(200, "application/json");
  write(kWhole.substr(0, 30));
  os::testing::run(io_, exchange_->close());
  EXPECT_EQ(client_.status, 503);
  EXPECT_EQ(client_.body, "worker_died");
}

TEST_F(KeptExchangeTest, AStreamThatBreaksOffIsHalf) {
  begin(200, "text/event-stream");
  write(kPiece);
  end("data: {\"error\":{\"message\":\"the worker ended\"}}\n\n");
  exchange_.reset();
  os::testing::run(io_, keeper_.close(std::chrono::seconds(20)));
  EXPECT_EQ(kept()->text, "Good ");
  EXPECT_FALSE(kept()->complete);
}

}  // namespace
}  // namespace lm::api

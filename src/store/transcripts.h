// Conversations as people had them: titles, messages, and a search through them. A thin view of a Database of
// conversation_layout(), used on its thread; every call is one small transaction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "store/database.h"

namespace lm::store {

struct Conversation {
  std::string id;  // "c" and 24 hexadecimal digits, not to be guessed
  std::string title;
  std::string user, channel;    // as whoever began it calls them; may be empty
  std::string client;           // by whose key it was begun, where that has a name
  std::int64_t created_ms = 0;  // Unix time
  std::int64_t updated_ms = 0;  // of the last message or new title
  std::int64_t turn = 0;        // grows with every change of any conversation: lists are in its order
  std::int64_t messages = 0;    // how many
  std::int64_t bytes = 0;       // of their texts
  bool operator==(const Conversation&) const = default;
};

struct Message {
  std::int64_t id = 0;  // grows
  std::string role;     // "user", "assistant"
  std::string text;
  std::string model;  // that was asked, or has answered
  std::int64_t at_ms = 0;
  bool complete = true;  // false: the answer broke off, or still comes
  bool operator==(const Message&) const = default;
};

// Whose conversations somebody may see and change; nullopt: everybody's. To others they are not there.
using Scope = std::optional<std::string>;

struct ConversationQuery {
  Scope scope;
  std::optional<std::string> user, channel;
  // Words that all stand in one message, or all in the title, wherever; in any script. Empty: all.
  std::string search;
  std::optional<std::int64_t> before;  // for the next page: the turn of this one's last
  int most = 50;
};

struct FoundConversation {
  Conversation conversation;
  // What was searched for: its latest message and the text around it. Empty where the title has it.
  std::optional<std::pair<std::int64_t, std::string>> match;
};

// What has come of an answer since the last write.
struct AnswerPart {
  enum class End : std::uint8_t { kNotYet, kWhole, kHalf };

  std::int64_t conversation = 0;  // its number
  std::int64_t message = 0;       // 0: nothing of it is stored yet
  std::string text;
  std::string model;
  End end = End::kNotYet;
};

class Transcripts {
 public:
  static constexpr std::size_t kMostTitle = 200;      // characters
  static constexpr std::size_t kMostName = 128;       // characters of a user's or channel's
  static constexpr std::size_t kMostSearch = 200;     // characters
  static constexpr std::int64_t kMostText = 1 << 20;  // bytes of a message
  static constexpr std::int64_t kMostMessages = 10'000;
  static constexpr std::int64_t kMostBytes = 4 << 20;  // of a conversation, its last answer aside
  static constexpr std::int64_t kMostConversations = 100'000;
  static constexpr std::int64_t kMostFile = std::int64_t{4} << 30;
  // A search looks at so many messages at most, the latest: where a word is rare enough, that is all of them.
  static constexpr int kMostSearched = 20'000;

  explicit Transcripts(Database& database) : database_(database) {}

  // Lets answers be found that a daemon has left in their middle by its sudden end. Once, by whoever writes.
  Result<void> recover();

  // Of `begun` title, user, channel and client count. kInvalidArgument "invalid_field" where one is too long;
  // kFailedPrecondition "too_many_conversations", kResourceExhausted "disk_full" where there is no room.
  Result<Conversation> create(const Conversation& begun, std::int64_t now_ms);
  // kNotFound "conversation_not_found".
  Result<Conversation> get(std::string_view id, const Scope& scope);
  // Last changed first.
  Result<std::vector<FoundConversation>> find(const ConversationQuery& query);
  // Oldest first, those behind `after`.
  Result<std::vector<Message>> messages(std::string_view id, const Scope& scope, std::int64_t after,
                                        int most);
  Result<Conversation> rename(std::string_view id, const Scope& scope, std::string_view title,
                              std::int64_t now_ms);
  Result<void> remove(std::string_view id, const Scope& scope);

  // A user's message; the first one names a conversation without a title. The conversation's number, for its
  // answer. The same message right behind itself is one that is asked again, and not stored twice. Beside
  // create's errors: kInvalidArgument "message_too_long", kFailedPrecondition "conversation_full".
  Result<std::int64_t> say(std::string_view id, const Scope& scope, std::string_view text,
                           std::string_view model, std::int64_t now_ms);
  // The same for a request that says nothing new: its answer is kept, and nothing else.
  Result<std::int64_t> answerable(std::string_view id, const Scope& scope);

  // All of them or none. The messages' ids, in the same order; -1 where the conversation is gone.
  Result<std::vector<std::int64_t>> write(const std::vector<AnswerPart>& parts, std::int64_t now_ms);

 private:
  struct Row;
  Result<Row> row(std::string_view id, const Scope& scope);
  Result<void> check_room();
  Result<std::int64_t> add(std::int64_t conversation, std::string_view role, std::string_view text,
                           std::string_view model, bool complete, std::int64_t now_ms);
  Result<void> touch(std::int64_t conversation, std::int64_t messages, std::int64_t bytes,
                     std::int64_t now_ms);
  Result<void> make_findable(std::int64_t message);
  Result<std::int64_t> write_part(const AnswerPart& part, std::int64_t now_ms);

  Database& database_;
};

}  // namespace lm::store

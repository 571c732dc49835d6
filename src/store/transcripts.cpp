#include "store/transcripts.h"

#include <algorithm>
#include <random>

#include <fmt/format.h>

namespace lm::store {
namespace {

constexpr std::size_t kShortestIndexed = 3;  // characters: the index is one of three at a time
constexpr std::size_t kMostWords = 8;
constexpr std::size_t kAround = 60;     // characters of a message shown around what was searched for
constexpr std::size_t kMadeTitle = 60;  // characters of a first message that become a title
constexpr std::string_view kColumns =
    "c.id, c.title, c.user, c.channel, c.client, c.created_ms, c.updated_ms, c.turn, c.messages, c.bytes";

bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, begins_character));
}

// The first so many characters.
std::string_view beginning(std::string_view text, std::size_t most) {
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (begins_character(text[i]) && seen++ == most) return text.substr(0, i);
  }
  return text;
}

char lower(char byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
}

bool is_space(char byte) {
  return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char byte : text) {
    if (!is_space(byte)) {
      word += byte;
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, {}));
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

// What stands around the first of the words, in one line.
std::string excerpt(std::string_view text, const std::vector<std::string>& words) {
  const auto same = [](char a, char b) { return lower(a) == lower(b); };
  std::size_t at = text.size();
  for (const std::string& word : words) {
    const auto found = std::ranges::search(text, word, same);
    at = std::min(at, static_cast<std::size_t>(found.begin() - text.begin()));
  }
  if (at == text.size()) at = 0;  // it stands there in other letters
  std::size_t begin = at;
  for (std::size_t left = kAround; begin > 0 && left > 0;) {
    if (begins_character(text[--begin])) --left;
  }
  const std::string_view shown = beginning(text.substr(begin), 2 * kAround);
  std::string out = begin > 0 ? "…" : "";
  for (const char byte : shown) out += is_space(byte) ? ' ' : byte;
  if (begin + shown.size() < text.size()) out += "…";
  return out;
}

// A title out of the first message: the beginning of its first line.
std::string title_of(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  const std::string_view line = text.substr(0, text.find_first_of("\r\n"));
  std::string title(beginning(line, kMadeTitle));
  if (title.size() < line.size()) title += "…";
  return title;
}

std::string new_id() {
  // The kernel's, without a state of our own.
  std::random_device device;
  return fmt::format("c{:08x}{:08x}{:08x}", device(), device(), device());
}

// LIKE's own signs taken for what they are.
std::string like(std::string_view word) {
  std::string pattern = "%";
  for (const char byte : word) {
    if (byte == '%' || byte == '_' || byte == '\\') pattern += '\\';
    pattern += byte;
  }
  return pattern + "%";
}

std::string phrase(std::string_view word) {
  std::string out = "\"";
  for (const char byte : word) {
    if (byte == '"') out += '"';
    out += byte;
  }
  return out + "\"";
}

Conversation conversation_in(const Statement& row) {
  return {.id = std::string(row.text(0)),
          .title = std::string(row.text(1)),
          .user = std::string(row.text(2)),
          .channel = std::string(row.text(3)),
          .client = std::string(row.text(4)),
          .created_ms = row.integer(5),
          .updated_ms = row.integer(6),
          .turn = row.integer(7),
          .messages = row.integer(8),
          .bytes = row.integer(9)};
}

void bind_or_null(Statement& statement, int index, const std::optional<std::string>& text) {
  if (text) {
    statement.bind(index, *text);
  } else {
    statement.bind_null(index);
  }
}

std::unexpected<Error> too_long(std::string_view what, std::size_t most) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("{} may have {} characters", what, most),
              "invalid_field");
}

}  // namespace

struct Transcripts::Row {
  std::int64_t number = 0;
  Conversation conversation;
};

Result<void> Transcripts::recover() {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  for (const char* sql :
       {"INSERT INTO message_index (rowid, text) SELECT id, text FROM messages WHERE findable = 0",
        "UPDATE messages SET findable = 1 WHERE findable = 0"}) {
    LM_TRY(Statement statement, database_.prepare(sql));
    LM_TRY_VOID(statement.run());
  }
  return transaction.commit();
}

Result<Transcripts::Row> Transcripts::row(std::string_view id, const Scope& scope) {
  LM_TRY(Statement statement,
         database_.prepare(fmt::format("SELECT {}, c.number FROM conversations c "
                                       "WHERE c.id = ?1 AND (?2 IS NULL OR c.client = ?2)",
                                       kColumns)));
  statement.bind(1, id);
  bind_or_null(statement, 2, scope);
  LM_TRY(const bool found, statement.step());
  if (!found) {
    return fail(ErrorCode::kNotFound, fmt::format("no conversation {}", beginning(id, 40)),
                "conversation_not_found");
  }
  return Row{.number = statement.integer(10), .conversation = conversation_in(statement)};
}

Result<void> Transcripts::check_room() {
  std::int64_t pages = 0;
  for (const auto& [sql, sign] :
       {std::pair("PRAGMA page_count", 1), std::pair("PRAGMA freelist_count", -1)}) {
    LM_TRY(Statement statement, database_.prepare(sql));
    LM_TRY(const bool row, statement.step());
    if (row) pages += sign * statement.integer(0);
  }
  constexpr std::int64_t kPage = 4096;
  if (pages * kPage < kMostFile) return {};
  return fail(
      ErrorCode::kResourceExhausted,
      fmt::format("{} has reached {} GB: remove conversations", database_.path().string(), kMostFile >> 30),
      "disk_full");
}

Result<Conversation> Transcripts::create(const Conversation& begun, std::int64_t now_ms) {
  if (characters(begun.title) > kMostTitle) return too_long("a title", kMostTitle);
  if (characters(begun.user) > kMostName) return too_long("a user's name", kMostName);
  if (characters(begun.channel) > kMostName) return too_long("a channel's name", kMostName);
  LM_TRY_VOID(check_room());
  Conversation made = begun;
  made.id = new_id();
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  {
    LM_TRY(Statement count, database_.prepare("SELECT count(*) FROM conversations"));
    LM_TRY_VOID(count.step());
    if (count.integer(0) >= kMostConversations) {
      return fail(ErrorCode::kFailedPrecondition,
                  fmt::format("{} conversations are kept already: remove some", kMostConversations),
                  "too_many_conversations");
    }
    LM_TRY(Statement insert,
           database_.prepare("INSERT INTO conversations (id, title, user, channel, client, created_ms, "
                             "updated_ms, turn, messages, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, "
                             "(SELECT coalesce(max(turn), 0) + 1 FROM conversations), 0, 0)"));
    LM_TRY_VOID(insert.bind(1, made.id)
                    .bind(2, made.title)
                    .bind(3, made.user)
                    .bind(4, made.channel)
                    .bind(5, made.client)
                    .bind(6, now_ms)
                    .run());
  }
  LM_TRY(Row stored, row(made.id, std::nullopt));
  LM_TRY_VOID(transaction.commit());
  return std::move(stored.conversation);
}

Result<Conversation> Transcripts::get(std::string_view id, const Scope& scope) {
  LM_TRY(Row found, row(id, scope));
  return std::move(found.conversation);
}

Result<std::vector<FoundConversation>> Transcripts::find(const ConversationQuery& query) {
  if (characters(query.search) > kMostSearch) return too_long("a search", kMostSearch);
  std::vector<std::string> words = words_of(query.search);
  if (words.size() > kMostWords) words.resize(kMostWords);
  std::string indexed;              // of the words, those that the index finds
  std::vector<std::string> looked;  // and those that are looked for in what it has found
  for (const std::string& word : words) {
    if (characters(word) >= kShortestIndexed) {
      indexed += (indexed.empty() ? "" : " ") + phrase(word);
    } else {
      looked.push_back(word);
    }
  }
  const bool searches = !words.empty();

  // ?1 scope, ?2 user, ?3 channel, ?4 before, ?5 most, ?6 the index's words; then each word's pattern.
  constexpr int kFirstPattern = 7;
  const auto all_like = [](std::string_view column, int first, std::size_t count) {
    std::string out = "1";
    for (std::size_t i = 0; i < count; ++i)
      out += fmt::format(" AND {} LIKE ?{} ESCAPE '\\'", column, first + static_cast<int>(i));
    return out;
  };
  const int title_patterns = kFirstPattern + static_cast<int>(looked.size());
  std::string hits = "SELECT 0 AS conversation, 0 AS message WHERE 0";
  if (searches) {
    const std::string candidates =
        indexed.empty()
            ? fmt::format("SELECT id, conversation, text FROM messages ORDER BY id DESC LIMIT {}",
                          kMostSearched)
            : fmt::format(
                  "SELECT m.id, m.conversation, m.text FROM (SELECT rowid AS id FROM message_index WHERE "
                  "message_index MATCH ?6 ORDER BY rowid DESC LIMIT {}) f JOIN messages m ON m.id = f.id",
                  kMostSearched);
    hits = fmt::format("SELECT conversation, max(id) AS message FROM ({}) WHERE {} GROUP BY conversation",
                       candidates, all_like("text", kFirstPattern, looked.size()));
  }
  const std::string sql = fmt::format(
      "SELECT {}, h.message, m.text FROM conversations c LEFT JOIN ({}) h ON h.conversation = c.number "
      "LEFT JOIN messages m ON m.id = h.message "
      "WHERE (?1 IS NULL OR c.client = ?1) AND (?2 IS NULL OR c.user = ?2) AND (?3 IS NULL OR c.channel = "
      "?3) "
      "AND (?4 IS NULL OR c.turn < ?4) AND ({}) ORDER BY c.turn DESC LIMIT ?5",
      kColumns, hits,
      searches ? fmt::format("?6 IS NULL OR h.message IS NOT NULL OR ({})",
                             all_like("c.title", title_patterns, words.size()))
               : "?6 IS NULL");
  LM_TRY(Statement statement, database_.prepare(sql));
  bind_or_null(statement, 1, query.scope);
  bind_or_null(statement, 2, query.user);
  bind_or_null(statement, 3, query.channel);
  if (query.before) {
    statement.bind(4, *query.before);
  } else {
    statement.bind_null(4);
  }
  statement.bind(5, std::int64_t{query.most});
  // Empty and not null: something is searched for, though not by the index.
  if (searches) {
    statement.bind(6, indexed);
  } else {
    statement.bind_null(6);
  }
  int index = kFirstPattern;
  for (const std::string& word : looked) statement.bind(index++, like(word));
  for (const std::string& word : words) statement.bind(index++, like(word));

  std::vector<FoundConversation> found;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return found;
    FoundConversation one{.conversation = conversation_in(statement), .match = {}};
    if (!statement.is_null(10)) one.match.emplace(statement.integer(10), excerpt(statement.text(11), words));
    found.push_back(std::move(one));
  }
}

Result<std::vector<Message>> Transcripts::messages(std::string_view id, const Scope& scope,
                                                   std::int64_t after, int most) {
  LM_TRY(const Row found, row(id, scope));
  LM_TRY(Statement statement, database_.prepare("SELECT id, role, text, model, at_ms, complete FROM messages "
                                                "WHERE conversation = ?1 AND id > ?2 ORDER BY id LIMIT ?3"));
  statement.bind(1, found.number).bind(2, after).bind(3, std::int64_t{most});
  std::vector<Message> messages;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return messages;
    messages.push_back({.id = statement.integer(0),
                        .role = std::string(statement.text(1)),
                        .text = std::string(statement.text(2)),
                        .model = std::string(statement.text(3)),
                        .at_ms = statement.integer(4),
                        .complete = statement.integer(5) != 0});
  }
}

Result<Conversation> Transcripts::rename(std::string_view id, const Scope& scope, std::string_view title,
                                         std::int64_t now_ms) {
  if (characters(title) > kMostTitle) return too_long("a title", kMostTitle);
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  LM_TRY(const Row found, row(id, scope));
  {
    LM_TRY(Statement update, database_.prepare("UPDATE conversations SET title = ?2 WHERE number = ?1"));
    LM_TRY_VOID(update.bind(1, found.number).bind(2, title).run());
  }
  LM_TRY_VOID(touch(found.number, 0, 0, now_ms));
  LM_TRY(Row renamed, row(id, scope));
  LM_TRY_VOID(transaction.commit());
  return std::move(renamed.conversation);
}

Result<void> Transcripts::remove(std::string_view id, const Scope& scope) {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  LM_TRY(const Row found, row(id, scope));
  for (const char* sql : {"INSERT INTO message_index (message_index, rowid, text) "
                          "SELECT 'delete', id, text FROM messages WHERE conversation = ?1 AND findable = 1",
                          "DELETE FROM conversations WHERE number = ?1"}) {
    LM_TRY(Statement statement, database_.prepare(sql));
    LM_TRY_VOID(statement.bind(1, found.number).run());
  }
  return transaction.commit();
}

Result<std::int64_t> Transcripts::say(std::string_view id, const Scope& scope, std::string_view text,
                                      std::string_view model, std::int64_t now_ms) {
  const auto size = static_cast<std::int64_t>(text.size());
  if (size > kMostText) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("a message that is kept may have {} KiB", kMostText >> 10), "message_too_long");
  }
  LM_TRY_VOID(check_room());
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  LM_TRY(const Row found, row(id, scope));
  {
    LM_TRY(Statement last, database_.prepare("SELECT role, text FROM messages WHERE conversation = ?1 "
                                             "ORDER BY id DESC LIMIT 1"));
    LM_TRY(const bool any, last.bind(1, found.number).step());
    if (any && last.text(0) == "user" && last.text(1) == text) return found.number;
  }
  const Conversation& conversation = found.conversation;
  if (conversation.messages >= kMostMessages || conversation.bytes + size > kMostBytes) {
    return fail(ErrorCode::kFailedPrecondition,
                fmt::format("conversation {} is full ({} messages, {} KiB): begin another one",
                            conversation.id, conversation.messages, conversation.bytes >> 10),
                "conversation_full");
  }
  if (conversation.title.empty()) {
    LM_TRY(Statement update, database_.prepare("UPDATE conversations SET title = ?2 WHERE number = ?1"));
    LM_TRY_VOID(update.bind(1, found.number).bind(2, title_of(text)).run());
  }
  LM_TRY(const std::int64_t message, add(found.number, "user", text, model, true, now_ms));
  LM_TRY_VOID(make_findable(message));
  LM_TRY_VOID(transaction.commit());
  return found.number;
}

Result<std::int64_t> Transcripts::answerable(std::string_view id, const Scope& scope) {
  LM_TRY(const Row found, row(id, scope));
  if (found.conversation.messages < kMostMessages && found.conversation.bytes < kMostBytes)
    return found.number;
  return fail(ErrorCode::kFailedPrecondition,
              fmt::format("conversation {} is full: begin another one", found.conversation.id),
              "conversation_full");
}

Result<std::int64_t> Transcripts::add(std::int64_t conversation, std::string_view role, std::string_view text,
                                      std::string_view model, bool complete, std::int64_t now_ms) {
  LM_TRY(
      Statement insert,
      database_.prepare("INSERT INTO messages (conversation, role, text, model, at_ms, complete, findable) "
                        "SELECT number, ?2, ?3, ?4, ?5, ?6, 0 FROM conversations WHERE number = ?1"));
  LM_TRY_VOID(insert.bind(1, conversation)
                  .bind(2, role)
                  .bind(3, text)
                  .bind(4, model)
                  .bind(5, now_ms)
                  .bind(6, std::int64_t{complete})
                  .run());
  if (database_.changed_rows() == 0) return -1;
  const std::int64_t message = database_.last_row();
  LM_TRY_VOID(touch(conversation, 1, static_cast<std::int64_t>(text.size()), now_ms));
  return message;
}

Result<void> Transcripts::touch(std::int64_t conversation, std::int64_t messages, std::int64_t bytes,
                                std::int64_t now_ms) {
  LM_TRY(
      Statement update,
      database_.prepare("UPDATE conversations SET messages = messages + ?2, bytes = bytes + ?3, updated_ms = "
                        "?4, turn = (SELECT max(turn) + 1 FROM conversations) WHERE number = ?1"));
  return update.bind(1, conversation).bind(2, messages).bind(3, bytes).bind(4, now_ms).run();
}

Result<void> Transcripts::make_findable(std::int64_t message) {
  for (const char* sql : {"INSERT INTO message_index (rowid, text) "
                          "SELECT id, text FROM messages WHERE id = ?1 AND findable = 0",
                          "UPDATE messages SET findable = 1 WHERE id = ?1"}) {
    LM_TRY(Statement statement, database_.prepare(sql));
    LM_TRY_VOID(statement.bind(1, message).run());
  }
  return {};
}

Result<std::vector<std::int64_t>> Transcripts::write(const std::vector<AnswerPart>& parts,
                                                     std::int64_t now_ms) {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  std::vector<std::int64_t> messages;
  for (const AnswerPart& part : parts) {
    LM_TRY(const std::int64_t message, write_part(part, now_ms));
    messages.push_back(message);
  }
  LM_TRY_VOID(transaction.commit());
  return messages;
}

Result<std::int64_t> Transcripts::write_part(const AnswerPart& part, std::int64_t now_ms) {
  std::int64_t message = part.message;
  if (message == 0) {
    LM_TRY(message, add(part.conversation, "assistant", part.text, part.model, false, now_ms));
  } else if (message > 0 && !part.text.empty()) {
    {
      LM_TRY(Statement update, database_.prepare("UPDATE messages SET text = text || ?2 WHERE id = ?1"));
      LM_TRY_VOID(update.bind(1, message).bind(2, part.text).run());
    }
    if (database_.changed_rows() == 0) return -1;
    LM_TRY_VOID(touch(part.conversation, 0, static_cast<std::int64_t>(part.text.size()), now_ms));
  }
  if (message < 0 || part.end == AnswerPart::End::kNotYet) return message;
  {
    LM_TRY(Statement update, database_.prepare("UPDATE messages SET complete = ?2 WHERE id = ?1"));
    LM_TRY_VOID(update.bind(1, message).bind(2, std::int64_t{part.end == AnswerPart::End::kWhole}).run());
  }
  LM_TRY_VOID(make_findable(message));
  return message;
}

}  // namespace lm::store

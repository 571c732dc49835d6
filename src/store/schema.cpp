#include "store/schema.h"

#include <array>

namespace lm::store {
namespace {

constexpr std::array kStateSteps = {
    // 0 → 1
    R"sql(
CREATE TABLE footprints (
  key TEXT PRIMARY KEY,
  reclaimable INTEGER NOT NULL,
  load_seconds REAL,
  loads INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE footprint_bytes (
  key TEXT NOT NULL REFERENCES footprints(key) ON DELETE CASCADE,
  device TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (key, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE deaths (
  id INTEGER PRIMARY KEY,
  artifact TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  cause TEXT NOT NULL,
  how TEXT NOT NULL
) STRICT;
CREATE INDEX deaths_by_artifact ON deaths (artifact, id);
CREATE TABLE decisions (
  id INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  model TEXT NOT NULL,
  why TEXT NOT NULL,
  fields TEXT NOT NULL
) STRICT;
CREATE INDEX decisions_by_model ON decisions (model, id);
CREATE TABLE holds (
  model TEXT PRIMARY KEY,
  who TEXT NOT NULL,
  since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pins (
  model TEXT PRIMARY KEY,
  who TEXT NOT NULL,
  since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE switches (
  id INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  report TEXT NOT NULL
) STRICT;
)sql",
    // 1 → 2
    R"sql(
CREATE TABLE pulls (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  source TEXT NOT NULL,
  folder TEXT NOT NULL,
  key TEXT NOT NULL,
  state TEXT NOT NULL,
  who TEXT NOT NULL,
  asked_ms INTEGER NOT NULL,
  done INTEGER NOT NULL,
  total INTEGER NOT NULL,
  error TEXT NOT NULL
) STRICT;
CREATE TABLE pulled_files (
  path TEXT PRIMARY KEY,
  source TEXT NOT NULL,
  hash TEXT NOT NULL,
  size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql",
    // 2 → 3: an address's query may be a key.
    R"sql(
UPDATE pulls SET source = substr(source, 1, instr(source, '?') - 1) || '?…'
  WHERE source LIKE 'http%' AND instr(source, '?') > 0;
UPDATE pulled_files SET source = substr(source, 1, instr(source, '?') - 1) || '?…'
  WHERE source LIKE 'http%' AND instr(source, '?') > 0;
)sql",
    // 3 → 4
    R"sql(
CREATE TABLE kinds (
  fingerprint TEXT PRIMARY KEY,
  kind TEXT NOT NULL
) STRICT, WITHOUT ROWID;
)sql",
};

constexpr std::array kConversationSteps = {
    // 0 → 1. The index holds no text of its own: what is in it must be taken out before the text goes.
    R"sql(
CREATE TABLE conversations (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL,
  user TEXT NOT NULL,
  channel TEXT NOT NULL,
  client TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX conversations_by_turn ON conversations (turn);
CREATE INDEX conversations_by_user ON conversations (user, turn);
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation INTEGER NOT NULL REFERENCES conversations(number) ON DELETE CASCADE,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  model TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  complete INTEGER NOT NULL,
  findable INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_conversation ON messages (conversation, id);
CREATE INDEX messages_to_be_found ON messages (id) WHERE findable = 0;
CREATE VIRTUAL TABLE message_index USING fts5 (
  text, content = 'messages', content_rowid = 'id', tokenize = 'trigram');
)sql",
};

}  // namespace

const Layout& state_layout() {
  static constexpr Layout kLayout{.file = "state.db",
                                  .steps = kStateSteps,
                                  .lost = "learned sizes, holds and the decision log start anew"};
  return kLayout;
}

const Layout& conversation_layout() {
  static constexpr Layout kLayout{.file = "conversations.db",
                                  .steps = kConversationSteps,
                                  .lost =
                                      "kept conversations start anew; what can be read of the old ones is "
                                      "in there"};
  return kLayout;
}

}  // namespace lm::store

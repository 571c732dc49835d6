#include "store/schema.h"

#include <array>

namespace lm::store {
namespace {

constexpr std::array kSteps = {
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

}  // namespace

std::span<const char* const> schema_steps() {
  return kSteps;
}

}  // namespace lm::store

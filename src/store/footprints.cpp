#include "store/footprints.h"

#include <string>

namespace lm::store {

Result<std::optional<LearnedFootprint>> Footprints::get(std::string_view key) {
  LM_TRY(Statement head,
         database_.prepare(
             "SELECT reclaimable, load_seconds, loads, updated_ms FROM footprints WHERE key = ?1"));
  head.bind(1, key);
  LM_TRY(const bool known, head.step());
  if (!known) return std::nullopt;
  LearnedFootprint footprint;
  footprint.reclaimable = Bytes(head.integer(0));
  if (!head.is_null(1)) footprint.load_took = from_seconds(head.real(1));
  footprint.loads = head.integer(2);
  footprint.updated_ms = head.integer(3);
  LM_TRY(Statement rows, database_.prepare("SELECT device, bytes FROM footprint_bytes WHERE key = ?1"));
  rows.bind(1, key);
  while (true) {
    LM_TRY(const bool row, rows.step());
    if (!row) return footprint;
    footprint.bytes.set(DeviceId(std::string(rows.text(0))), Bytes(rows.integer(1)));
  }
}

Result<std::vector<std::pair<std::string, LearnedFootprint>>> Footprints::find(std::string_view prefix) {
  std::vector<std::string> keys;
  {
    LM_TRY(Statement rows,
           database_.prepare("SELECT key FROM footprints WHERE substr(key, 1, length(?1)) = ?1 "
                             "ORDER BY updated_ms"));
    rows.bind(1, prefix);
    while (true) {
      LM_TRY(const bool row, rows.step());
      if (!row) break;
      keys.emplace_back(rows.text(0));
    }
  }
  std::vector<std::pair<std::string, LearnedFootprint>> found;
  for (const std::string& key : keys) {
    LM_TRY(auto learned, get(key));
    if (learned) found.emplace_back(key.substr(prefix.size()), *std::move(learned));
  }
  return found;
}

Result<void> Footprints::put(std::string_view key, const DeviceBytes& bytes, Bytes reclaimable,
                             std::optional<Duration> load_took, std::int64_t now_ms) {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  {
    // 0.3: a cold page cache weighs little after three warm loads, and a slower disk shows after three as
    // well.
    LM_TRY(Statement head,
           database_.prepare(
               "INSERT INTO footprints (key, reclaimable, load_seconds, loads, updated_ms) "
               "VALUES (?1, ?2, ?3, 1, ?4) "
               "ON CONFLICT (key) DO UPDATE SET reclaimable = ?2, loads = loads + 1, updated_ms = ?4, "
               "load_seconds = coalesce(load_seconds + 0.3 * (?3 - load_seconds), load_seconds, ?3)"));
    head.bind(1, key).bind(2, reclaimable.count()).bind(4, now_ms);
    if (load_took) head.bind(3, seconds(*load_took));
    LM_TRY_VOID(head.run());
  }
  {
    LM_TRY(Statement clear, database_.prepare("DELETE FROM footprint_bytes WHERE key = ?1"));
    LM_TRY_VOID(clear.bind(1, key).run());
  }
  for (const auto& [device, amount] : bytes) {
    LM_TRY(Statement row,
           database_.prepare("INSERT INTO footprint_bytes (key, device, bytes) VALUES (?1, ?2, ?3)"));
    LM_TRY_VOID(row.bind(1, key).bind(2, device.str()).bind(3, amount.count()).run());
  }
  return transaction.commit();
}

Result<bool> Footprints::forget(std::string_view key) {
  LM_TRY(Statement statement, database_.prepare("DELETE FROM footprints WHERE key = ?1"));
  LM_TRY_VOID(statement.bind(1, key).run());
  return database_.changed_rows() > 0;
}

}  // namespace lm::store

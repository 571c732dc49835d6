#include "store/switches.h"

namespace lm::store {

Result<void> Switches::put(const SwitchRecord& record) {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  {
    LM_TRY(Statement insert,
           database_.prepare(
               "INSERT OR REPLACE INTO switches (id, at_ms, kind, report) VALUES (?1, ?2, ?3, ?4)"));
    LM_TRY_VOID(
        insert.bind(1, record.id).bind(2, record.at_ms).bind(3, record.kind).bind(4, record.report).run());
  }
  {
    LM_TRY(Statement trim, database_.prepare("DELETE FROM switches WHERE id <= ?1"));
    LM_TRY_VOID(trim.bind(1, record.id - keep_).run());
  }
  return transaction.commit();
}

Result<std::vector<SwitchRecord>> Switches::newest(int most) {
  LM_TRY(Statement statement,
         database_.prepare("SELECT id, at_ms, kind, report FROM switches ORDER BY id DESC LIMIT ?1"));
  statement.bind(1, std::int64_t{most});
  std::vector<SwitchRecord> records;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return records;
    records.push_back({.id = statement.integer(0),
                       .at_ms = statement.integer(1),
                       .kind = std::string(statement.text(2)),
                       .report = std::string(statement.text(3))});
  }
}

}  // namespace lm::store

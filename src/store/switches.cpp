#include "store/switches.h"

namespace lm::store {

Result<std::int64_t> Switches::append(const SwitchRecord& record) {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  std::int64_t id = 0;
  {
    LM_TRY(Statement insert,
           database_.prepare("INSERT INTO switches (at_ms, kind, report) VALUES (?1, ?2, ?3)"));
    LM_TRY_VOID(insert.bind(1, record.at_ms).bind(2, record.kind).bind(3, record.report).run());
    id = database_.last_row();
  }
  {
    LM_TRY(Statement trim, database_.prepare("DELETE FROM switches WHERE id <= ?1"));
    LM_TRY_VOID(trim.bind(1, id - keep_).run());
  }
  LM_TRY_VOID(transaction.commit());
  return id;
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

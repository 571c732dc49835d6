#include "store/death_tally.h"

namespace lm::store {
namespace {

Result<std::vector<Death>> read_all(Statement& statement) {
  std::vector<Death> deaths;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return deaths;
    deaths.push_back({.artifact = std::string(statement.text(0)),
                      .at_ms = statement.integer(1),
                      .cause = std::string(statement.text(2)),
                      .how = std::string(statement.text(3))});
  }
}

}  // namespace

Result<void> DeathTally::record(const Death& death) {
  LM_TRY(Transaction transaction, Transaction::begin(database_));
  {
    LM_TRY(Statement insert,
           database_.prepare("INSERT INTO deaths (artifact, at_ms, cause, how) VALUES (?1, ?2, ?3, ?4)"));
    LM_TRY_VOID(
        insert.bind(1, death.artifact).bind(2, death.at_ms).bind(3, death.cause).bind(4, death.how).run());
  }
  {
    LM_TRY(
        Statement trim,
        database_.prepare("DELETE FROM deaths WHERE artifact = ?1 AND id <= "
                          "(SELECT id FROM deaths WHERE artifact = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"));
    LM_TRY_VOID(trim.bind(1, death.artifact).bind(2, std::int64_t{keep_}).run());
  }
  return transaction.commit();
}

Result<std::vector<Death>> DeathTally::of(std::string_view artifact) {
  LM_TRY(Statement statement,
         database_.prepare(
             "SELECT artifact, at_ms, cause, how FROM deaths WHERE artifact = ?1 ORDER BY id DESC"));
  statement.bind(1, artifact);
  return read_all(statement);
}

Result<std::vector<Death>> DeathTally::since(std::int64_t at_ms, int most) {
  LM_TRY(Statement statement,
         database_.prepare("SELECT artifact, at_ms, cause, how FROM deaths WHERE at_ms >= ?1 "
                           "ORDER BY id DESC LIMIT ?2"));
  statement.bind(1, at_ms).bind(2, std::int64_t{most});
  return read_all(statement);
}

Result<std::int64_t> DeathTally::forget(std::string_view artifact) {
  LM_TRY(Statement statement, database_.prepare("DELETE FROM deaths WHERE artifact = ?1"));
  LM_TRY_VOID(statement.bind(1, artifact).run());
  return database_.changed_rows();
}

}  // namespace lm::store

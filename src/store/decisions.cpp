#include "store/decisions.h"

#include <limits>

namespace lm::store {

Result<std::int64_t> Decisions::append(const DecisionRecord& record) {
  std::int64_t id = 0;
  {
    LM_TRY(Statement insert, database_.prepare("INSERT INTO decisions (at_ms, kind, model, why, fields) "
                                               "VALUES (?1, ?2, ?3, ?4, ?5)"));
    insert.bind(1, record.at_ms)
        .bind(2, record.kind)
        .bind(3, record.model)
        .bind(4, record.why)
        .bind(5, record.fields);
    LM_TRY_VOID(insert.run());
    id = database_.last_row();
  }
  if (id % batch_ == 0 && id > keep_) {
    LM_TRY(Statement trim, database_.prepare("DELETE FROM decisions WHERE id <= ?1"));
    LM_TRY_VOID(trim.bind(1, id - keep_).run());
  }
  return id;
}

Result<std::vector<DecisionRecord>> Decisions::find(const DecisionQuery& query) {
  constexpr std::string_view kOfAll =
      "SELECT id, at_ms, kind, model, why, fields FROM decisions WHERE id < ?1 AND at_ms >= ?2 ORDER BY id "
      "DESC LIMIT ?3";
  constexpr std::string_view kOfModel =
      "SELECT id, at_ms, kind, model, why, fields FROM decisions WHERE id < ?1 AND at_ms >= ?2 AND model = "
      "?4 "
      "ORDER BY id DESC LIMIT ?3";
  LM_TRY(Statement statement, database_.prepare(query.model ? kOfModel : kOfAll));
  statement.bind(1, query.before_id.value_or(std::numeric_limits<std::int64_t>::max()))
      .bind(2, query.since_ms.value_or(std::numeric_limits<std::int64_t>::min()))
      .bind(3, std::int64_t{query.most});
  if (query.model) statement.bind(4, *query.model);
  std::vector<DecisionRecord> records;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return records;
    records.push_back({.id = statement.integer(0),
                       .at_ms = statement.integer(1),
                       .kind = std::string(statement.text(2)),
                       .model = std::string(statement.text(3)),
                       .why = std::string(statement.text(4)),
                       .fields = std::string(statement.text(5))});
  }
}

}  // namespace lm::store

#include "store/desired.h"

namespace lm::store {

Result<bool> Desired::hold(const Wish& wish) {
  return add("INSERT INTO holds (model, who, since_ms) VALUES (?1, ?2, ?3) ON CONFLICT (model) DO NOTHING",
             wish);
}

Result<bool> Desired::end_hold(const ModelId& model) {
  return remove("DELETE FROM holds WHERE model = ?1", model);
}

Result<std::vector<Wish>> Desired::holds() {
  return list("SELECT model, who, since_ms FROM holds ORDER BY model");
}

Result<bool> Desired::pin(const Wish& wish) {
  return add("INSERT INTO pins (model, who, since_ms) VALUES (?1, ?2, ?3) ON CONFLICT (model) DO NOTHING",
             wish);
}

Result<bool> Desired::unpin(const ModelId& model) {
  return remove("DELETE FROM pins WHERE model = ?1", model);
}

Result<std::vector<Wish>> Desired::pins() {
  return list("SELECT model, who, since_ms FROM pins ORDER BY model");
}

Result<bool> Desired::add(std::string_view sql, const Wish& wish) {
  LM_TRY(Statement statement, database_.prepare(sql));
  LM_TRY_VOID(statement.bind(1, wish.model.str()).bind(2, wish.who).bind(3, wish.since_ms).run());
  return database_.changed_rows() > 0;
}

Result<bool> Desired::remove(std::string_view sql, const ModelId& model) {
  LM_TRY(Statement statement, database_.prepare(sql));
  LM_TRY_VOID(statement.bind(1, model.str()).run());
  return database_.changed_rows() > 0;
}

Result<std::vector<Wish>> Desired::list(std::string_view sql) {
  LM_TRY(Statement statement, database_.prepare(sql));
  std::vector<Wish> wishes;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return wishes;
    wishes.push_back({.model = ModelId(std::string(statement.text(0))),
                      .who = std::string(statement.text(1)),
                      .since_ms = statement.integer(2)});
  }
}

}  // namespace lm::store

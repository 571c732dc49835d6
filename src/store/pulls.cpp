#include "store/pulls.h"

namespace lm::store {

Result<std::int64_t> Pulls::add(const PullRecord& record) {
  {
    LM_TRY(
        Statement statement,
        database_.prepare("INSERT INTO pulls (source, folder, key, state, who, asked_ms, done, total, error) "
                          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"));
    LM_TRY_VOID(statement.bind(1, record.source)
                    .bind(2, record.folder)
                    .bind(3, record.key)
                    .bind(4, record.state)
                    .bind(5, record.who)
                    .bind(6, record.asked_ms)
                    .bind(7, record.done)
                    .bind(8, record.total)
                    .bind(9, record.error)
                    .run());
  }
  const std::int64_t id = database_.last_row();
  LM_TRY(Statement statement,
         database_.prepare("DELETE FROM pulls WHERE state IN ('done', 'failed', 'cancelled') AND id NOT IN "
                           "(SELECT id FROM pulls WHERE state IN ('done', 'failed', 'cancelled') "
                           "ORDER BY id DESC LIMIT ?1)"));
  LM_TRY_VOID(statement.bind(1, std::int64_t{kKept}).run());
  return id;
}

Result<void> Pulls::update(const PullRecord& record) {
  LM_TRY(Statement statement,
         database_.prepare("UPDATE pulls SET state = ?2, done = ?3, total = ?4, error = ?5 WHERE id = ?1"));
  return statement.bind(1, record.id)
      .bind(2, record.state)
      .bind(3, record.done)
      .bind(4, record.total)
      .bind(5, record.error)
      .run();
}

Result<std::vector<PullRecord>> Pulls::all() {
  LM_TRY(
      Statement statement,
      database_.prepare("SELECT id, source, folder, key, state, who, asked_ms, done, total, error FROM pulls "
                        "ORDER BY id"));
  std::vector<PullRecord> records;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return records;
    records.push_back({.id = statement.integer(0),
                       .source = std::string(statement.text(1)),
                       .folder = std::string(statement.text(2)),
                       .key = std::string(statement.text(3)),
                       .state = std::string(statement.text(4)),
                       .who = std::string(statement.text(5)),
                       .asked_ms = statement.integer(6),
                       .done = statement.integer(7),
                       .total = statement.integer(8),
                       .error = std::string(statement.text(9))});
  }
}

Result<void> Pulls::add_file(const PulledFileRecord& file) {
  LM_TRY(Statement statement,
         database_.prepare(
             "INSERT OR REPLACE INTO pulled_files (path, source, hash, size) VALUES (?1, ?2, ?3, ?4)"));
  return statement.bind(1, file.path).bind(2, file.source).bind(3, file.hash).bind(4, file.size).run();
}

Result<void> Pulls::forget_file(std::string_view path) {
  LM_TRY(Statement statement, database_.prepare("DELETE FROM pulled_files WHERE path = ?1"));
  return statement.bind(1, path).run();
}

Result<std::vector<std::string>> Pulls::files_named(std::string_view name) {
  LM_TRY(
      Statement statement,
      database_.prepare("SELECT path FROM pulled_files WHERE substr(path, -length(?1)) = ?1 ORDER BY path"));
  const std::string end = "/" + std::string(name);
  statement.bind(1, end);
  std::vector<std::string> paths;
  while (true) {
    LM_TRY(const bool row, statement.step());
    if (!row) return paths;
    paths.emplace_back(statement.text(0));
  }
}

Result<bool> Pulls::has_file(std::string_view path) {
  LM_TRY(Statement statement, database_.prepare("SELECT 1 FROM pulled_files WHERE path = ?1"));
  return statement.bind(1, path).step();
}

}  // namespace lm::store

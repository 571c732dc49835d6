// One use of a prepared SQL statement: bind, step through the rows, and it goes back to its Database when it
// is destroyed. Borrowed from Database::prepare; must not outlive it. Blocks for as long as SQLite needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3_stmt;

namespace lm::store {

class Database;

class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  // Parameters count from 1, as ?1 in the SQL. Text is copied. An index that the SQL does not have ends the
  // process.
  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, double value);
  Statement& bind(int index, std::string_view text);
  Statement& bind_null(int index);

  // True: a row is there to be read. False: there is none, or no more; the statement has done its work.
  Result<bool> step();

  // To the end; for statements without rows, or whose rows do not matter.
  Result<void> run();

  // Columns count from 0; legal after step() was true. A null reads as 0 and as empty text. The text lives
  // until the next step.
  std::int64_t integer(int column) const;
  double real(int column) const;
  std::string_view text(int column) const;
  bool is_null(int column) const;

 private:
  friend class Database;
  Statement(Database* owner, sqlite3_stmt* handle, bool cached)
      : owner_(owner), handle_(handle), cached_(cached) {}

  Database* owner_;
  sqlite3_stmt* handle_;
  bool cached_;
};

}  // namespace lm::store

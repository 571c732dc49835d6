// A SQLite file of the daemon, FOLDER/state.db or another by its Layout: what it remembers over restarts,
// never what is true now. Owned by whoever opens it; used on one thread. A write is typically done in well
// under a millisecond: it survives the end of the process at any moment, and a power cut costs the last
// moments at most, never the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/schema.h"
#include "store/statement.h"

struct sqlite3;
struct sqlite3_stmt;

namespace lm::store {

class Database {
 public:
  struct Opened {
    std::unique_ptr<Database> database;
    std::vector<std::string> warnings;  // a damaged file was moved aside, …
  };

  // Makes the folder (0700) and the file (0600) where they are missing and brings the schema up to date. A
  // damaged file is moved to FILE.corrupt-TIME with a warning, and a fresh one begun. Written by a newer
  // version: kFailedPrecondition, reason "newer_schema".
  static Result<Opened> open(const std::filesystem::path& folder, const Layout& layout = state_layout());

  // For looking on while a daemon writes; every write fails. Not there: kNotFound.
  static Result<std::unique_ptr<Database>> open_read_only(const std::filesystem::path& folder,
                                                          const Layout& layout = state_layout());

  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // Compiled once and kept. Errors only where the file or memory fails: SQL that does not compile ends the
  // process.
  Result<Statement> prepare(std::string_view sql);

  // The rowid of the last insert.
  std::int64_t last_row() const;
  // Rows that the last statement has changed.
  std::int64_t changed_rows() const;

  // A query has met a damaged page: the next open() will check the file and move it aside.
  bool damaged() const { return damaged_; }

  const std::filesystem::path& path() const { return path_; }

 private:
  friend class Statement;
  friend class Transaction;

  Database(std::filesystem::path path, const Layout& layout) : path_(std::move(path)), layout_(layout) {}

  Result<void> connect(bool read_only);
  Result<void> check();
  Result<void> migrate();
  Result<std::int64_t> schema_version();
  Result<void> execute(const char* sql);
  Error error_of(int code, std::string_view doing);
  void give_back(sqlite3_stmt* handle, bool cached);

  struct Cached {
    sqlite3_stmt* handle = nullptr;
    bool in_use = false;
  };

  std::filesystem::path path_;
  const Layout& layout_;
  sqlite3* handle_ = nullptr;
  std::map<std::string, Cached, std::less<>> statements_;
  bool damaged_ = false;
  bool in_transaction_ = false;
};

// All or nothing: commits by commit(), takes everything back when it is destroyed without. One at a time.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  Result<void> commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;
};

}  // namespace lm::store

#include "store/database.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <sqlite3.h>

#include "base/assert.h"
#include "base/clock.h"
#include "os/file.h"
#include "os/system_error.h"
#include "store/schema.h"

namespace lm::store {
namespace {

constexpr int kBusyTimeoutMs = 2000;
constexpr std::string_view kCorrupt = "database_corrupt";

// SQLite keeps the log and its index in files beside the database; they belong to it and move with it.
constexpr std::array<std::string_view, 3> kSuffixes = {"", "-wal", "-shm"};

std::filesystem::path beside(const std::filesystem::path& path, std::string_view suffix) {
  return path.string() + std::string(suffix);
}

// Left by a daemon that has met a damaged page: a full check at every start would cost more than the start
// itself.
std::filesystem::path damage_mark(const std::filesystem::path& path) {
  return beside(path, ".damaged");
}

Result<void> make_file(const std::filesystem::path& path) {
  const os::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail(os::system_error(errno, path.string()));
  // Keys never get here, but conversations will: nobody else's to read, whatever the umask was.
  if (::fchmod(fd.get(), 0600) != 0) return fail(os::system_error(errno, path.string()));
  return {};
}

// Names the new place. The time tells several apart.
Result<std::filesystem::path> move_aside(const std::filesystem::path& path) {
  std::filesystem::path target = beside(path, fmt::format(".corrupt-{}", unix_time_ms()));
  for (const std::string_view suffix : kSuffixes) {
    std::error_code error;
    std::filesystem::rename(beside(path, suffix), beside(target, suffix), error);
    if (error && error != std::errc::no_such_file_or_directory) {
      return fail(
          os::system_error(error.value(), fmt::format("moving {} aside", beside(path, suffix).string())));
    }
  }
  return target;
}

bool is_corrupt(const Error& error) {
  return error.reason == kCorrupt;
}

}  // namespace

Result<Database::Opened> Database::open(const std::filesystem::path& folder, const Layout& layout) {
  LM_TRY_VOID(os::make_private_folders(folder));
  const std::filesystem::path path = folder / layout.file;
  Opened opened;
  for (bool moved = false;; moved = true) {
    LM_TRY_VOID(make_file(path));
    opened.database.reset(new Database(path, layout));
    Result<void> ready = opened.database->connect(false);
    if (ready) ready = opened.database->check();
    if (ready) ready = opened.database->migrate();
    if (ready) break;
    if (!is_corrupt(ready.error()) || moved) return fail(std::move(ready).error());
    opened.database.reset();
    LM_TRY(const std::filesystem::path aside, move_aside(path));
    opened.warnings.push_back(
        fmt::format("{} was damaged ({}); it lies in {} now and a fresh one was begun: {}", path.string(),
                    ready.error().message, aside.string(), layout.lost));
  }
  std::error_code ignored;
  std::filesystem::remove(damage_mark(path), ignored);
  return opened;
}

Result<std::unique_ptr<Database>> Database::open_read_only(const std::filesystem::path& folder,
                                                           const Layout& layout) {
  const std::filesystem::path path = folder / layout.file;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return fail(ErrorCode::kNotFound,
                fmt::format("{} is not there: no daemon has run with this folder", path.string()));
  }
  std::unique_ptr<Database> database(new Database(path, layout));
  LM_TRY_VOID(database->connect(true));
  LM_TRY(const std::int64_t version, database->schema_version());
  if (version != static_cast<std::int64_t>(layout.steps.size())) {
    return fail(
        ErrorCode::kFailedPrecondition,
        fmt::format("{} has schema {}, this version reads {}", path.string(), version, layout.steps.size()),
        "other_schema");
  }
  return database;
}

Database::~Database() {
  for (auto& [sql, cached] : statements_) {
    LM_ASSERT(!cached.in_use, "a Statement must not outlive its Database");
    sqlite3_finalize(cached.handle);
  }
  LM_ASSERT(sqlite3_close(handle_) == SQLITE_OK, "nothing of the database is in use any more");
}

Result<void> Database::connect(bool read_only) {
  // Used on one thread, so without SQLite's locks; links are not followed (the path is ours).
  const int flags = (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX |
                    SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path_.c_str(), &handle_, flags, nullptr);
  if (code != SQLITE_OK) return fail(error_of(code, "opening"));
  sqlite3_busy_timeout(handle_, kBusyTimeoutMs);
  // Schema and data from a file are no code of ours.
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  LM_TRY_VOID(execute("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -512"));
  if (read_only) return execute("PRAGMA query_only = ON");
  return execute(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304");
}

Result<void> Database::check() {
  std::error_code error;
  if (!std::filesystem::exists(damage_mark(path_), error)) return {};
  LM_TRY(Statement statement, prepare("PRAGMA quick_check(1)"));
  LM_TRY(const bool row, statement.step());
  if (row && statement.text(0) == "ok") return {};
  return fail(ErrorCode::kInternal, row ? std::string(statement.text(0)) : "no answer to a check",
              std::string(kCorrupt));
}

Result<std::int64_t> Database::schema_version() {
  LM_TRY(Statement statement, prepare("PRAGMA user_version"));
  LM_TRY(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}

Result<void> Database::migrate() {
  const auto steps = layout_.steps;
  LM_TRY(const std::int64_t version, schema_version());
  if (version > static_cast<std::int64_t>(steps.size())) {
    return fail(Error{
        .code = ErrorCode::kFailedPrecondition,
        .message =
            fmt::format("{} was written by a newer version (schema {}, this one knows {}); run that one, or "
                        "choose another folder with --data",
                        path_.string(), version, steps.size()),
        .reason = "newer_schema",
        .fields = {{"schema", version}, {"known", static_cast<std::int64_t>(steps.size())}},
        .retry_after = {}});
  }
  if (version < 0) return fail(ErrorCode::kInternal, "a negative schema version", std::string(kCorrupt));
  for (auto step = static_cast<std::size_t>(version); step < steps.size(); ++step) {
    LM_TRY(Transaction transaction, Transaction::begin(*this));
    LM_TRY_VOID(execute(steps[step]));
    LM_TRY_VOID(execute(fmt::format("PRAGMA user_version = {}", step + 1).c_str()));
    LM_TRY_VOID(transaction.commit());
  }
  return {};
}

Result<void> Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error_of(code, sql));
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  const auto it = statements_.find(sql);
  if (it != statements_.end() && !it->second.in_use) {
    it->second.in_use = true;
    return Statement(this, it->second.handle, true);
  }
  sqlite3_stmt* handle = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &handle, nullptr);
  LM_ASSERT(code != SQLITE_ERROR, sqlite3_errmsg(handle_));
  if (code != SQLITE_OK) return fail(error_of(code, sql));
  if (it != statements_.end())
    return Statement(this, handle, false);  // the kept one is being stepped through
  statements_.emplace(sql, Cached{.handle = handle, .in_use = true});
  return Statement(this, handle, true);
}

void Database::give_back(sqlite3_stmt* handle, bool cached) {
  if (!cached) {
    sqlite3_finalize(handle);
    return;
  }
  const auto it = statements_.find(std::string_view(sqlite3_sql(handle)));
  LM_ASSERT(it != statements_.end() && it->second.in_use, "the statement was lent");
  sqlite3_reset(handle);
  sqlite3_clear_bindings(handle);
  it->second.in_use = false;
}

std::int64_t Database::last_row() const {
  return sqlite3_last_insert_rowid(handle_);
}

std::int64_t Database::changed_rows() const {
  return sqlite3_changes64(handle_);
}

Error Database::error_of(int code, std::string_view doing) {
  Error error{.code = ErrorCode::kInternal,
              .message = {},
              .reason = "database_error",
              .fields = {},
              .retry_after = {}};
  std::string advice;
  switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      error.reason = kCorrupt;
      if (!damaged_) {
        damaged_ = true;
        // Where even this cannot be written there is nothing more to be done about it.
        static_cast<void>(os::write_file_atomically(damage_mark(path_), "found at run time\n"));
      }
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      error.code = ErrorCode::kUnavailable;
      error.reason = "database_busy";
      break;
    case SQLITE_FULL:
      error.code = ErrorCode::kResourceExhausted;
      error.reason = "disk_full";
      advice = "; make room on its disk";
      break;
    case SQLITE_NOMEM:
      error.code = ErrorCode::kResourceExhausted;
      error.reason = "insufficient_memory";
      break;
    case SQLITE_IOERR:
      error.reason = "io_error";
      break;
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      error.code = ErrorCode::kPermissionDenied;
      error.reason = "io_error";
      advice = "; it and its folder must be writable";
      break;
    default:
      error.fields.emplace_back("sql", std::string(doing));
  }
  const char* text = handle_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(handle_);
  error.message = fmt::format("{}: {}{}", path_.string(), text, advice);
  error.fields.emplace_back("sqlite", static_cast<std::int64_t>(code));
  return error;
}

Result<Transaction> Transaction::begin(Database& database) {
  LM_ASSERT(!database.in_transaction_, "one transaction at a time");
  LM_TRY(Statement statement, database.prepare("BEGIN IMMEDIATE"));
  LM_TRY_VOID(statement.run());
  database.in_transaction_ = true;
  return Transaction(&database);
}

Transaction::~Transaction() {
  if (database_ == nullptr) return;
  database_->in_transaction_ = false;
  // SQLite may have rolled back by itself already (disk full); then this fails and nothing is lost.
  sqlite3_exec(database_->handle_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Result<void> Transaction::commit() {
  LM_ASSERT(database_ != nullptr, "committed once");
  LM_TRY(Statement statement, database_->prepare("COMMIT"));
  LM_TRY_VOID(statement.run());
  database_->in_transaction_ = false;
  database_ = nullptr;
  return {};
}

}  // namespace lm::store

#include "store/statement.h"

#include <utility>

#include <sqlite3.h>

#include "base/assert.h"
#include "store/database.h"

namespace lm::store {

Statement::Statement(Statement&& other) noexcept
    : owner_(other.owner_), handle_(std::exchange(other.handle_, nullptr)), cached_(other.cached_) {}

Statement::~Statement() {
  if (handle_ != nullptr) owner_->give_back(handle_, cached_);
}

Statement& Statement::bind(int index, std::int64_t value) {
  LM_ASSERT(sqlite3_bind_int64(handle_, index, value) == SQLITE_OK, "the SQL has this parameter");
  return *this;
}

Statement& Statement::bind(int index, double value) {
  LM_ASSERT(sqlite3_bind_double(handle_, index, value) == SQLITE_OK, "the SQL has this parameter");
  return *this;
}

Statement& Statement::bind(int index, std::string_view text) {
  // A null pointer would bind null instead of the empty text.
  const char* data = text.data() == nullptr ? "" : text.data();
  LM_ASSERT(
      sqlite3_bind_text64(handle_, index, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8) == SQLITE_OK,
      "the SQL has this parameter");
  return *this;
}

Statement& Statement::bind_null(int index) {
  LM_ASSERT(sqlite3_bind_null(handle_, index) == SQLITE_OK, "the SQL has this parameter");
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return fail(owner_->error_of(code, sqlite3_sql(handle_)));
}

Result<void> Statement::run() {
  while (true) {
    LM_TRY(const bool row, step());
    if (!row) return {};
  }
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(handle_, column);
}

double Statement::real(int column) const {
  return sqlite3_column_double(handle_, column);
}

std::string_view Statement::text(int column) const {
  const auto* data = static_cast<const char*>(static_cast<const void*>(sqlite3_column_text(handle_, column)));
  if (data == nullptr) return {};
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(handle_, column) == SQLITE_NULL;
}

}  // namespace lm::store

#include "store/kinds.h"

namespace lm::store {

Result<std::optional<ModelKind>> Kinds::get(std::string_view fingerprint) {
  LM_TRY(Statement statement, database_.prepare("SELECT kind FROM kinds WHERE fingerprint = ?1"));
  statement.bind(1, fingerprint);
  LM_TRY(const bool known, statement.step());
  if (!known) return std::nullopt;
  const std::string_view text = statement.text(0);
  for (const ModelKind kind : {ModelKind::kGeneration, ModelKind::kEmbedding, ModelKind::kRerank}) {
    if (text == to_string(kind)) return kind;
  }
  return std::nullopt;
}

Result<void> Kinds::put(std::string_view fingerprint, ModelKind kind) {
  LM_TRY(Statement insert,
         database_.prepare("INSERT OR REPLACE INTO kinds (fingerprint, kind) VALUES (?1, ?2)"));
  return insert.bind(1, fingerprint).bind(2, to_string(kind)).run();
}

}  // namespace lm::store

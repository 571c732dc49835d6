// What llm-importer says of an import, as lines of JSON on its standard output. Decoding trusts nothing: the
// other side may be a process that a hostile checkpoint has taken over. How the import ended is its exit
// status, not a line.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/result.h"

namespace lm::wire {

struct ImportProgress {
  Bytes done, total;
  bool operator==(const ImportProgress&) const = default;
};

// The file is whole, and not visible yet.
struct ImportWritten {
  std::string architecture, quantization;
  Bytes size;
  std::vector<std::string> notices;  // what people should know, in sentences
  bool operator==(const ImportWritten&) const = default;
};

// It is visible.
struct Imported {
  bool operator==(const Imported&) const = default;
};

using ImportLine = std::variant<ImportProgress, ImportWritten, Imported, Error>;

// A line without its end. kInvalidArgument: not JSON, a field missing or of a wrong type. Empty optional: of
// a kind that this version does not know.
Result<std::optional<ImportLine>> decode_import_line(std::string_view line);

}  // namespace lm::wire

// How a byte-level tokenizer cuts text into words before it merges, and what the engine calls that.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "json_document.h"

namespace lm::importer {

// The engine's name for the pre_tokenizer of a tokenizer.json, for tokenizer.ggml.pre. `ignores_merges`: a
// word that is a token whole stays whole, which the engine knows by the same name. Errors: kUnimplemented,
// reason unsupported_model, with the steps that nobody knows.
Result<std::string_view> pre_tokenizer_name(const json::value& tokenizer, bool ignores_merges);

}  // namespace lm::importer

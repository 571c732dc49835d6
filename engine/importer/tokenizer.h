// A tokenizer as GGUF holds it, made of the files of a checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint_folder.h"
#include "json_document.h"

namespace lm::importer {

// llama.cpp's own numbers, as tokenizer.ggml.token_type holds them.
enum class TokenKind : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // never made from text
  kUserDefined = 4,  // found in text before everything else
  kUnused = 5,
  kByte = 6,
};

struct Tokenizer {
  std::string
      model;  // "bert" (WordPiece), "gpt2" (byte-level BPE), "llama" (SentencePiece BPE), "t5" (unigram)
  std::string pre;                  // how words are cut; "default" where the model alone says it
  std::vector<std::string> tokens;  // by id, as many as the model has embeddings
  std::vector<TokenKind> kinds;     // one for each token
  std::vector<float> scores;        // one for each token, or none
  std::vector<std::string> merges;  // "a b", the first merged first
  std::string character_map;        // of a unigram's normaliser; may be empty
  std::string chat_template;        // may be empty

  std::optional<std::int64_t> bos, eos, eot, unknown, separator, padding, mask;  // ids of tokens
  std::optional<bool> add_bos, add_eos, add_separator;
  std::optional<bool> space_first, drops_spaces;  // unigram and SentencePiece
  std::optional<bool> lowercase, strip_accents;   // WordPiece
};

// `vocabulary`: how many embeddings the model has; tokens beyond are left out, missing ones are filled with
// unused ones, and `notices` says so. Errors: kInvalidArgument invalid_checkpoint, kUnimplemented
// unsupported_model, io_error. Linear in the files.
Result<Tokenizer> read_tokenizer(const CheckpointFolder& folder, const json::value& config,
                                 std::int64_t vocabulary, std::vector<std::string>& notices);

}  // namespace lm::importer

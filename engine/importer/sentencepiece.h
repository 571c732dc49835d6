// A SentencePiece model (tokenizer.model): a protocol-buffers message, of which the pieces and what the
// trainer and the normaliser were told is read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer.h"

namespace lm::importer {

struct SentencePieces {
  struct Piece {
    std::string text;
    float score = 0;
    TokenKind kind = TokenKind::kNormal;
  };
  std::vector<Piece> pieces;  // by id
  bool unigram = true;        // else BPE
  bool space_first = true;
  bool drops_spaces = true;
  std::string character_map;
  std::int64_t unknown = 0, bos = 1, eos = 2;  // -1: none
};

// Errors: kInvalidArgument invalid_checkpoint, kUnimplemented unsupported_model (words or characters as
// pieces). Linear, allocates in proportion.
Result<SentencePieces> read_sentencepiece(std::string_view bytes);

}  // namespace lm::importer

#include "sentencepiece.h"

#include <bit>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {
namespace {

// One field of a protocol-buffers message: its number, and what it holds as a number or as bytes.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;
  std::string_view bytes;
};

// Walks a message's fields, and knows when it is broken.
class Message {
 public:
  explicit Message(std::string_view bytes) : left_(bytes) {}

  bool broken() const { return broken_; }

  // nullopt at the end and where it is broken.
  std::optional<Field> next() {
    if (left_.empty() || broken_) return std::nullopt;
    Field field;
    const auto tag = variable();
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0:
        field.value = variable();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2: {
        const auto size = variable();
        if (size > left_.size()) broken_ = true;
        if (broken_) return std::nullopt;
        field.bytes = left_.substr(0, size);
        left_.remove_prefix(size);
        break;
      }
      case 5:
        field.value = fixed(4);
        break;
      default:
        broken_ = true;
    }
    return broken_ ? std::nullopt : std::optional(field);
  }

 private:
  std::uint64_t variable() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (left_.empty()) break;
      const auto byte = static_cast<unsigned char>(left_.front());
      left_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    broken_ = true;
    return 0;
  }
  std::uint64_t fixed(std::size_t size) {
    if (left_.size() < size) {
      broken_ = true;
      return 0;
    }
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(left_[i])) << (8 * i);
    left_.remove_prefix(size);
    return value;
  }

  std::string_view left_;
  bool broken_ = false;
};

std::unexpected<Error> damaged() {
  return refuse("tokenizer.model is no SentencePiece model, or damaged");
}

// Numbers of sentencepiece_model.proto: ModelProto.SentencePiece.
Result<SentencePieces::Piece> read_piece(std::string_view bytes) {
  SentencePieces::Piece piece;
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == 1) piece.text = std::string(field->bytes);
    if (field->number == 2) piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
    // Its kinds have the numbers that GGUF's have.
    if (field->number == 3) {
      if (field->value < 1 || field->value > 6) return damaged();
      piece.kind = static_cast<TokenKind>(field->value);
    }
  }
  if (message.broken() || !std::isfinite(piece.score)) return damaged();
  return piece;
}

// TrainerSpec and NormalizerSpec.
Result<void> read_trainer(std::string_view bytes, SentencePieces& out) {
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == 3) {
      if (field->value != 1 && field->value != 2)
        return unsupported("tokenizer.model: only unigram and BPE pieces are imported");
      out.unigram = field->value == 1;
    }
    const auto id = static_cast<std::int64_t>(static_cast<std::int32_t>(field->value));
    if (field->number == 40) out.unknown = id;
    if (field->number == 41) out.bos = id;
    if (field->number == 42) out.eos = id;
  }
  if (message.broken()) return damaged();
  return {};
}

Result<void> read_normalizer(std::string_view bytes, SentencePieces& out) {
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == 2) out.character_map = std::string(field->bytes);
    if (field->number == 3) out.space_first = field->value != 0;
    if (field->number == 4) out.drops_spaces = field->value != 0;
  }
  if (message.broken()) return damaged();
  return {};
}

}  // namespace

Result<SentencePieces> read_sentencepiece(std::string_view bytes) {
  SentencePieces out;
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == 1) {
      LM_TRY(auto piece, read_piece(field->bytes));
      out.pieces.push_back(std::move(piece));
    } else if (field->number == 2) {
      LM_TRY_VOID(read_trainer(field->bytes, out));
    } else if (field->number == 3) {
      LM_TRY_VOID(read_normalizer(field->bytes, out));
    }
  }
  if (message.broken() || out.pieces.empty()) return damaged();
  return out;
}

}  // namespace lm::importer

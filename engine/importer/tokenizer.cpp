#include "tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "pre_tokenizer.h"
#include "refusal.h"
#include "sentencepiece.h"
#include "token_table.h"

namespace lm::importer {
namespace {

// A vocabulary of 256 k tokens with its merges takes some 35 MB.
constexpr JsonLimits kTokenizerLimits = {.bytes = std::size_t{128} << 20, .depth = 16};
constexpr std::size_t kLongestTemplate = std::size_t{1} << 20;
constexpr std::string_view kWordStart = "\u2581";  // SentencePiece's space

// The files that say something of the tokenizer, parsed; null where one is not there.
struct Documents {
  json::value tokenizer;  // tokenizer.json
  json::value settings;   // tokenizer_config.json
  const json::value& config;
};

Result<json::value> parse_if_there(const CheckpointFolder& folder, std::string_view name,
                                   const JsonLimits& limits) {
  if (folder.file(name) == nullptr) return json::value();
  LM_TRY(const auto text, folder.content(name));
  return parse_json(text, name, limits);
}

// Some checkpoints forget to mark as special what no text may make.
bool looks_special(std::string_view text) {
  constexpr auto kPairs = std::to_array<std::pair<std::string_view, std::string_view>>(
      {{"<|", "|>"}, {"<\uff5c", "\uff5c>"}, {"<unused", ">"}});
  if (text == "<pad>" || text == "<mask>") return true;
  return std::ranges::any_of(kPairs, [&](const auto& pair) {
    return text.size() >= pair.first.size() + pair.second.size() && text.starts_with(pair.first) &&
           text.ends_with(pair.second);
  });
}

Result<void> read_added(const json::value& tokenizer, TokenTable& table) {
  const auto* added = array_at(tokenizer, "added_tokens");
  if (added == nullptr) return {};
  for (const auto& each : *added) {
    const auto id = integer_at(each, "id");
    const auto text = text_at(each, "content");
    if (!id || !text) return refuse("tokenizer.json: an added token lacks id or content");
    const bool control = flag_at(each, "special").value_or(false) || looks_special(*text);
    LM_TRY_VOID(table.amend(*id, *text, control ? TokenKind::kControl : TokenKind::kUserDefined));
  }
  return {};
}

// {"text": id, …}
Result<void> read_vocabulary(const json::value& model, TokenTable& table) {
  const auto* vocabulary = object_at(model, "vocab");
  if (vocabulary == nullptr) return refuse("tokenizer.json: its model has no vocab");
  for (const auto& [text, value] : *vocabulary) {
    const auto id = as_integer(value);
    if (!id) return refuse(fmt::format("tokenizer.json: the token {} has no id", in_quotes(text)));
    LM_TRY_VOID(table.add(*id, text, TokenKind::kNormal));
  }
  return {};
}

// Before version 0.20 of the tokenizers library "a b", from then on ["a", "b"], so that parts may have
// spaces.
Result<void> read_merges(const json::value& model, std::vector<std::string>& out) {
  const auto* merges = array_at(model, "merges");
  if (merges == nullptr) return refuse("tokenizer.json: its model has no merges");
  out.reserve(merges->size());
  for (const auto& each : *merges) {
    if (const auto* text = each.if_string()) {
      const auto space = text->find(' ', 1);
      if (space == json::string::npos || space + 1 == text->size())
        return refuse(fmt::format("tokenizer.json: the merge {} has no two parts", in_quotes(*text)));
      out.emplace_back(*text);
      continue;
    }
    const auto* pair = each.if_array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string())
      return refuse("tokenizer.json: a merge is no pair of texts");
    const std::string_view first = (*pair)[0].get_string(), second = (*pair)[1].get_string();
    if (first.empty() || second.empty()) return refuse("tokenizer.json: a merge has an empty part");
    if (first.find(' ') != std::string_view::npos || second.find(' ') != std::string_view::npos)
      return unsupported("tokenizer.json: a merge has a space in it, which GGUF cannot hold");
    out.push_back(fmt::format("{} {}", first, second));
  }
  return {};
}

bool has_step(const json::value* step, std::string_view list, std::string_view type) {
  if (step == nullptr) return false;
  if (text_at(*step, "type") == type) return true;
  const auto* steps = array_at(*step, list);
  return steps != nullptr &&
         std::ranges::any_of(*steps, [&](const auto& each) { return has_step(&each, list, type); });
}

const json::value* find_step(const json::value* step, std::string_view list, std::string_view type) {
  if (step == nullptr) return nullptr;
  if (text_at(*step, "type") == type) return step;
  if (const auto* steps = array_at(*step, list)) {
    for (const auto& each : *steps) {
      if (const auto* found = find_step(&each, list, type)) return found;
    }
  }
  return nullptr;
}

// ---- the four kinds

// GGUF marks the begin of a word where WordPiece marks its continuation.
Result<void> mark_word_starts(const std::string& continuation, Tokenizer& out) {
  std::unordered_set<std::string_view> seen;
  seen.reserve(out.tokens.size());
  for (std::size_t i = 0; i < out.tokens.size(); ++i) {
    auto& token = out.tokens[i];
    if (out.kinds[i] == TokenKind::kNormal || out.kinds[i] == TokenKind::kUserDefined) {
      if (token.size() > continuation.size() && token.starts_with(continuation)) {
        token.erase(0, continuation.size());
      } else {
        token.insert(0, kWordStart);
      }
    }
  }
  for (const auto& token : out.tokens) {
    if (!seen.insert(token).second)
      return refuse(fmt::format("its tokens {} cannot be told apart in GGUF", in_quotes(token)));
  }
  return {};
}

Result<void> read_word_piece(const json::value& tokenizer, const json::value& model, TokenTable& table,
                             Tokenizer& out) {
  LM_TRY_VOID(read_vocabulary(model, table));
  LM_TRY_VOID(read_added(tokenizer, table));
  out.model = "bert";
  const auto* normalizer = find_step(member(tokenizer, "normalizer"), "normalizers", "BertNormalizer");
  if (normalizer == nullptr)
    return unsupported("tokenizer.json: WordPiece without a BertNormalizer is not imported");
  if (!flag_at(*normalizer, "clean_text").value_or(true) ||
      !flag_at(*normalizer, "handle_chinese_chars").value_or(true))
    return unsupported(
        "tokenizer.json: the engine always cleans text and parts Chinese characters; this BertNormalizer "
        "does not");
  out.lowercase = flag_at(*normalizer, "lowercase").value_or(true);
  out.strip_accents = flag_at(*normalizer, "strip_accents").value_or(*out.lowercase);
  if (!has_step(member(tokenizer, "pre_tokenizer"), "pretokenizers", "BertPreTokenizer"))
    return unsupported("tokenizer.json: WordPiece without a BertPreTokenizer is not imported");
  const std::string continuation(text_at(model, "continuing_subword_prefix").value_or("##"));
  table.finish(out, false);
  return mark_word_starts(continuation, out);
}

// A merge that makes no token is none that the tokenizer was trained with: text would fall into other tokens.
Result<void> check_merges(const std::vector<std::string>& merges, const TokenTable& table) {
  if (table.left_out() > 0) return {};  // it may be one of those
  for (const auto& merge : merges) {
    const auto space = merge.find(' ', 1);
    const auto first = merge.substr(0, space), second = merge.substr(space + 1);
    for (const auto& token : {first, second, first + second}) {
      if (!table.id_of(token))
        return refuse(
            fmt::format("tokenizer.json: the merge {} has no token {}", in_quotes(merge), in_quotes(token)));
    }
  }
  return {};
}

Result<void> read_byte_level(const json::value& tokenizer, const json::value& model, TokenTable& table,
                             Tokenizer& out) {
  LM_TRY_VOID(read_vocabulary(model, table));
  LM_TRY_VOID(read_added(tokenizer, table));
  LM_TRY_VOID(read_merges(model, out.merges));
  LM_TRY_VOID(check_merges(out.merges, table));
  LM_TRY(const auto pre, pre_tokenizer_name(tokenizer, flag_at(model, "ignore_merges").value_or(false)));
  out.model = "gpt2";
  out.pre = std::string(pre);
  table.finish(out, false);
  return {};
}

// "<0x0A>"
bool is_byte(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
         std::ranges::all_of(text.substr(3, 2),
                             [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); });
}

// A space before the text: said by the normaliser in older files, by Metaspace in newer ones.
bool puts_space_first(const json::value& tokenizer) {
  if (has_step(member(tokenizer, "normalizer"), "normalizers", "Prepend")) return true;
  const auto* metaspace = find_step(member(tokenizer, "pre_tokenizer"), "pretokenizers", "Metaspace");
  if (metaspace == nullptr) return false;
  if (const auto scheme = text_at(*metaspace, "prepend_scheme")) return *scheme != "never";
  return flag_at(*metaspace, "add_prefix_space").value_or(true);
}

// SentencePiece's BPE merges what makes the best token; its score is the rank of the first merge that makes
// it.
Result<void> read_sentencepiece_bpe(const json::value& tokenizer, const json::value& model, TokenTable& table,
                                    Tokenizer& out) {
  LM_TRY_VOID(read_vocabulary(model, table));
  std::vector<std::string> merges;
  LM_TRY_VOID(read_merges(model, merges));
  std::vector<bool> scored(static_cast<std::size_t>(table.size()));
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto space = merges[rank].find(' ', 1);
    const auto whole = merges[rank].substr(0, space) + merges[rank].substr(space + 1);
    const auto id = table.id_of(whole);
    if (!id)
      return refuse(fmt::format("tokenizer.json: the merge {} makes no token", in_quotes(merges[rank])));
    if (scored[static_cast<std::size_t>(*id)]) continue;
    scored[static_cast<std::size_t>(*id)] = true;
    table.set_score(*id, -static_cast<float>(rank));
  }
  for (std::int64_t id = 0; id < table.size(); ++id) {
    if (table.has(id) && is_byte(table.text_of(id)))
      LM_TRY_VOID(table.amend(id, table.text_of(id), TokenKind::kByte));
  }
  LM_TRY_VOID(read_added(tokenizer, table));
  if (const auto unknown = text_at(model, "unk_token")) {
    if (const auto id = table.id_of(*unknown)) LM_TRY_VOID(table.amend(*id, *unknown, TokenKind::kUnknown));
  }
  out.model = "llama";
  out.space_first = puts_space_first(tokenizer);
  table.finish(out, true);
  return {};
}

Result<std::string> decode_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve(text.size() / 4 * 3);
  unsigned bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const auto digit = kDigits.find(c);
    if (digit == std::string_view::npos) return refuse("tokenizer.json: precompiled_charsmap is no base64");
    bits = (bits << 6 | static_cast<unsigned>(digit)) & 0xffffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xff);
    }
  }
  return out;
}

Result<void> read_unigram(const json::value& tokenizer, const json::value& model, TokenTable& table,
                          Tokenizer& out) {
  const auto* vocabulary = array_at(model, "vocab");
  if (vocabulary == nullptr) return refuse("tokenizer.json: its model has no vocab");
  std::int64_t id = 0;
  for (const auto& each : *vocabulary) {
    const auto* pair = each.if_array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_number())
      return refuse(fmt::format("tokenizer.json: the token {} is no text with a score", id));
    const auto score = (*pair)[1].to_number<double>();
    if (!std::isfinite(score)) return refuse(fmt::format("tokenizer.json: the token {} has no score", id));
    LM_TRY_VOID(table.add(id++, (*pair)[0].get_string(), TokenKind::kNormal, static_cast<float>(score)));
  }
  LM_TRY_VOID(read_added(tokenizer, table));
  if (const auto unknown = integer_at(model, "unk_id"); unknown && table.has(*unknown)) {
    LM_TRY_VOID(table.amend(*unknown, table.text_of(*unknown), TokenKind::kUnknown));
    out.unknown = *unknown;
  }
  out.model = "t5";
  out.space_first = puts_space_first(tokenizer);
  out.drops_spaces = has_step(member(tokenizer, "pre_tokenizer"), "pretokenizers", "WhitespaceSplit") ||
                     has_step(member(tokenizer, "normalizer"), "normalizers", "Replace");
  if (const auto* map = find_step(member(tokenizer, "normalizer"), "normalizers", "Precompiled")) {
    LM_TRY(out.character_map, decode_base64(text_at(*map, "precompiled_charsmap").value_or("")));
  }
  table.finish(out, true);
  return {};
}

// ---- special tokens

// "bos_token": "<s>", or {"content": "<s>", …}.
std::optional<std::string_view> special_text(const json::value& settings, std::string_view key) {
  if (const auto text = text_at(settings, key)) return text;
  const auto* token = member(settings, key);
  return token == nullptr ? std::nullopt : text_at(*token, "content");
}

// The token that a template puts before and after a text, if any.
struct Frame {
  std::optional<std::string> first, last;
  bool known = false;  // the tokenizer says it
};

Frame frame_of(const json::value& tokenizer) {
  const auto* processor = member(tokenizer, "post_processor");
  Frame frame;
  if (const auto* step = find_step(processor, "processors", "TemplateProcessing")) {
    frame.known = true;
    const auto* single = array_at(*step, "single");
    if (single == nullptr || single->size() < 2) return frame;
    const auto special = [](const json::value& piece) -> std::optional<std::string> {
      const auto* token = member(piece, "SpecialToken");
      const auto id = token == nullptr ? std::nullopt : text_at(*token, "id");
      return id ? std::optional<std::string>(*id) : std::nullopt;
    };
    frame.first = special(single->front());
    frame.last = special(single->back());
    return frame;
  }
  for (const auto* type : {"BertProcessing", "RobertaProcessing"}) {
    if (const auto* step = find_step(processor, "processors", type)) {
      const auto token = [&](std::string_view key) -> std::optional<std::string> {
        const auto* pair = array_at(*step, key);
        if (pair == nullptr || pair->empty() || !pair->front().is_string()) return std::nullopt;
        return std::string(pair->front().get_string());
      };
      return {.first = token("cls"), .last = token("sep"), .known = true};
    }
  }
  return frame;
}

// The first of an id or of a list of ids.
std::vector<std::int64_t> ids_at(const json::value& config, std::string_view key) {
  std::vector<std::int64_t> out;
  const auto* there = member(config, key);
  if (there == nullptr) return out;
  if (const auto* list = there->if_array()) {
    for (const auto& each : *list) {
      if (const auto id = as_integer(each)) out.push_back(*id);
    }
  } else if (const auto id = as_integer(*there)) {
    out.push_back(*id);
  }
  return out;
}

// What begins, ends and fills a text, from the settings, the template and the model's own numbers, in this
// order.
void read_specials(const Documents& documents, const json::value& generation, const TokenTable& table,
                   Tokenizer& out) {
  const auto by_text = [&](std::optional<std::string_view> text) {
    return text ? table.id_of(*text) : std::nullopt;
  };
  const auto by_name = [&](std::string_view key) { return by_text(special_text(documents.settings, key)); };
  // The table's tokens are in `out` by now.
  const auto known = [&](std::int64_t id) {
    return id >= 0 && id < std::ssize(out.kinds) &&
           out.kinds[static_cast<std::size_t>(id)] != TokenKind::kUnused;
  };
  const auto by_number = [&](std::string_view key) -> std::optional<std::int64_t> {
    for (const auto* source : {&generation, &documents.config}) {
      for (const auto id : ids_at(*source, key)) {
        if (known(id)) return id;
      }
    }
    return std::nullopt;
  };
  const auto first = [](auto... each) {
    std::optional<std::int64_t> found;
    ((found ? void() : void(found = each)), ...);
    return found;
  };

  const auto frame = frame_of(documents.tokenizer);
  out.bos =
      first(by_text(frame.first), by_name("bos_token"), by_name("cls_token"), by_number("bos_token_id"));
  const auto ends = first(by_name("eos_token"), by_name("sep_token"), by_number("eos_token_id"));
  out.eos = first(by_text(frame.last), ends);
  // A text that is embedded ends with one token, a turn of a conversation with another.
  if (out.eos != ends) out.eot = ends;
  if (!out.eot) {
    for (const auto id : ids_at(generation, "eos_token_id")) {
      if (!out.eot && known(id) && id != out.eos) out.eot = id;
    }
  }
  const auto* model = member(documents.tokenizer, "model");
  out.unknown = first(by_name("unk_token"), out.unknown,
                      by_text(model == nullptr ? std::nullopt : text_at(*model, "unk_token")));
  out.separator = first(by_name("sep_token"), out.model == "bert" ? by_text(frame.last) : std::nullopt);
  out.padding = first(by_name("pad_token"), by_number("pad_token_id"));
  out.mask = by_name("mask_token");

  out.add_bos = frame.known ? frame.first.has_value()
                            : flag_at(documents.settings, "add_bos_token").value_or(out.model == "llama");
  out.add_eos =
      frame.known ? frame.last.has_value() : flag_at(documents.settings, "add_eos_token").value_or(false);
}

// A text that cannot be begun or ended as the tokenizer says would end the engine.
Result<void> check_specials(const Tokenizer& out) {
  if (out.add_bos.value_or(false) && !out.bos)
    return refuse("its tokenizer begins texts with a token that it does not have");
  if (out.add_eos.value_or(false) && !out.eos)
    return refuse("its tokenizer ends texts with a token that it does not have");
  if (out.model == "bert" && (!out.bos || !out.separator || !out.unknown))
    return refuse("its WordPiece tokenizer has no [CLS], [SEP] or [UNK]");
  return {};
}

Result<void> read_template(const CheckpointFolder& folder, const json::value& settings, Tokenizer& out) {
  LM_TRY(const auto file, folder.content("chat_template.jinja"));
  std::string_view found = file;
  if (found.empty()) {
    if (const auto text = text_at(settings, "chat_template")) found = *text;
    // Several by name: the one for plain conversations.
    if (const auto* named = array_at(settings, "chat_template")) {
      for (const auto& each : *named) {
        if (text_at(each, "name") == "default") found = text_at(each, "template").value_or("");
      }
    }
  }
  if (found.size() > kLongestTemplate || found.find('\0') != std::string_view::npos)
    return refuse("its chat template is too long");
  out.chat_template = std::string(found);
  return {};
}

// ---- where there is no tokenizer.json

Result<void> read_added_decoder(const json::value& settings, TokenTable& table) {
  const auto* added = object_at(settings, "added_tokens_decoder");
  if (added == nullptr) return {};
  for (const auto& [key, value] : *added) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const auto text = text_at(value, "content");
    if (error != std::errc() || end != key.data() + key.size() || !text)
      return refuse("tokenizer_config.json: an added token lacks id or content");
    const bool control = flag_at(value, "special").value_or(false) || looks_special(*text);
    LM_TRY_VOID(table.amend(id, *text, control ? TokenKind::kControl : TokenKind::kUserDefined));
  }
  return {};
}

Result<void> read_pieces(std::string_view bytes, const json::value& settings, TokenTable& table,
                         Tokenizer& out) {
  LM_TRY(const auto pieces, read_sentencepiece(bytes));
  std::int64_t id = 0;
  for (const auto& piece : pieces.pieces) LM_TRY_VOID(table.add(id++, piece.text, piece.kind, piece.score));
  LM_TRY_VOID(read_added_decoder(settings, table));
  out.model = pieces.unigram ? "t5" : "llama";
  out.space_first = pieces.space_first;
  if (pieces.unigram) out.drops_spaces = pieces.drops_spaces;
  out.character_map = pieces.unigram ? pieces.character_map : std::string();
  if (table.has(pieces.bos)) out.bos = pieces.bos;
  if (table.has(pieces.eos)) out.eos = pieces.eos;
  if (table.has(pieces.unknown)) out.unknown = pieces.unknown;
  table.finish(out, true);
  return {};
}

Result<void> read_word_list(std::string_view text, const json::value& settings, TokenTable& table,
                            Tokenizer& out) {
  if (text.size() > kTokenizerLimits.bytes) return refuse("vocab.txt is too long");
  std::int64_t id = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool special = line.size() > 2 && line.starts_with('[') && line.ends_with(']');
    LM_TRY_VOID(table.add(id++, line, special ? TokenKind::kControl : TokenKind::kNormal));
  }
  out.model = "bert";
  out.lowercase = flag_at(settings, "do_lower_case").value_or(true);
  out.strip_accents = flag_at(settings, "strip_accents").value_or(*out.lowercase);
  table.finish(out, false);
  return mark_word_starts("##", out);
}

Result<void> read_model(const CheckpointFolder& folder, const Documents& documents, TokenTable& table,
                        Tokenizer& out) {
  out.pre = "default";
  if (documents.tokenizer.is_null()) {
    if (folder.file("tokenizer.model") != nullptr) {
      LM_TRY(const auto bytes, folder.content("tokenizer.model"));
      return read_pieces(bytes, documents.settings, table, out);
    }
    if (folder.file("vocab.txt") != nullptr) {
      LM_TRY(const auto text, folder.content("vocab.txt"));
      return read_word_list(text, documents.settings, table, out);
    }
    return refuse("it has none of tokenizer.json, tokenizer.model and vocab.txt");
  }
  const auto& tokenizer = documents.tokenizer;
  const auto* model = member(tokenizer, "model");
  if (model == nullptr) return refuse("tokenizer.json has no model");
  const auto type = text_at(*model, "type").value_or("");
  if (type == "WordPiece") return read_word_piece(tokenizer, *model, table, out);
  if (type == "Unigram") return read_unigram(tokenizer, *model, table, out);
  if (type == "BPE") {
    if (has_step(member(tokenizer, "pre_tokenizer"), "pretokenizers", "ByteLevel"))
      return read_byte_level(tokenizer, *model, table, out);
    return read_sentencepiece_bpe(tokenizer, *model, table, out);
  }
  return unsupported(
      fmt::format("tokenizer.json: a model of the type {} is not imported; WordPiece, BPE and Unigram are",
                  in_quotes(type)));
}

}  // namespace

Result<Tokenizer> read_tokenizer(const CheckpointFolder& folder, const json::value& config,
                                 std::int64_t vocabulary, std::vector<std::string>& notices) {
  Documents documents{.tokenizer = {}, .settings = {}, .config = config};
  LM_TRY(documents.tokenizer, parse_if_there(folder, "tokenizer.json", kTokenizerLimits));
  LM_TRY(documents.settings,
         parse_if_there(folder, "tokenizer_config.json", {.bytes = std::size_t{16} << 20}));
  LM_TRY(const auto generation, parse_if_there(folder, "generation_config.json", {}));

  Tokenizer out;
  TokenTable table(vocabulary);
  LM_TRY_VOID(read_model(folder, documents, table, out));
  if (table.left_out() > 0) {
    notices.push_back(
        fmt::format("{} tokens of the tokenizer have no embedding and were left out", table.left_out()));
  }
  read_specials(documents, generation, table, out);
  LM_TRY_VOID(check_specials(out));
  LM_TRY_VOID(read_template(folder, documents.settings, out));
  return out;
}

}  // namespace lm::importer

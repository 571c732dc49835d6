// Asks the engine about one model, for tests that compare it with others' arithmetic: what a text is cut
// into, and what the model computes for tokens, in the highest precision that the engine has.
//
//   model_probe MODEL.gguf    reads one order a line, answers each with a line of JSON
//     tokens HEX              the text's bytes in hexadecimal; special tokens in it are tokens  → [id, …]
//     text HEX                the same, begun and ended as the model's texts are                 → [id, …]
//     logits ID…              of the last token                                                  → [number,
//     …] vector ID…              pooled as the model says, not normalised                           →
//     [number, …]
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <llama.h>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace {

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "model_probe: %s\n", why.c_str());
  std::exit(1);
}

std::string from_hex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    unsigned byte = 0;
    if (std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16).ec != std::errc())
      stop("no hexadecimal: " + hex);
    out += static_cast<char>(byte);
  }
  return out;
}

std::vector<llama_token> cut(const llama_vocab* vocabulary, const std::string& text, bool framed) {
  std::vector<llama_token> tokens(text.size() + 8);
  const auto count = llama_tokenize(vocabulary, text.data(), static_cast<std::int32_t>(text.size()),
                                    tokens.data(), static_cast<std::int32_t>(tokens.size()), framed, true);
  if (count < 0) stop("more tokens than bytes");
  tokens.resize(static_cast<std::size_t>(count));
  return tokens;
}

std::vector<float> compute(llama_model* model, std::vector<llama_token> tokens, bool pooled) {
  auto params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch =
      static_cast<std::uint32_t>(std::max<std::size_t>(tokens.size(), 32));
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.embeddings = pooled;
  params.n_threads = params.n_threads_batch = 2;
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(llama_init_from_model(model, params),
                                                                      llama_free);
  if (!context) stop("no context");
  auto batch = llama_batch_get_one(tokens.data(), static_cast<std::int32_t>(tokens.size()));
  const int failed = llama_model_has_encoder(model) || !llama_get_memory(context.get())
                         ? llama_encode(context.get(), batch)
                         : llama_decode(context.get(), batch);
  if (failed != 0) stop(fmt::format("the engine refused the tokens: {}", failed));
  const auto count = pooled ? llama_model_n_embd(model) : llama_vocab_n_tokens(llama_model_get_vocab(model));
  const float* values =
      pooled ? llama_get_embeddings_seq(context.get(), 0) : llama_get_logits_ith(context.get(), -1);
  if (values == nullptr) stop("the engine has no result");
  return {values, values + count};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) stop("model_probe MODEL.gguf");
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(argv[1], llama_model_default_params()), llama_model_free);
  if (!model) stop(std::string(argv[1]) + " cannot be loaded");
  const auto* vocabulary = llama_model_get_vocab(model.get());

  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string order;
    words >> order;
    if (order == "tokens" || order == "text") {
      std::string hex;
      words >> hex;
      fmt::print("[{}]\n", fmt::join(cut(vocabulary, from_hex(hex), order == "text"), ","));
    } else if (order == "logits" || order == "vector") {
      std::vector<llama_token> tokens;
      for (llama_token token = 0; words >> token;) tokens.push_back(token);
      fmt::print("[{}]\n", fmt::join(compute(model.get(), std::move(tokens), order == "vector"), ","));
    } else {
      stop("what is '" + order + "'?");
    }
    std::fflush(stdout);
  }
  return 0;
}

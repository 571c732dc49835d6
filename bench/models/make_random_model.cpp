// make-random-model: writes a GGUF of any shape with random weights and a real vocabulary. For benchmarks and
// tests that need a model's cost, not its sense. The same seed writes the same bytes.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <ggml.h>
#include <gguf.h>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr const char* kHelp =
    "make-random-model --vocab VOCAB.gguf --out MODEL.gguf [options]: a model with random weights\n"
    "  --arch NAME     llama, qwen2, qwen3, gemma2 (generation), bert (embedding); default llama\n"
    "  --window N      of gemma2: tokens that every second layer looks back; default 64\n"
    "  --rerank        a bert with a classification head instead of an embedding\n"
    "  --layers N      default 2        --embd N      default 64       --ff N     default 4 * embd\n"
    "  --heads N       default 4        --kv-heads N  default heads    --head N   size of a head, default "
    "embd / heads\n"
    "  --context N     default 2048     --type NAME   f32, f16, bf16, q8_0, q4_0, …; default q8_0\n"
    "  --seed N        default 1        --name TEXT   general.name     --template FILE  chat template, "
    "default ChatML\n";

constexpr const char* kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct Shape {
  std::string vocab, out, arch = "llama", type = "q8_0", name = "random", template_file;
  std::int64_t layers = 2, embd = 64, ff = 0, heads = 4, kv_heads = 0, head = 0, context = 2048, window = 64;
  std::uint64_t seed = 1;
  bool rerank = false;
};

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "make-random-model: %s\n", why.c_str());
  std::exit(1);
}

// SplitMix64: a stream from any seed, cheap, and every tensor has its own, so that they can be made side by
// side.
struct Random {
  std::uint64_t state;
  std::uint64_t next() {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Even, with variance 1.
  float value() { return (static_cast<float>(next() >> 40) / float{1 << 24} - 0.5f) * 3.4641016f; }
};

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  ggml_type type;
  enum class Fill { kRandom, kOne, kZero } fill;
};

std::vector<Tensor> tensors_of(const Shape& s, std::int64_t vocabulary, ggml_type type) {
  using Fill = Tensor::Fill;
  std::vector<Tensor> out;
  const auto matrix = [&](std::string name, std::int64_t in, std::int64_t rows) {
    // Rows that are no whole blocks stay in half precision, as quantizers do it.
    const auto fits = in % ggml_blck_size(type) == 0 ? type : GGML_TYPE_F16;
    out.push_back({std::move(name), {in, rows}, fits, Fill::kRandom});
  };
  const auto vector = [&](std::string name, std::int64_t n, Fill fill) {
    out.push_back({std::move(name), {n}, GGML_TYPE_F32, fill});
  };
  const auto q = s.heads * s.head, kv = s.kv_heads * s.head;

  matrix("token_embd.weight", s.embd, vocabulary);
  if (s.arch == "bert") {
    out.push_back({"token_types.weight", {s.embd, 2}, GGML_TYPE_F32, Fill::kRandom});
    out.push_back({"position_embd.weight", {s.embd, s.context}, GGML_TYPE_F32, Fill::kRandom});
    vector("token_embd_norm.weight", s.embd, Fill::kOne);
    vector("token_embd_norm.bias", s.embd, Fill::kZero);
    if (s.rerank) {
      matrix("cls.weight", s.embd, s.embd);
      vector("cls.bias", s.embd, Fill::kZero);
      out.push_back({"cls.output.weight", {s.embd, 1}, GGML_TYPE_F32, Fill::kRandom});
      vector("cls.output.bias", 1, Fill::kZero);
    }
  } else {
    vector("output_norm.weight", s.embd, Fill::kOne);
  }
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const auto in_layer = [&](const char* name) { return "blk." + std::to_string(i) + "." + name; };
    matrix(in_layer("attn_q.weight"), s.embd, q);
    matrix(in_layer("attn_k.weight"), s.embd, kv);
    matrix(in_layer("attn_v.weight"), s.embd, kv);
    matrix(in_layer("attn_output.weight"), q, s.embd);
    matrix(in_layer("ffn_up.weight"), s.embd, s.ff);
    matrix(in_layer("ffn_down.weight"), s.ff, s.embd);
    if (s.arch == "bert") {
      for (const char* norm : {"attn_output_norm", "layer_output_norm"}) {
        vector(in_layer(norm) + ".weight", s.embd, Fill::kOne);
        vector(in_layer(norm) + ".bias", s.embd, Fill::kZero);
      }
      continue;
    }
    matrix(in_layer("ffn_gate.weight"), s.embd, s.ff);
    vector(in_layer("attn_norm.weight"), s.embd, Fill::kOne);
    vector(in_layer("ffn_norm.weight"), s.embd, Fill::kOne);
    if (s.arch == "qwen2") {
      vector(in_layer("attn_q.bias"), q, Fill::kZero);
      vector(in_layer("attn_k.bias"), kv, Fill::kZero);
      vector(in_layer("attn_v.bias"), kv, Fill::kZero);
    }
    if (s.arch == "gemma2") {
      vector(in_layer("post_attention_norm.weight"), s.embd, Fill::kOne);
      vector(in_layer("post_ffw_norm.weight"), s.embd, Fill::kOne);
    }
    if (s.arch == "qwen3") {
      vector(in_layer("attn_q_norm.weight"), s.head, Fill::kOne);
      vector(in_layer("attn_k_norm.weight"), s.head, Fill::kOne);
    }
  }
  return out;
}

void fill(const Tensor& tensor, std::uint64_t seed, void* data) {
  const std::int64_t row = tensor.shape.front();
  const std::int64_t rows = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
  if (tensor.fill != Tensor::Fill::kRandom) {
    std::fill_n(static_cast<float*>(data), row, tensor.fill == Tensor::Fill::kOne ? 1.0f : 0.0f);
    return;
  }
  // Keeps the size of what flows through a layer, as a trained model's weights do.
  const float scale = 0.5f / std::sqrt(static_cast<float>(row));
  const auto row_bytes = ggml_row_size(tensor.type, row);
  // Rows repeat after a while: as random to the engine, and a tenth of the time to make.
  const auto distinct = std::min<std::int64_t>(rows, 512);
  std::vector<float> values(static_cast<std::size_t>(row));
  Random random{seed ^ hash_of(tensor.name)};
  auto* bytes = static_cast<char*>(data);
  for (std::int64_t r = 0; r < distinct; ++r) {
    for (auto& value : values) value = random.value() * scale;
    ggml_quantize_chunk(tensor.type, values.data(), bytes + row_bytes * r, 0, 1, row, nullptr);
  }
  for (std::int64_t r = distinct; r < rows; ++r) {
    std::memcpy(bytes + row_bytes * r,
                bytes + row_bytes * (random.next() % static_cast<std::uint64_t>(distinct)), row_bytes);
  }
}

ggml_type type_named(const std::string& name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    if (ggml_type_size(type) > 0 && name == ggml_type_name(type)) return type;
  }
  stop("--type " + name + " is no type of ggml's");
}

std::string contents(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) stop(path + " cannot be read");
  std::string text;
  std::array<char, 4096> part{};
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), file)) > 0;)
    text.append(part.data(), n);
  std::fclose(file);
  return text;
}

Shape arguments(int argc, char** argv) {
  Shape s;
  const std::map<std::string, std::string*> texts = {{"--vocab", &s.vocab}, {"--out", &s.out},
                                                     {"--arch", &s.arch},   {"--type", &s.type},
                                                     {"--name", &s.name},   {"--template", &s.template_file}};
  const std::map<std::string, std::int64_t*> numbers = {
      {"--layers", &s.layers},     {"--embd", &s.embd}, {"--ff", &s.ff},           {"--heads", &s.heads},
      {"--kv-heads", &s.kv_heads}, {"--head", &s.head}, {"--context", &s.context}, {"--window", &s.window}};
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--help") {
      std::fputs(kHelp, stdout);
      std::exit(0);
    }
    if (key == "--rerank") {
      s.rerank = true;
      continue;
    }
    if (i + 1 >= argc) stop(key + " needs a value; see --help");
    const std::string value = argv[++i];
    if (const auto text = texts.find(key); text != texts.end()) {
      *text->second = value;
    } else if (const auto number = numbers.find(key); number != numbers.end()) {
      *number->second = std::atoll(value.c_str());
      if (*number->second < 1 || *number->second > 1 << 24) stop(key + " " + value + " is out of its range");
    } else if (key == "--seed") {
      s.seed = std::strtoull(value.c_str(), nullptr, 10);
    } else {
      stop("what is " + key + "? See --help");
    }
  }
  if (s.vocab.empty() || s.out.empty()) stop("--vocab and --out are needed; see --help");
  if (s.arch != "llama" && s.arch != "qwen2" && s.arch != "qwen3" && s.arch != "gemma2" && s.arch != "bert")
    stop("--arch " + s.arch + " is not known");
  if (s.ff == 0) s.ff = 4 * s.embd;
  if (s.kv_heads == 0) s.kv_heads = s.heads;
  if (s.head == 0) s.head = s.embd / s.heads;
  if (s.heads % s.kv_heads != 0) stop("--heads must be a multiple of --kv-heads");
  return s;
}

void describe(gguf_context* out, const gguf_context* vocab, const Shape& s) {
  gguf_set_kv(out, vocab);
  // The vocabulary file's own shape would contradict ours.
  std::vector<std::string> foreign;
  for (std::int64_t i = 0; i < gguf_get_n_kv(out); ++i) {
    const std::string key = gguf_get_key(out, i);
    if (!key.starts_with("tokenizer.")) foreign.push_back(key);
  }
  for (const auto& key : foreign) gguf_remove_key(out, key.c_str());

  const auto set = [&](const char* key, std::int64_t value) {
    gguf_set_val_u32(out, (s.arch + "." + key).c_str(), static_cast<std::uint32_t>(value));
  };
  gguf_set_val_str(out, "general.architecture", s.arch.c_str());
  gguf_set_val_str(out, "general.name", s.name.c_str());
  set("block_count", s.layers);
  set("context_length", s.context);
  set("embedding_length", s.embd);
  set("feed_forward_length", s.ff);
  set("attention.head_count", s.heads);
  if (s.arch == "bert") {
    gguf_set_val_f32(out, "bert.attention.layer_norm_epsilon", 1e-12f);
    gguf_set_val_bool(out, "bert.attention.causal", false);
    set("pooling_type", s.rerank ? 4 : 1);
    gguf_set_val_u32(out, "tokenizer.ggml.token_type_count", 2);
    return;
  }
  set("attention.head_count_kv", s.kv_heads);
  set("attention.key_length", s.head);
  set("attention.value_length", s.head);
  set("rope.dimension_count", s.head);
  if (s.arch == "gemma2") set("attention.sliding_window", s.window);
  gguf_set_val_f32(out, (s.arch + ".attention.layer_norm_rms_epsilon").c_str(), 1e-6f);
  gguf_set_val_f32(out, (s.arch + ".rope.freq_base").c_str(), 1e6f);
  const std::string chat = s.template_file.empty() ? std::string(kChatMl) : contents(s.template_file);
  gguf_set_val_str(out, "tokenizer.chat_template", chat.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const Shape shape = arguments(argc, argv);
  const ggml_type type = type_named(shape.type);
  using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
  const Gguf vocab(gguf_init_from_file(shape.vocab.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  if (!vocab) stop(shape.vocab + " is no GGUF file");
  const auto tokens = gguf_find_key(vocab.get(), "tokenizer.ggml.tokens");
  if (tokens < 0) stop(shape.vocab + " has no vocabulary");
  const auto vocabulary = static_cast<std::int64_t>(gguf_get_arr_n(vocab.get(), tokens));

  const Gguf out(gguf_init_empty(), gguf_free);
  describe(out.get(), vocab.get(), shape);

  const auto tensors = tensors_of(shape, vocabulary, type);
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = ggml_tensor_overhead() * (tensors.size() + 1),
                 .mem_buffer = nullptr,
                 .no_alloc = true}),
      ggml_free);
  std::vector<std::unique_ptr<char[]>> data(tensors.size());
  std::vector<std::size_t> order(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& t = tensors[i];
    ggml_tensor* tensor = t.shape.size() > 1
                              ? ggml_new_tensor_2d(context.get(), t.type, t.shape[0], t.shape[1])
                              : ggml_new_tensor_1d(context.get(), t.type, t.shape[0]);
    ggml_set_name(tensor, t.name.c_str());
    data[i] = std::make_unique<char[]>(ggml_nbytes(tensor));
    tensor->data = data[i].get();
    gguf_add_tensor(out.get(), tensor);
    order[i] = i;
  }

  ggml_quantize_init(type);
  std::vector<std::thread> threads;
  const std::size_t parallel = std::max(1u, std::thread::hardware_concurrency());
  for (std::size_t k = 0; k < parallel; ++k) {
    threads.emplace_back([&, k] {
      for (std::size_t i = k; i < tensors.size(); i += parallel)
        fill(tensors[order[i]], shape.seed, data[i].get());
    });
  }
  for (auto& thread : threads) thread.join();

  // Whole or not at all, also when interrupted.
  const std::string partial = shape.out + ".partial";
  if (!gguf_write_to_file(out.get(), partial.c_str(), false) ||
      std::rename(partial.c_str(), shape.out.c_str()) != 0) {
    std::remove(partial.c_str());
    stop(shape.out + " cannot be written");
  }
  return 0;
}

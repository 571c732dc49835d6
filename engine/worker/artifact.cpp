#include "artifact.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
extern "C" {
#include <hash/sha256/sha256.h>
}
#include <ggml.h>

namespace lm::worker {
namespace {

// The largest metadata of today (a vocabulary of 256 k tokens with merges) is some 16 MB.
constexpr std::uint64_t kMostMetadata = std::uint64_t{256} << 20;
constexpr int kMostParts = 1'000;
constexpr std::uint64_t kFingerprinted = std::uint64_t{1} << 20;

std::unexpected<Error> cannot_open(const std::filesystem::path& path, int error) {
  const auto code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound
                    : error == EACCES || error == EPERM ? ErrorCode::kPermissionDenied
                                                        : ErrorCode::kUnavailable;
  return fail(code,
              fmt::format("{} cannot be read: {}", path.string(), std::generic_category().message(error)),
              "io_error");
}

// NAME-00001-of-00005.gguf: the number and the count, written with five digits.
struct PartName {
  std::string prefix;
  int number = 0;
  int count = 0;
};

std::optional<PartName> part_name(const std::string& name) {
  constexpr std::size_t kTail = std::string_view("-00001-of-00001.gguf").size();
  if (name.size() <= kTail) return std::nullopt;
  const auto tail = std::string_view(name).substr(name.size() - kTail);
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf") return std::nullopt;
  PartName part{.prefix = name.substr(0, name.size() - kTail)};
  const auto number = [](std::string_view digits, int& n) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
    return error == std::errc() && end == digits.data() + digits.size() && n >= 1;
  };
  if (!number(tail.substr(1, 5), part.number) || !number(tail.substr(10, 5), part.count)) return std::nullopt;
  return part;
}

std::string_view pooling_name(std::int64_t type) {
  constexpr std::array<std::string_view, 5> kNames = {"none", "mean", "cls", "last", "rank"};
  return type >= 0 && type < std::ssize(kNames) ? kNames[static_cast<std::size_t>(type)] : std::string_view();
}

// llama_ftype's names, as people know them.
std::string quantization_name(std::int64_t file_type) {
  struct Name {
    std::int64_t type;
    std::string_view name;
  };
  constexpr std::array kNames = {
      Name{0, "F32"},      Name{1, "F16"},      Name{2, "Q4_0"},    Name{3, "Q4_1"},    Name{7, "Q8_0"},
      Name{8, "Q5_0"},     Name{9, "Q5_1"},     Name{10, "Q2_K"},   Name{11, "Q3_K_S"}, Name{12, "Q3_K_M"},
      Name{13, "Q3_K_L"},  Name{14, "Q4_K_S"},  Name{15, "Q4_K_M"}, Name{16, "Q5_K_S"}, Name{17, "Q5_K_M"},
      Name{18, "Q6_K"},    Name{19, "IQ2_XXS"}, Name{20, "IQ2_XS"}, Name{21, "Q2_K_S"}, Name{22, "IQ3_XS"},
      Name{23, "IQ3_XXS"}, Name{24, "IQ1_S"},   Name{25, "IQ4_NL"}, Name{26, "IQ3_S"},  Name{27, "IQ3_M"},
      Name{28, "IQ2_S"},   Name{29, "IQ2_M"},   Name{30, "IQ4_XS"}, Name{31, "IQ1_M"},  Name{32, "BF16"},
      Name{36, "TQ1_0"},   Name{37, "TQ2_0"},   Name{38, "MXFP4"}};
  const auto found = std::ranges::find(kNames, file_type, &Name::type);
  return found == kNames.end() ? std::string() : std::string(found->name);
}

// Most weights are of this type: what a file without a file type is called.
std::string commonest_type(const std::vector<Gguf>& parts) {
  std::array<std::uint64_t, GGML_TYPE_COUNT> bytes{};
  for (const auto& part : parts) {
    for (const auto& tensor : part.tensors) bytes[tensor.type] += tensor.bytes;
  }
  const auto most = std::ranges::max_element(bytes);
  if (*most == 0) return {};
  std::string name = ggml_type_name(static_cast<ggml_type>(most - bytes.begin()));
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return name;
}

}  // namespace

Artifact::Artifact(Artifact&& other) noexcept
    : path_(std::move(other.path_)),
      files_(std::exchange(other.files_, {})),
      ggufs_(std::exchange(other.ggufs_, {})) {}

Artifact& Artifact::operator=(Artifact&& other) noexcept {
  if (this != &other) {
    close();
    path_ = std::move(other.path_);
    files_ = std::exchange(other.files_, {});
    ggufs_ = std::exchange(other.ggufs_, {});
  }
  return *this;
}

Artifact::~Artifact() {
  close();
}

void Artifact::close() {
  for (const auto& file : files_) {
    if (file.head != nullptr) ::munmap(const_cast<char*>(file.head), file.head_size);
    if (file.fd >= 0) ::close(file.fd);
  }
  files_.clear();
}

Result<Artifact> Artifact::open(const std::filesystem::path& path) {
  Artifact artifact;
  artifact.path_ = path;
  std::vector<std::filesystem::path> paths = {path};
  if (const auto part = part_name(path.filename().string()); part && part->count > 1) {
    if (part->number != 1) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is part {} of a split model: name its first part, …-00001-of-{:05}.gguf",
                              path.string(), part->number, part->count),
                  "invalid_artifact");
    }
    if (part->count > kMostParts) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("{} claims {} parts", path.string(), part->count),
                  "invalid_artifact");
    }
    for (int i = 2; i <= part->count; ++i) {
      paths.push_back(path.parent_path() /
                      fmt::format("{}-{:05}-of-{:05}.gguf", part->prefix, i, part->count));
    }
  }
  for (const auto& each : paths) {
    // O_NONBLOCK: a FIFO by the name of a model must not stop us; it has no effect on regular files.
    const int fd = ::open(each.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return cannot_open(each, errno);
    artifact.files_.push_back({.name = each.filename().string(), .fd = fd});
    struct stat status{};
    if (::fstat(fd, &status) != 0) return cannot_open(each, errno);
    if (!S_ISREG(status.st_mode)) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is {}", each.string(),
                              S_ISDIR(status.st_mode) ? "a folder, not a model file" : "no regular file"),
                  "invalid_artifact");
    }
    artifact.files_.back().size = static_cast<std::uint64_t>(status.st_size);
  }
  return artifact;
}

Result<void> Artifact::read() {
  for (auto& file : files_) {
    file.head_size = std::min(file.size, kMostMetadata);
    if (file.head_size > 0) {
      void* head = ::mmap(nullptr, file.head_size, PROT_READ, MAP_PRIVATE, file.fd, 0);
      if (head == MAP_FAILED) return cannot_open(file.name, errno);
      file.head = static_cast<const char*>(head);
    }
    auto gguf = read_gguf(std::string_view(file.head, file.head_size), file.size);
    if (!gguf) return fail(std::move(gguf.error()).with_context(file.name));
    ggufs_.push_back(std::move(*gguf));
  }
  const auto wrong = [&](std::string message) {
    return fail(ErrorCode::kInvalidArgument, files_.front().name + ": " + message, "invalid_artifact");
  };
  for (std::size_t i = 0; i < ggufs_.size(); ++i) {
    const auto count = ggufs_[i].integer("split.count").value_or(1);
    const auto number = ggufs_[i].integer("split.no").value_or(0);
    if (count != std::ssize(ggufs_) && !(count <= 1 && ggufs_.size() == 1)) {
      return wrong(fmt::format("{} says that it is one of {} parts, its name says {}", files_[i].name, count,
                               ggufs_.size()));
    }
    if (ggufs_.size() > 1 && number != static_cast<std::int64_t>(i)) {
      return wrong(fmt::format("{} says that it is part {}", files_[i].name, number + 1));
    }
  }
  if (!first().text("general.architecture")) return wrong("it names no architecture");
  return {};
}

Bytes Artifact::size() const {
  std::uint64_t sum = 0;
  for (const auto& file : files_) sum += file.size;
  return Bytes(static_cast<std::int64_t>(sum));
}

std::uint64_t Artifact::padding() const {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < ggufs_.size(); ++i) sum += files_[i].size - ggufs_[i].data_end;
  return sum;
}

Result<std::string> Artifact::fingerprint() const {
  sha256_t hash;
  sha256_init(&hash);
  std::vector<unsigned char> buffer(kFingerprinted);
  for (const auto& file : files_) {
    std::array<unsigned char, 8> size{};
    for (std::size_t i = 0; i < size.size(); ++i) size[i] = static_cast<unsigned char>(file.size >> (8 * i));
    sha256_update(&hash, size.data(), size.size());
    const auto length = std::min(file.size, kFingerprinted);
    for (const auto begin : {std::uint64_t{0}, file.size - length}) {
      std::uint64_t done = 0;
      while (done < length) {
        const auto n =
            ::pread(file.fd, buffer.data() + done, length - done, static_cast<off_t>(begin + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return cannot_open(file.name, n < 0 ? errno : EIO);
        done += static_cast<std::uint64_t>(n);
      }
      sha256_update(&hash, buffer.data(), length);
    }
  }
  std::array<unsigned char, SHA256_DIGEST_SIZE> digest{};
  sha256_final(&hash, digest.data());
  std::string text;
  for (std::size_t i = 0; i < 16; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

wire::Inspected describe(const Artifact& artifact) {
  const auto& gguf = artifact.first();
  const std::string architecture(gguf.text("general.architecture").value_or(""));
  const auto key = [&](std::string_view name) { return architecture + "." + std::string(name); };
  const auto small = [](std::optional<std::int64_t> n) {
    return static_cast<int>(std::clamp<std::int64_t>(n.value_or(0), 0, std::numeric_limits<int>::max()));
  };

  wire::Inspected out;
  out.architecture = architecture;
  out.name = std::string(gguf.text("general.name").value_or(""));
  out.size = artifact.size();
  out.parts = static_cast<int>(artifact.parts().size());
  for (const auto& part : artifact.parts()) {
    for (const auto& tensor : part.tensors) out.parameters += tensor.elements;
  }
  out.layers = small(gguf.integer(key("block_count")));
  out.context_train = small(gguf.integer(key("context_length")));
  out.embedding_length = small(gguf.integer(key("embedding_length")));
  if (const auto* tokens = gguf.array("tokenizer.ggml.tokens"))
    out.vocabulary = static_cast<std::int64_t>(tokens->count);
  if (const auto type = gguf.integer("general.file_type")) out.quantization = quantization_name(*type);
  if (out.quantization.empty()) out.quantization = commonest_type(artifact.parts());
  out.chat_template = std::string(gguf.text("tokenizer.chat_template").value_or(""));

  const auto pooling = gguf.integer(key("pooling_type"));
  // BERT's family cannot generate; a decoder made into an embedder says so by its pooling.
  const auto causal = gguf.values.find(key("attention.causal"));
  const bool* looks_back_only = causal == gguf.values.end() ? nullptr : std::get_if<bool>(&causal->second);
  const bool encoder =
      architecture.find("bert") != std::string::npos || (looks_back_only != nullptr && !*looks_back_only);
  if (pooling.value_or(0) == 4) {
    out.kind = ModelKind::kRerank;
  } else if (pooling.value_or(0) > 0 || encoder) {
    out.kind = ModelKind::kEmbedding;
  }
  if (out.kind != ModelKind::kGeneration) out.pooling = std::string(pooling_name(pooling.value_or(-1)));
  return out;
}

}  // namespace lm::worker

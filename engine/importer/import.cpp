#include "import.h"

#include <cerrno>
#include <new>
#include <span>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

#include "gguf_header.h"
#include "plan.h"
#include "tensor_encoder.h"

namespace lm::importer {
namespace {

// Everything that has been written, and how much of it.
class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}

  std::int64_t written() const { return written_; }

  Result<void> write(std::span<const char> bytes) {
    while (!bytes.empty()) {
      const auto n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        const auto code =
            errno == ENOSPC || errno == EDQUOT ? ErrorCode::kResourceExhausted : ErrorCode::kUnavailable;
        return fail(code,
                    fmt::format("the model cannot be written: {}", std::generic_category().message(errno)),
                    "io_error");
      }
      written_ += n;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }
  // To the next multiple of the alignment, counted from the file's begin.
  Result<void> pad() {
    constexpr char kZeros[kGgufAlignment] = {};
    const auto over = written_ % kGgufAlignment;
    return over == 0 ? Result<void>() : write({kZeros, static_cast<std::size_t>(kGgufAlignment - over)});
  }

 private:
  int fd_;
  std::int64_t written_ = 0;
};

std::string name_of(const Plan& plan) {
  switch (plan.quantization) {
    case Quantization::k4Bit:
      return "Q4_K_M";
    case Quantization::k8Bit:
      return "Q8_0";
    case Quantization::kNone:
      break;
  }
  return plan.source == WeightType::kBf16 ? "BF16" : "F16";
}

Result<Imported> import_now(const CheckpointFolder& folder, const ImportOptions& options, int out,
                            const std::function<void(Bytes, Bytes)>& progress) {
  LM_TRY(auto plan, make_plan(folder, options.quantization));
  const auto header = make_header(plan);
  auto total = static_cast<std::int64_t>(header.size());
  for (const auto& tensor : plan.tensors)
    total += (tensor.bytes() + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;

  // Left free for everybody else.
  constexpr Bytes kMargin = mib(64);
  if (options.room && Bytes(total) + kMargin > *options.room) {
    return fail(Error{.code = ErrorCode::kResourceExhausted,
                      .message = fmt::format("the model would take {} on the disk, where {} are free: make "
                                             "room there, or quantise it further",
                                             to_string(Bytes(total) + kMargin), to_string(*options.room)),
                      .reason = "disk_full",
                      .fields = {},
                      .retry_after = {}});
  }
  Output output(out);
  LM_TRY_VOID(output.write(header));
  TensorEncoder encoder(plan.shape, options.threads);
  for (const auto& tensor : plan.tensors) {
    LM_TRY_VOID(encoder.encode(tensor, [&](std::span<const char> bytes) -> Result<void> {
      LM_TRY_VOID(output.write(bytes));
      progress(Bytes(output.written()), Bytes(total));
      return {};
    }));
    LM_TRY_VOID(output.pad());
  }
  ggml_quantize_free();
  return Imported{.architecture = std::string(plan.architecture->gguf),
                  .quantization = name_of(plan),
                  .size = Bytes(output.written()),
                  .tensors = static_cast<std::int64_t>(plan.tensors.size()),
                  .notices = std::move(plan.notices)};
}

}  // namespace

Result<Imported> import_checkpoint(const CheckpointFolder& folder, const ImportOptions& options, int out,
                                   const std::function<void(Bytes, Bytes)>& progress) {
  try {
    return import_now(folder, options, out, progress);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted,
                "the checkpoint's description takes more memory than an import may have",
                "insufficient_memory");
  }
}

}  // namespace lm::importer

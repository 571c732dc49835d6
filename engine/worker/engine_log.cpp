#include "engine_log.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <deque>
#include <fstream>
#include <ggml-backend.h>
#include <llama.h>
#include <log.h>
#include <map>
#include <mutex>
#include <optional>

#include <fmt/format.h>

namespace lm::worker {
namespace {

struct State {
  std::mutex mutex;
  std::string line;  // the one under way: the engine writes some in pieces
  ggml_log_level level = GGML_LOG_LEVEL_NONE;
  std::deque<std::string> errors;
  std::function<void(LoadStage)> watcher;
  std::map<std::string, std::string, std::less<>> names;  // of devices, where ours is another one
};

State& state() {
  static State* const the = new State;  // outlives every thread that logs
  return *the;
}

// Lines of v0.5.0. Where an update changes one, its stage is told late, nothing worse; test_worker.py would
// notice.
std::optional<LoadStage> stage_shown(std::string_view line) {
  struct Mark {
    std::string_view text;
    LoadStage stage;
  };
  constexpr std::array kMarks = {Mark{"loaded meta data with", LoadStage::kVocabulary},
                                 Mark{"loading model tensors", LoadStage::kWeights},
                                 Mark{"constructing llama_context", LoadStage::kContext},
                                 Mark{"reserve took", LoadStage::kWarmUp}};
  for (const auto& mark : kMarks) {
    if (line.find(mark.text) != std::string_view::npos) return mark.stage;
  }
  return std::nullopt;
}

void finish_line(State& s) {
  if (s.line.empty()) return;
  const std::string line = std::move(s.line);
  s.line.clear();
  if (s.level == GGML_LOG_LEVEL_WARN || s.level == GGML_LOG_LEVEL_ERROR) {
    std::fprintf(stderr, "engine: %s%s\n", s.level == GGML_LOG_LEVEL_ERROR ? "error: " : "", line.c_str());
  }
  if (s.level == GGML_LOG_LEVEL_ERROR) {
    s.errors.push_back(line);
    if (s.errors.size() > 16) s.errors.pop_front();
  }
  if (s.watcher) {
    if (const auto stage = stage_shown(line)) s.watcher(*stage);
  }
}

void on_log(ggml_log_level level, const char* text, void*) {
  auto& s = state();
  const std::scoped_lock lock(s.mutex);
  if (level != GGML_LOG_LEVEL_CONT) {
    finish_line(s);
    s.level = level;
  }
  for (const char* c = text; *c != '\0'; ++c) {
    if (*c == '\n') {
      finish_line(s);
    } else if (s.line.size() < 4'096) {
      s.line += *c;
    }
  }
}

bool contains(std::string_view text, std::string_view part) {
  return std::ranges::search(text, part, [](char a, char b) {
           return std::tolower(a) == std::tolower(b);
         }).begin() != text.end();
}

// The number after `mark`, with its unit: "of size 12345", "allocating 16384.00 MiB on device 0".
std::optional<std::int64_t> amount_after(std::string_view text, std::string_view mark) {
  const auto at = text.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  auto rest = text.substr(at + mark.size());
  double number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc() || number < 0 || number > 1e18) return std::nullopt;
  const auto unit = std::string_view(end, static_cast<std::size_t>(rest.data() + rest.size() - end));
  if (unit.starts_with(" MiB")) number *= 1024.0 * 1024.0;
  return static_cast<std::int64_t>(number);
}

std::optional<std::int64_t> host_free() {
  std::ifstream file("/proc/meminfo");
  for (std::string key, unit; file >> key;) {
    std::int64_t kilobytes = 0;
    if (!(file >> kilobytes)) return std::nullopt;
    std::getline(file, unit);
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return std::nullopt;
}

// Whether the text gives the number of this device, and the kind where it says one: "CUDA0" for "… on device
// 0: cudaMalloc failed".
bool has_number_of(std::string_view text, std::string_view device) {
  const auto digits = device.find_first_of("0123456789");
  if (digits == std::string_view::npos) return false;
  if (contains(text, "cuda") && !contains(device, "cuda")) return false;
  for (const std::string_view mark : {"on device ", "current device: "}) {
    const auto at = text.find(mark);
    if (at == std::string_view::npos) continue;
    const auto number = text.substr(at + mark.size());
    const auto end = number.find_first_not_of("0123456789");
    if (number.substr(0, end) == device.substr(digits)) return true;
  }
  return false;
}

Error out_of_memory(std::string_view text) {
  std::string device = "host";
  std::optional<std::int64_t> free;
  // "… on device 0: cudaMalloc failed", "CUDA0 buffer of size …", and when it runs out while it computes
  // "CUDA error: out of memory", "current device: 0": whichever names a device of the engine's.
  for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    auto* dev = ggml_backend_dev_get(i);
    if (ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU) continue;
    const std::string_view name = ggml_backend_dev_name(dev);
    if (has_number_of(text, name) || contains(text, name)) {
      device = device_name(name);
      if (name.starts_with("RPC")) break;  // its server may never answer again
      std::size_t now = 0, total = 0;
      ggml_backend_dev_memory(dev, &now, &total);
      if (total > 0) free = static_cast<std::int64_t>(now);
      break;
    }
  }
  if (device == "host") free = host_free();
  auto needed = amount_after(text, "of size ");
  if (!needed) needed = amount_after(text, "allocating ");

  Error error{.code = ErrorCode::kResourceExhausted,
              .message = fmt::format("{} has too little memory for this model",
                                     device == "host" ? "the host" : device),
              .reason = "insufficient_memory",
              .fields = {{"device", device}},
              .retry_after = {}};
  if (needed) error.fields.emplace_back("needed", *needed);
  if (free) error.fields.emplace_back("free", *free);
  return error;
}

}  // namespace

void open_engine_log() {
  common_log_set_verbosity_thold(LOG_LEVEL_WARN);
  llama_log_set(on_log, nullptr);
}

void watch_stages(std::function<void(LoadStage)> watcher) {
  const std::scoped_lock lock(state().mutex);
  state().watcher = std::move(watcher);
}

Error classify(std::string_view text) {
  for (const std::string_view mark :
       {"out of memory", "failed to allocate", "unable to allocate", "bad_alloc", "cannot allocate memory",
        "failed to fit", "not enough memory", "OutOfDeviceMemory"}) {
    if (contains(text, mark)) return out_of_memory(text);
  }
  for (const std::string_view mark : {"Remote RPC server crashed", "RPC handshake failed"}) {
    if (contains(text, mark)) {
      return {.code = ErrorCode::kUnavailable,
              .message = "an RPC server has closed its connection",
              .reason = "device_lost",
              .fields = {},
              .retry_after = {}};
    }
  }
  Error error{.code = ErrorCode::kInvalidArgument,
              .message = std::string(text),
              .reason = "invalid_artifact",
              .fields = {},
              .retry_after = {}};
  if (contains(text, "unknown model architecture") || contains(text, "CLIP cannot be used as main model") ||
      contains(text, "unknown pre-tokenizer type") || contains(text, "unknown tokenizer")) {
    error.code = ErrorCode::kUnimplemented;
    error.reason = "unsupported_model";
  } else if (contains(text, "failed to open") || contains(text, "no such file") ||
             contains(text, "read error") || contains(text, "input/output error")) {
    error.code = ErrorCode::kUnavailable;
    error.reason = "io_error";
  }
  if (contains(text, "cache type")) error.reason = "invalid_options";
  return error;
}

Error why_it_failed(std::string_view otherwise) {
  std::deque<std::string> errors;
  {
    auto& s = state();
    const std::scoped_lock lock(s.mutex);
    finish_line(s);
    errors.swap(s.errors);
  }
  std::string all;
  for (const auto& line : errors) all += (all.empty() ? "" : "; ") + line;
  Error error = classify(all.empty() ? otherwise : std::string_view(all));
  if (error.reason != "insufficient_memory") {
    // The engine's cause stands in the first line, what its callers made of it in the later ones.
    error.message = errors.empty() ? std::string(otherwise) : errors.front();
    for (const std::string_view mark : {"error loading model: ", "error loading model hyperparameters: ",
                                        "error loading model vocabulary: "}) {
      if (const auto at = error.message.find(mark); at != std::string::npos)
        error.message.erase(0, at + mark.size());
    }
  }
  return error;
}

void call_device(std::string_view engine_name, std::string_view name) {
  auto& s = state();
  const std::scoped_lock lock(s.mutex);
  s.names.insert_or_assign(std::string(engine_name), std::string(name));
}

std::string device_name(std::string_view engine_name) {
  if (engine_name == "CPU") return "host";
  {
    auto& s = state();
    const std::scoped_lock lock(s.mutex);
    if (const auto named = s.names.find(engine_name); named != s.names.end()) return named->second;
  }
  std::string name(engine_name);
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return name;
}

}  // namespace lm::worker

#include "probe/nvml_probe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <dlfcn.h>
#include <string_view>
#include <tuple>
#include <unistd.h>

#include <fmt/format.h>

namespace lm::probe {
namespace {

// What a card may have in use beyond what its list of processes explains: the driver's own structures and
// rounding. More is somebody whom the list does not show.
constexpr Bytes kUnexplained = mib(512);

Bytes amount(std::uint64_t bytes) {
  return Bytes(static_cast<std::int64_t>(std::min<std::uint64_t>(bytes, INT64_MAX)));
}

// The machine's first pid namespace has this number in every kernel.
bool in_first_pid_namespace(const std::filesystem::path& root) {
  std::error_code error;
  return std::filesystem::read_symlink(root / "proc/self/ns/pid", error) == "pid:[4026531836]";
}

// Entries of CUDA_VISIBLE_DEVICES; as CUDA reads it, it ends at the first that names nothing.
std::vector<std::string_view> entries_of(std::string_view list) {
  std::vector<std::string_view> out;
  while (!list.empty()) {
    const auto comma = list.find(',');
    std::string_view entry = list.substr(0, comma);
    while (entry.starts_with(' ')) entry.remove_prefix(1);
    while (entry.ends_with(' ')) entry.remove_suffix(1);
    out.push_back(entry);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  }
  return out;
}

template <class Function>
void look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
}

// The answer to a question with one answer; empty where the driver does not know the question or the answer.
template <class Value, class Function, class... Arguments>
std::optional<Value> asked(Function function, Arguments... arguments) {
  Value value{};
  if (function == nullptr || function(arguments..., &value) != nvml::kSuccess) return std::nullopt;
  return value;
}

}  // namespace

Result<std::unique_ptr<NvmlProbe>> NvmlProbe::open(Options options) {
  std::unique_ptr<NvmlProbe> probe(new NvmlProbe(std::move(options)));
  LM_TRY_VOID(probe->start());
  return probe;
}

NvmlProbe::~NvmlProbe() {
  if (started_) nvml_.nvmlShutdown();
  if (library_ != nullptr) ::dlclose(library_);
}

Error NvmlProbe::error(nvml::Status status, std::string_view doing) const {
  const char* text = nvml_.nvmlErrorString != nullptr ? nvml_.nvmlErrorString(status) : nullptr;
  return {.code = status == nvml::kNoPermission ? ErrorCode::kPermissionDenied : ErrorCode::kUnavailable,
          .message = fmt::format("NVIDIA's driver, {}: {}", doing,
                                 text != nullptr ? std::string(text) : fmt::format("error {}", status)),
          .reason = "driver",
          .fields = {{"status", std::int64_t{status}}},
          .retry_after = {}};
}

Result<void> NvmlProbe::start() {
  library_ = ::dlopen(options_.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) {
    return fail(ErrorCode::kNotFound, fmt::format("{} is not there", options_.library), "no_driver");
  }
  nvml::Functions& f = nvml_;
#define LM_LOOK_UP(name) look_up(library_, #name, f.name)
  LM_LOOK_UP(nvmlInit_v2);
  LM_LOOK_UP(nvmlShutdown);
  LM_LOOK_UP(nvmlErrorString);
  LM_LOOK_UP(nvmlSystemGetDriverVersion);
  LM_LOOK_UP(nvmlDeviceGetCount_v2);
  LM_LOOK_UP(nvmlDeviceGetHandleByIndex_v2);
  LM_LOOK_UP(nvmlDeviceGetName);
  LM_LOOK_UP(nvmlDeviceGetUUID);
  LM_LOOK_UP(nvmlDeviceGetPciInfo_v3);
  LM_LOOK_UP(nvmlDeviceGetMemoryInfo);
  LM_LOOK_UP(nvmlDeviceGetMemoryInfo_v2);
  LM_LOOK_UP(nvmlDeviceGetComputeRunningProcesses_v3);
  LM_LOOK_UP(nvmlDeviceGetGraphicsRunningProcesses_v3);
  LM_LOOK_UP(nvmlDeviceGetUtilizationRates);
  LM_LOOK_UP(nvmlDeviceGetTemperature);
  LM_LOOK_UP(nvmlDeviceGetPowerUsage);
  LM_LOOK_UP(nvmlDeviceGetDisplayActive);
  LM_LOOK_UP(nvmlDeviceGetMigMode);
  LM_LOOK_UP(nvmlDeviceGetMaxMigDeviceCount);
  LM_LOOK_UP(nvmlDeviceGetMigDeviceHandleByIndex);
#undef LM_LOOK_UP
  if (f.nvmlInit_v2 == nullptr || f.nvmlShutdown == nullptr || f.nvmlDeviceGetCount_v2 == nullptr ||
      f.nvmlDeviceGetHandleByIndex_v2 == nullptr || f.nvmlDeviceGetName == nullptr ||
      f.nvmlDeviceGetPciInfo_v3 == nullptr || f.nvmlDeviceGetMemoryInfo == nullptr) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("{} lacks functions that every driver since 2019 has", options_.library),
                "driver");
  }
  if (const auto status = f.nvmlInit_v2(); status != nvml::kSuccess)
    return fail(error(status, "when it was opened"));
  started_ = true;
  own_pids_ = in_first_pid_namespace(options_.root);
  std::array<char, 96> version{};
  if (f.nvmlSystemGetDriverVersion != nullptr &&
      f.nvmlSystemGetDriverVersion(version.data(), version.size() - 1) == nvml::kSuccess)
    driver_ = version.data();
  return find_cards();
}

Result<void> NvmlProbe::find_cards() {
  unsigned count = 0;
  if (const auto status = nvml_.nvmlDeviceGetCount_v2(&count); status != nvml::kSuccess)
    return fail(error(status, "when it was asked for its cards"));
  std::vector<std::pair<std::tuple<unsigned, unsigned, unsigned>, Card>> found;
  for (unsigned i = 0; i < count; ++i) {
    // One that does not answer now is not there for us; an engine does not see it either.
    auto card = look_at(i);
    nvml::Pci pci{};
    if (card && nvml_.nvmlDeviceGetPciInfo_v3(card->whole, &pci) == nvml::kSuccess)
      found.emplace_back(std::tuple(pci.domain, pci.bus, pci.device), std::move(*card));
  }
  std::ranges::sort(found, {}, [](const auto& entry) { return entry.first; });

  std::vector<std::size_t> shown;
  if (!options_.visible) {
    for (std::size_t i = 0; i < found.size(); ++i) shown.push_back(i);
  } else {
    for (const std::string_view entry : entries_of(*options_.visible)) {
      std::size_t index = found.size();
      if (const auto [end, bad] = std::from_chars(entry.data(), entry.data() + entry.size(), index);
          bad != std::errc() || end != entry.data() + entry.size()) {
        index = found.size();
        for (std::size_t i = 0; i < found.size(); ++i) {
          if (entry.size() > 4 && found[i].second.uuid.starts_with(entry)) index = i;
        }
      }
      if (index >= found.size() || std::ranges::find(shown, index) != shown.end()) break;
      shown.push_back(index);
    }
  }
  for (const std::size_t i : shown) {
    Card card = found[i].second;
    card.id = DeviceId(fmt::format("cuda{}", cards_.size()));
    cards_.push_back(std::move(card));
  }
  return {};
}

Result<NvmlProbe::Card> NvmlProbe::look_at(unsigned index) const {
  Card card;
  if (const auto status = nvml_.nvmlDeviceGetHandleByIndex_v2(index, &card.whole); status != nvml::kSuccess)
    return fail(error(status, fmt::format("when it was asked for card {}", index)));
  card.handle = card.whole;
  std::array<char, 96> text{};
  if (nvml_.nvmlDeviceGetName(card.whole, text.data(), text.size() - 1) == nvml::kSuccess)
    card.name = text.data();
  if (nvml_.nvmlDeviceGetUUID != nullptr &&
      nvml_.nvmlDeviceGetUUID(card.whole, text.data(), text.size() - 1) == nvml::kSuccess)
    card.uuid = text.data();
  card.display = asked<int>(nvml_.nvmlDeviceGetDisplayActive, card.whole).value_or(0) != 0;

  unsigned divided = 0;
  unsigned after_reset = 0;
  if (nvml_.nvmlDeviceGetMigMode != nullptr && nvml_.nvmlDeviceGetMigDeviceHandleByIndex != nullptr &&
      nvml_.nvmlDeviceGetMigMode(card.whole, &divided, &after_reset) == nvml::kSuccess && divided == 1) {
    card.is_part = true;
    const unsigned most = asked<unsigned>(nvml_.nvmlDeviceGetMaxMigDeviceCount, card.whole).value_or(0);
    nvml::Handle part = nullptr;
    for (unsigned i = 0; i < most && part == nullptr; ++i) {
      if (nvml_.nvmlDeviceGetMigDeviceHandleByIndex(card.whole, i, &part) != nvml::kSuccess) part = nullptr;
    }
    if (part == nullptr) {
      return fail(ErrorCode::kFailedPrecondition,
                  fmt::format("card {} is divided (MIG) and has no part to use", index), "driver");
    }
    card.handle = part;
    if (nvml_.nvmlDeviceGetName(part, text.data(), text.size() - 1) == nvml::kSuccess)
      card.name = text.data();
  }
  LM_TRY(const Used used, memory_of(card.handle));
  card.capacity = used.capacity;
  return card;
}

Result<NvmlProbe::Used> NvmlProbe::memory_of(nvml::Handle handle) const {
  // The newer one tells what the driver keeps for itself, which nobody else can have.
  if (nvml_.nvmlDeviceGetMemoryInfo_v2 != nullptr) {
    nvml::MemoryV2 memory{};
    memory.version = nvml::kMemoryV2;
    if (nvml_.nvmlDeviceGetMemoryInfo_v2(handle, &memory) == nvml::kSuccess &&
        memory.total >= memory.reserved) {
      return Used{.capacity = amount(memory.total - memory.reserved), .free = amount(memory.free)};
    }
  }
  nvml::Memory memory{};
  if (const auto status = nvml_.nvmlDeviceGetMemoryInfo(handle, &memory); status != nvml::kSuccess)
    return fail(error(status, "when it was asked for a card's memory"));
  return Used{.capacity = amount(memory.total), .free = amount(memory.free)};
}

Result<std::vector<Device>> NvmlProbe::devices() {
  std::vector<Device> out;
  for (const Card& card : cards_) {
    out.push_back({.id = card.id,
                   .kind = DeviceKind::kCuda,
                   .name = card.name,
                   .capacity = card.capacity,
                   .headroom = {},
                   .limit = {},
                   .driver = driver_,
                   .display = card.display,
                   .is_part = card.is_part});
  }
  return out;
}

bool NvmlProbe::exists(int pid) const {
  std::error_code ignored;
  return std::filesystem::exists(options_.root / "proc" / std::to_string(pid), ignored);
}

std::string NvmlProbe::name_of(int pid) const {
  const auto stat = os::read_process_stat(pid, options_.root);
  return stat ? stat->name : std::string("a process that cannot be seen from here");
}

Result<void> NvmlProbe::add_listed(nvml::Status (*list)(nvml::Handle, unsigned*, nvml::Process*),
                                   nvml::Handle handle, std::map<int, Bytes>& into) const {
  // More may come while it is asked for.
  std::vector<nvml::Process> processes(32);
  for (int attempt = 0; attempt < 4; ++attempt) {
    auto count = static_cast<unsigned>(processes.size());
    const auto status = list(handle, &count, processes.data());
    if (status == nvml::kInsufficientSize) {
      processes.resize(std::max<std::size_t>(count, processes.size()) * 2);
      continue;
    }
    if (status != nvml::kSuccess) return fail(error(status, "when it was asked for a card's processes"));
    for (std::size_t i = 0; i < std::min<std::size_t>(count, processes.size()); ++i) {
      const nvml::Process& process = processes[i];
      if (process.bytes == nvml::kNotAvailable) {
        return fail(ErrorCode::kUnimplemented, "the driver does not tell bytes per process", "not_available");
      }
      // One that computes and draws is in both lists with the same number.
      Bytes& bytes = into[static_cast<int>(process.pid)];
      bytes = std::max(bytes, amount(process.bytes));
    }
    return {};
  }
  return fail(ErrorCode::kUnavailable, "the card's list of processes does not come to rest", "driver");
}

NvmlProbe::Listed NvmlProbe::processes_on(Card& card, const Used& used, const Request& request) const {
  Listed listed;
  if (nvml_.nvmlDeviceGetComputeRunningProcesses_v3 == nullptr) {
    listed.unknown = "bytes per process: the driver is older than 510";
    return listed;
  }
  auto told = add_listed(nvml_.nvmlDeviceGetComputeRunningProcesses_v3, card.handle, listed.bytes);
  // Who only draws may be hidden from us; that shows below as what nobody explains.
  if (told && nvml_.nvmlDeviceGetGraphicsRunningProcesses_v3 != nullptr) {
    const auto drawing =
        add_listed(nvml_.nvmlDeviceGetGraphicsRunningProcesses_v3, card.handle, listed.bytes);
    if (!drawing && drawing.error().reason == "not_available") told = fail(drawing.error());
  }
  if (!told) {
    listed.unknown = fmt::format("bytes per process: {}", told.error().message);
    return listed;
  }

  const auto is_ours = [&](int pid) {
    return std::ranges::any_of(request.processes, [&](const auto& process) { return process.pid == pid; });
  };
  Bytes explained;
  bool foreign = false;
  for (const auto& [pid, bytes] : listed.bytes) {
    explained += bytes;
    if (!is_ours(pid) && !exists(pid)) foreign = true;
  }
  if (!own_pids_) {
    if (!foreign) {
      card.ours_seen |= std::ranges::any_of(
          request.processes, [&](const auto& p) { return listed.bytes.contains(p.pid) && exists(p.pid); });
    }
    if (foreign || !card.ours_seen) {
      listed.unknown =
          "bytes per process: this is a container, whose processes the driver does not show as such";
      return listed;
    }
  }
  const Bytes in_use = used.capacity - used.free;
  if (in_use > explained + kUnexplained) {
    listed.unknown =
        fmt::format("bytes per process: {} are in use that no process in the driver's list explains",
                    to_string(in_use - explained));
  }
  return listed;
}

DeviceReading NvmlProbe::reading_of(Card& card, const Used& used, const Listed& listed,
                                    std::size_t holders) const {
  DeviceReading reading{.device = card.id,
                        .capacity = used.capacity,
                        .free = std::min(used.free, used.capacity),
                        .holders = {},
                        .per_process = listed.unknown.empty(),
                        .unknown = listed.unknown};
  if (const auto rates = asked<nvml::Utilization>(nvml_.nvmlDeviceGetUtilizationRates, card.whole))
    reading.utilization = static_cast<int>(rates->gpu);
  if (const auto celsius = asked<unsigned>(nvml_.nvmlDeviceGetTemperature, card.whole, 0))
    reading.celsius = static_cast<int>(*celsius);
  if (const auto milliwatts = asked<unsigned>(nvml_.nvmlDeviceGetPowerUsage, card.whole))
    reading.milliwatts = static_cast<int>(*milliwatts);
  if (holders > 0) {
    for (const auto& [pid, bytes] : listed.bytes)
      reading.holders.push_back({.pid = pid, .name = name_of(pid), .bytes = bytes});
    std::ranges::sort(reading.holders, [](const Holder& a, const Holder& b) {
      return std::tie(b.bytes, a.pid) < std::tie(a.bytes, b.pid);
    });
    if (reading.holders.size() > holders) reading.holders.resize(holders);
  }
  return reading;
}

Result<Reading> NvmlProbe::read(const Request& request) {
  Reading out;
  for (Card& card : cards_) {
    const auto used = memory_of(card.handle);
    if (!used) {
      out.devices.push_back({.device = card.id,
                             .capacity = card.capacity,
                             .free = {},
                             .holders = {},
                             .per_process = false,
                             .unknown = used.error().message});
      continue;
    }
    const Listed listed = processes_on(card, *used, request);
    out.devices.push_back(reading_of(card, *used, listed, request.holders));
    if (!listed.unknown.empty()) continue;
    for (const auto& process : request.processes) {
      const auto entry = listed.bytes.find(process.pid);
      if (entry == listed.bytes.end() || entry->second == Bytes()) continue;
      // Whoever has the number now may be somebody else.
      const auto now = os::read_process_stat(process.pid, options_.root);
      if (now && now->identity != process) continue;
      auto mine = std::ranges::find(out.processes, process.pid, &ProcessReading::pid);
      if (mine == out.processes.end())
        mine = out.processes.insert(mine, {.pid = process.pid, .held = {}, .reclaimable = {}});
      mine->held.set(card.id, entry->second);
    }
  }
  return out;
}

}  // namespace lm::probe

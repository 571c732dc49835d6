// A driver's library by a text file, which tests rewrite while it is in use. FAKE_NVML names the file; a line
// is a word and key=value pairs, `_` in a name stands for a space, amounts are bytes, statuses NVML's
// numbers:
//
//   driver version=580.65.06 [init=STATUS]
//   card [name=…] [bus=N] [total=N] [reserved=N] [used=N] [display=1] [part=N] [uuid=…] [util=N] [celsius=N]
//        [milliwatts=N] [memory=STATUS] [list=STATUS] [old=1] [bytes=na] [pids=foreign|hidden] [linger=N]
//   process card=N pid=N bytes=N [draws=1]
//
// Cards count from 0 in the file's order, which is the driver's; `used` is what no listed process explains;
// `part` makes it a divided card with one part of so many bytes; `old` lacks the newer question for memory.
// FAKE_NVML.d/PID, "CARD BYTES", is a process that takes part by itself (fake-worker does): it is listed
// while it lives, and what it had comes back `linger` questions for memory after its end.
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "probe/nvml_api.h"

namespace {

using namespace lm::probe::nvml;
using Fields = std::map<std::string, std::string>;

constexpr std::uintptr_t kPart = 1000;  // added to a card's handle

struct World {
  Fields driver;
  std::vector<Fields> cards;
  std::vector<Fields> processes;
};

std::map<std::string, int> lingering;  // questions for memory since the end, by file

std::string state_file() {
  const char* path = std::getenv("FAKE_NVML");
  return path != nullptr ? path : "";
}

World world() {
  World out;
  std::ifstream file(state_file());
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, word;
    if (!(words >> kind) || kind[0] == '#') continue;
    Fields fields;
    while (words >> word) fields[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
    if (kind == "driver") out.driver = fields;
    if (kind == "card") out.cards.push_back(fields);
    if (kind == "process") out.processes.push_back(fields);
  }
  return out;
}

std::uint64_t number(const Fields& fields, const char* key, std::uint64_t otherwise = 0) {
  const auto it = fields.find(key);
  return it == fields.end() ? otherwise : std::strtoull(it->second.c_str(), nullptr, 10);
}

std::string text(const Fields& fields, const char* key, const char* otherwise) {
  const auto it = fields.find(key);
  std::string value = it == fields.end() ? otherwise : it->second;
  for (char& c : value) c = c == '_' ? ' ' : c;
  return value;
}

bool lives(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return false;
  const auto end = line.rfind(") ");
  return end != std::string::npos && line[end + 2] != 'Z' && line[end + 2] != 'X';
}

struct Guest {
  std::string file;
  int pid = 0;
  std::uint64_t bytes = 0;
  bool alive = false;
};

std::vector<Guest> guests_of(std::size_t card) {
  std::vector<Guest> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(state_file() + ".d", error)) {
    std::size_t on = 0;
    Guest guest{.file = entry.path().string(), .pid = std::atoi(entry.path().filename().c_str())};
    std::ifstream in(entry.path());
    if (guest.pid == 0 || !(in >> on >> guest.bytes) || on != card) continue;
    guest.alive = lives(guest.pid);
    out.push_back(guest);
  }
  return out;
}

// The card of a handle; null where it has gone.
const Fields* card_of(Handle handle, const World& w, std::size_t& index) {
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  index = (number % kPart) - 1;
  return number == 0 || index >= w.cards.size() ? nullptr : &w.cards[index];
}

bool is_part(Handle handle) {
  return reinterpret_cast<std::uintptr_t>(handle) >= kPart;
}

Status copy(const std::string& value, char* out, unsigned size) {
  if (value.size() + 1 > size) return kInsufficientSize;
  std::memcpy(out, value.c_str(), value.size() + 1);
  return kSuccess;
}

Status amounts(Handle handle, std::uint64_t& total, std::uint64_t& reserved, std::uint64_t& free) {
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card == nullptr) return kInvalidArgument;
  if (const auto status = static_cast<Status>(number(*card, "memory")); status != kSuccess) return status;
  const std::uint64_t whole = number(*card, "total", std::uint64_t{80} << 30);
  total = is_part(handle) ? number(*card, "part") : whole;
  reserved = is_part(handle) ? 0 : number(*card, "reserved");
  std::uint64_t used = number(*card, "used");
  for (const Fields& process : w.processes) {
    if (number(process, "card") != index) continue;
    const std::string bytes = text(process, "bytes", "0");
    used += std::strtoull(bytes.c_str(), nullptr, 10);
  }
  for (const Guest& guest : guests_of(index)) {
    const auto linger = static_cast<int>(number(*card, "linger"));
    if (guest.alive || lingering[guest.file]++ < linger) {
      used += guest.bytes;
    } else {
      lingering.erase(guest.file);
      std::error_code ignored;
      std::filesystem::remove(guest.file, ignored);
    }
  }
  free = total - reserved > used ? total - reserved - used : 0;
  return kSuccess;
}

Status list(Handle handle, unsigned* count, Process* out, bool drawing) {
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card == nullptr) return kInvalidArgument;
  if (const auto status = static_cast<Status>(number(*card, "list")); status != kSuccess) return status;
  const std::string pids = text(*card, "pids", "");
  const bool no_bytes = text(*card, "bytes", "") == "na";
  std::vector<Process> found;
  const auto add = [&](std::uint32_t pid, std::uint64_t bytes) {
    found.push_back({.pid = pids == "foreign" ? pid + 10'000'000 : pid,
                     .bytes = no_bytes ? kNotAvailable : bytes,
                     .gpu_instance = ~0U,
                     .compute_instance = ~0U});
  };
  if (pids != "hidden") {
    for (const Fields& process : w.processes) {
      if (number(process, "card") == index && (number(process, "draws") == 1) == drawing)
        add(static_cast<std::uint32_t>(number(process, "pid")), number(process, "bytes"));
    }
    if (!drawing) {
      for (const Guest& guest : guests_of(index)) {
        if (guest.alive) add(static_cast<std::uint32_t>(guest.pid), guest.bytes);
      }
    }
  }
  const auto room = *count;
  *count = static_cast<unsigned>(found.size());
  if (found.size() > room) return kInsufficientSize;
  std::memcpy(out, found.data(), found.size() * sizeof(Process));
  return kSuccess;
}

Status value_of(Handle handle, const char* key, unsigned* out) {
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card == nullptr) return kInvalidArgument;
  if (!card->contains(key)) return kNotSupported;
  *out = static_cast<unsigned>(number(*card, key));
  return kSuccess;
}

}  // namespace

extern "C" {

Status nvmlInit_v2() {
  lingering.clear();
  return static_cast<Status>(number(world().driver, "init"));
}

Status nvmlShutdown() {
  return kSuccess;
}

const char* nvmlErrorString(Status status) {
  switch (status) {
    case kDriverNotLoaded:
      return "Driver Not Loaded";
    case kLost:
      return "GPU is lost";
    case kVersionMismatch:
      return "Driver/library version mismatch";
    case kNotSupported:
      return "Not Supported";
    default:
      return "Unknown Error";
  }
}

Status nvmlSystemGetDriverVersion(char* out, unsigned size) {
  return copy(text(world().driver, "version", "580.65.06"), out, size);
}

Status nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(world().cards.size());
  return kSuccess;
}

Status nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle* handle) {
  if (index >= world().cards.size()) return kInvalidArgument;
  *handle = reinterpret_cast<Handle>(std::uintptr_t{index} + 1);
  return kSuccess;
}

Status nvmlDeviceGetName(Handle handle, char* out, unsigned size) {
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card == nullptr) return kInvalidArgument;
  return copy(text(*card, "name", "NVIDIA Fake") + (is_part(handle) ? " MIG 1g" : ""), out, size);
}

Status nvmlDeviceGetUUID(Handle handle, char* out, unsigned size) {
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card == nullptr) return kInvalidArgument;
  return copy(text(*card, "uuid", ("GPU-fake-" + std::to_string(index)).c_str()), out, size);
}

Status nvmlDeviceGetPciInfo_v3(Handle handle, Pci* pci) {
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card == nullptr) return kInvalidArgument;
  *pci = {};
  pci->bus = static_cast<unsigned>(number(*card, "bus", index + 1));
  std::snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", pci->bus & 0xffU);
  return kSuccess;
}

Status nvmlDeviceGetMemoryInfo(Handle handle, Memory* out) {
  std::uint64_t reserved = 0;
  const Status status = amounts(handle, out->total, reserved, out->free);
  out->used = out->total - out->free;
  return status;
}

Status nvmlDeviceGetMemoryInfo_v2(Handle handle, MemoryV2* out) {
  if (out->version != kMemoryV2) return kInvalidArgument;
  const World w = world();
  std::size_t index = 0;
  const Fields* card = card_of(handle, w, index);
  if (card != nullptr && number(*card, "old") == 1) return kNotSupported;
  std::uint64_t total = 0;
  std::uint64_t reserved = 0;
  std::uint64_t free = 0;
  const Status status = amounts(handle, total, reserved, free);
  out->total = total;
  out->reserved = reserved;
  out->free = free;
  out->used = total - reserved - free;
  return status;
}

Status nvmlDeviceGetComputeRunningProcesses_v3(Handle handle, unsigned* count, Process* out) {
  return list(handle, count, out, false);
}

Status nvmlDeviceGetGraphicsRunningProcesses_v3(Handle handle, unsigned* count, Process* out) {
  return list(handle, count, out, true);
}

Status nvmlDeviceGetUtilizationRates(Handle handle, Utilization* out) {
  out->memory = 0;
  return value_of(handle, "util", &out->gpu);
}

Status nvmlDeviceGetTemperature(Handle handle, int, unsigned* out) {
  return value_of(handle, "celsius", out);
}

Status nvmlDeviceGetPowerUsage(Handle handle, unsigned* out) {
  return value_of(handle, "milliwatts", out);
}

Status nvmlDeviceGetDisplayActive(Handle handle, int* out) {
  unsigned value = 0;
  const Status status = value_of(handle, "display", &value);
  *out = static_cast<int>(value);
  return status;
}

Status nvmlDeviceGetMigMode(Handle handle, unsigned* now, unsigned* after_reset) {
  unsigned bytes = 0;
  if (value_of(handle, "part", &bytes) != kSuccess) return kNotSupported;
  *now = *after_reset = 1;
  return kSuccess;
}

Status nvmlDeviceGetMaxMigDeviceCount(Handle, unsigned* count) {
  *count = 7;
  return kSuccess;
}

Status nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned index, Handle* part) {
  if (index != 2) return kNotFound;  // parts need not begin at the first place
  *part = reinterpret_cast<Handle>(reinterpret_cast<std::uintptr_t>(handle) + kPart);
  return kSuccess;
}

}  // extern "C"

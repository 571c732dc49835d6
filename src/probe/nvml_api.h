// What we use of NVIDIA's management library, declared by us: its header is not on every machine, its binary
// interface is stable. Shared with the stand-in library of the tests. No code.
#pragma once

#include <cstdint>

namespace lm::probe::nvml {

struct Card;  // the library's own
using Handle = Card*;

using Status = int;
inline constexpr Status kSuccess = 0;
inline constexpr Status kInvalidArgument = 2;
inline constexpr Status kNotSupported = 3;
inline constexpr Status kNoPermission = 4;
inline constexpr Status kNotFound = 6;
inline constexpr Status kInsufficientSize = 7;
inline constexpr Status kDriverNotLoaded = 9;
inline constexpr Status kLost = 15;
inline constexpr Status kVersionMismatch = 18;
inline constexpr Status kUnknown = 999;

// In an amount of bytes: it cannot be told (Windows' driver model, so WSL2 too).
inline constexpr std::uint64_t kNotAvailable = ~std::uint64_t{0};

struct Pci {
  char bus_id_short[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char bus_id[32];  // "00000000:65:00.0"
};
static_assert(sizeof(Pci) == 68);

struct Memory {  // `used` includes what the driver keeps for itself
  std::uint64_t total, free, used;
};
static_assert(sizeof(Memory) == 24);

struct MemoryV2 {
  std::uint32_t version;
  std::uint64_t total, reserved, free, used;
};
static_assert(sizeof(MemoryV2) == 40);
inline constexpr std::uint32_t kMemoryV2 = sizeof(MemoryV2) | 2U << 24;

struct Process {
  std::uint32_t pid;
  std::uint64_t bytes;
  std::uint32_t gpu_instance, compute_instance;
};
static_assert(sizeof(Process) == 24);

struct Utilization {
  std::uint32_t gpu, memory;  // percent
};

// The functions by the names that the library exports. Those that may be null are of newer or older drivers.
struct Functions {
  Status (*nvmlInit_v2)() = nullptr;
  Status (*nvmlShutdown)() = nullptr;
  const char* (*nvmlErrorString)(Status) = nullptr;
  Status (*nvmlSystemGetDriverVersion)(char*, unsigned) = nullptr;
  Status (*nvmlDeviceGetCount_v2)(unsigned*) = nullptr;
  Status (*nvmlDeviceGetHandleByIndex_v2)(unsigned, Handle*) = nullptr;
  Status (*nvmlDeviceGetName)(Handle, char*, unsigned) = nullptr;
  Status (*nvmlDeviceGetUUID)(Handle, char*, unsigned) = nullptr;
  Status (*nvmlDeviceGetPciInfo_v3)(Handle, Pci*) = nullptr;
  Status (*nvmlDeviceGetMemoryInfo)(Handle, Memory*) = nullptr;
  Status (*nvmlDeviceGetMemoryInfo_v2)(Handle, MemoryV2*) = nullptr;  // may be null: drivers before 510
  // A count in and out: kInsufficientSize says how many there are. May be null: drivers before 510.
  Status (*nvmlDeviceGetComputeRunningProcesses_v3)(Handle, unsigned*, Process*) = nullptr;
  Status (*nvmlDeviceGetGraphicsRunningProcesses_v3)(Handle, unsigned*, Process*) = nullptr;
  // The rest may be null.
  Status (*nvmlDeviceGetUtilizationRates)(Handle, Utilization*) = nullptr;
  Status (*nvmlDeviceGetTemperature)(Handle, int sensor, unsigned*) = nullptr;  // sensor 0: the chip
  Status (*nvmlDeviceGetPowerUsage)(Handle, unsigned*) = nullptr;               // milliwatts
  Status (*nvmlDeviceGetDisplayActive)(Handle, int*) = nullptr;
  Status (*nvmlDeviceGetMigMode)(Handle, unsigned* now, unsigned* after_reset) = nullptr;
  Status (*nvmlDeviceGetMaxMigDeviceCount)(Handle, unsigned*) = nullptr;
  Status (*nvmlDeviceGetMigDeviceHandleByIndex)(Handle, unsigned, Handle*) = nullptr;
};

}  // namespace lm::probe::nvml

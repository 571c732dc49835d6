// AMD's cards, as the kernel's driver (amdgpu) tells of them in /sys and /proc. Opens no device.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "probe/probe.h"

namespace lm::probe {

// Devices are rocm0, rocm1, … by their place on the bus. A processor's own graphics are one too, with the
// memory that the firmware set apart for them.
//
// What a process holds is told twice: by the driver for each of its open files (fdinfo, since Linux 6.0), and
// by the compute driver for each of its processes (kfd). The larger of both counts, since older kernels show
// what ROCm takes in the second only.
//
// Sources: the kernel's Documentation/gpu/amdgpu (mem_info_vram_*, gpu_busy_percent, hwmon) and
// Documentation/gpu/drm-usage-stats.rst (fdinfo).
class AmdgpuProbe final : public Probe {
 public:
  // `root` stands for "/". Null where the driver drives no card.
  static std::unique_ptr<AmdgpuProbe> open(std::filesystem::path root = "/");

  Result<std::vector<Device>> devices() override;

  // Only what processes have on cards. A card whose numbers cannot be read any more reads as full.
  // per_process is false where the kernel is too old to tell. Other users' processes may not be looked into,
  // ours always may: what is missing for one of ours is not there.
  //
  // Without holders only the processes asked for are looked at; with them every process of the machine is,
  // which takes milliseconds.
  Result<Reading> read(const Request& request) override;

 private:
  struct Card {
    DeviceId id;
    std::string name, bus;         // "0000:03:00.0"
    std::filesystem::path device;  // …/sys/class/drm/card0/device
    std::string compute_id;        // what kfd calls it; empty where kfd does not know it
    Bytes capacity;
    bool display = false;
  };
  using BytesByCard = std::map<std::string, Bytes>;  // by bus

  explicit AmdgpuProbe(std::filesystem::path root) : root_(std::move(root)) {}
  void find_cards();
  void find_compute_ids();
  // Empty where the process may not be looked into, or has ended.
  BytesByCard held_by(int pid) const;
  BytesByCard told_by_files(int pid) const;
  BytesByCard told_by_compute(int pid) const;
  std::map<int, BytesByCard> held_by_everybody() const;
  DeviceReading reading_of(const Card& card) const;
  void add_holders(DeviceReading& reading, const Card& card, const std::map<int, BytesByCard>& everybody,
                   std::size_t most) const;

  std::filesystem::path root_;
  bool tells_processes_ = false;
  std::vector<Card> cards_;
};

}  // namespace lm::probe

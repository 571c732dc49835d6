// NVIDIA's cards, as the driver's management library tells of them. Opens no context on a card: nothing of
// ours is on it but what workers put there.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "probe/nvml_api.h"
#include "probe/probe.h"

namespace lm::probe {

// Devices are cuda0, cuda1, … as a worker's engine counts them with CUDA_DEVICE_ORDER=PCI_BUS_ID: by their
// place on the bus, and only those that CUDA_VISIBLE_DEVICES lets it see, in that order. Of a card that is
// divided (MIG) an engine sees one part only, and so do we.
class NvmlProbe final : public Probe {
 public:
  struct Options {
    std::string library = "libnvidia-ml.so.1";
    std::optional<std::string> visible{};  // CUDA_VISIBLE_DEVICES; empty: all
    std::filesystem::path root = "/";      // stands for "/" where /proc is read
  };

  // kNotFound: no such library, which is a machine without NVIDIA's driver. kUnavailable: the library is
  // there and says why it does not work, or it lacks functions. May take a second: the driver wakes up.
  static Result<std::unique_ptr<NvmlProbe>> open(Options options);
  ~NvmlProbe() override;
  NvmlProbe(const NvmlProbe&) = delete;
  NvmlProbe& operator=(const NvmlProbe&) = delete;

  Result<std::vector<Device>> devices() override;

  // Only what processes have on cards. A card that has fallen off the bus, or does not answer, reads as full:
  // nothing more can be put there. `processes` may name some that have ended: what the driver still counts
  // for them is what clings.
  //
  // per_process is false where the driver gives no bytes, lists processes of another pid namespace, or where
  // the device has more in use than the listed processes explain (containers, drivers that lag): then an
  // empty list proves nothing.
  Result<Reading> read(const Request& request) override;

  const std::string& driver() const { return driver_; }

 private:
  struct Card {
    DeviceId id;
    nvml::Handle handle = nullptr;  // of the part, where it is divided
    nvml::Handle whole = nullptr;
    std::string name, uuid, bus;
    Bytes capacity;
    bool display = false;
    bool is_part = false;
    bool ours_seen = false;  // a process of ours was in its list: the driver's numbers are our numbers
  };
  struct Used {
    Bytes capacity, free;
  };
  struct Listed {
    std::map<int, Bytes> bytes;  // by pid
    std::string unknown;         // why they cannot be relied on
  };

  explicit NvmlProbe(Options options) : options_(std::move(options)) {}
  Result<void> start();
  Result<void> find_cards();
  Result<Card> look_at(unsigned index) const;
  Result<Used> memory_of(nvml::Handle handle) const;
  Listed processes_on(Card& card, const Used& used, const Request& request) const;
  Result<void> add_listed(nvml::Status (*list)(nvml::Handle, unsigned*, nvml::Process*), nvml::Handle handle,
                          std::map<int, Bytes>& into) const;
  DeviceReading reading_of(Card& card, const Used& used, const Listed& listed, std::size_t holders) const;
  bool exists(int pid) const;
  std::string name_of(int pid) const;
  Error error(nvml::Status status, std::string_view doing) const;

  Options options_;
  nvml::Functions nvml_;
  void* library_ = nullptr;
  bool started_ = false;
  bool own_pids_ = false;  // this process is in the machine's own pid namespace
  std::string driver_;
  std::vector<Card> cards_;
};

}  // namespace lm::probe

// Bytes per device: what there is, what is promised, what others use. Built anew from the live set for each
// decision and never patched, so that it cannot drift.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "domain/device.h"
#include "domain/snapshot.h"

namespace lm::core {

// What an instance takes or a load needs: bytes, and places among the `max_loaded` generation models.
struct Need {
  DeviceBytes bytes;
  int places = 0;

  bool empty() const { return bytes.empty() && places == 0; }
  Need& operator+=(const Need& other) {
    bytes += other.bytes;
    places += other.places;
    return *this;
  }
  // Whether taking this much covers `shortage` on every device and in places.
  bool covers(const Need& shortage) const;
  // Whether having this much back helps where `shortage` is.
  bool takes_of(const Need& shortage) const;
  // What of it is left where `coming` is there.
  Need beyond(const Need& coming) const;
  // What of it lies on the devices and places that `need` takes.
  Need where(const Need& need) const;
};

class Ledger {
 public:
  // One charged instance. What it was measured to hold beyond its reservation is charged too: promises do not
  // bind physics.
  struct Charge {
    DeviceBytes reserved;
    DeviceBytes held;
    int places = 0;
  };

  // `external`: measured use of processes that are not ours.
  Ledger(std::span<const Device> devices, const DeviceBytes& external, std::optional<int> max_loaded);

  void charge(const Charge& charge);

  // The most that our instances together may ever take of the device now: its limit, or what physics and
  // others leave.
  Bytes ceiling(const DeviceId& device) const;
  // What a further reservation may take; negative where others took what was promised. A device we do not
  // know has nothing.
  Bytes available(const DeviceId& device) const;
  Bytes reserved(const DeviceId& device) const { return reserved_.on(device); }

  // What is missing for `need`; empty: it fits.
  Need shortage(const Need& need) const;

  // The same with all that nobody else can have beside it: an RPC server has one client, so who is on one of
  // its devices has all of them.
  DeviceBytes whole(const DeviceBytes& bytes) const;

 private:
  std::vector<Device> devices_;
  DeviceBytes external_;
  DeviceBytes reserved_;
  DeviceBytes charged_;
  std::optional<int> max_loaded_;
  int places_ = 0;
  bool any_server_ = false;
};

}  // namespace lm::core

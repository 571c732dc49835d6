#include "probe/amdgpu_probe.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include <fmt/format.h>

#include "probe/status_text.h"

namespace lm::probe {
namespace {

namespace fs = std::filesystem;

// What a card may have in use beyond what its processes explain: the driver's own, and the console's picture.
constexpr Bytes kUnexplained = mib(512);
constexpr std::size_t kShort = 4096;                   // of a file in /sys with one value
constexpr std::size_t kTable = std::size_t{64} << 10;  // of one with many

std::optional<std::string> line_of(const fs::path& file) {
  auto text = os::read_file(file, kShort);
  if (!text) return std::nullopt;
  while (!text->empty() && (text->back() == '\n' || text->back() == ' ')) text->pop_back();
  return *std::move(text);
}

template <class Number>
std::optional<Number> number_in(std::string_view text, int base = 10) {
  Number number{};
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (bad != std::errc() || end == text.data()) return std::nullopt;
  return number;
}

std::optional<Bytes> bytes_in(const fs::path& file) {
  const auto line = line_of(file);
  const auto number = line ? number_in<std::int64_t>(*line) : std::nullopt;
  if (!number || *number < 0) return std::nullopt;
  return Bytes(*number);
}

// "PCI_SLOT_NAME=0000:03:00.0" in a device's uevent.
std::string variable_in(std::string_view text, std::string_view name) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.starts_with(name) && line.substr(name.size()).starts_with('='))
      return std::string(line.substr(name.size() + 1));
    at = end + 1;
  }
  return {};
}

// The number after "name " in a topology node's properties.
std::optional<std::uint64_t> property_in(std::string_view text, std::string_view name) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.starts_with(name) && line.substr(name.size()).starts_with(' '))
      return number_in<std::uint64_t>(line.substr(name.size() + 1));
    at = end + 1;
  }
  return std::nullopt;
}

// The entries of a folder by name; none where it cannot be read.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error))
    entries.push_back(it->path());
  std::ranges::sort(entries);
  return entries;
}

// "drm-memory-vram:  512 KiB", or MiB, or bytes where no unit stands there.
std::optional<Bytes> amount_in(std::string_view text, std::string_view name) {
  const auto field = field_of(text, name);
  const auto number = field ? number_in<std::int64_t>(*field) : std::nullopt;
  if (!number || *number < 0 || *number > mib(std::int64_t{1} << 40).count()) return std::nullopt;
  if (field->ends_with(" KiB")) return kib(*number);
  if (field->ends_with(" MiB")) return mib(*number);
  return Bytes(*number);
}

// Whether the kernel counts a process's memory on cards: its files' since 6.0, compute processes' where there
// is a kfd.
bool tells_processes(const fs::path& root) {
  std::error_code error;
  if (fs::is_directory(root / "sys/class/kfd/kfd/proc", error)) return true;
  const auto release = line_of(root / "proc/sys/kernel/osrelease");
  return release && number_in<int>(*release).value_or(0) >= 6;
}

// "card0", and not "card0-HDMI-A-1".
bool is_card(std::string_view name) {
  return name.starts_with("card") && name.size() > 4 &&
         name.find_first_not_of("0123456789", 4) == std::string_view::npos;
}

bool has_screen(const fs::path& card) {
  const std::string connectors = card.filename().string() + "-";
  return std::ranges::any_of(entries_of(card.parent_path()), [&](const fs::path& entry) {
    return entry.filename().string().starts_with(connectors) && line_of(entry / "status") == "connected";
  });
}

std::string name_of(const fs::path& device) {
  if (auto told = line_of(device / "product_name"); told && !told->empty()) return *std::move(told);
  const auto id = line_of(device / "device");
  return fmt::format("AMD {}", id && id->starts_with("0x") ? id->substr(2) : "graphics");
}

// The sensors' folder, of which a card has one.
fs::path sensors_of(const fs::path& device) {
  const auto found = entries_of(device / "hwmon");
  return found.empty() ? fs::path() : found.front();
}

std::optional<int> scaled_down(const fs::path& file, std::int64_t by) {
  const auto value = bytes_in(file);
  if (!value) return std::nullopt;
  return static_cast<int>(value->count() / by);
}

std::optional<int> pid_of(const fs::path& entry) {
  const std::string name = entry.filename().string();
  if (name.empty() || name.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return number_in<int>(name);
}

}  // namespace

std::unique_ptr<AmdgpuProbe> AmdgpuProbe::open(fs::path root) {
  std::unique_ptr<AmdgpuProbe> probe(new AmdgpuProbe(std::move(root)));
  probe->find_cards();
  if (probe->cards_.empty()) return nullptr;
  probe->find_compute_ids();
  probe->tells_processes_ = tells_processes(probe->root_);
  return probe;
}

void AmdgpuProbe::find_cards() {
  std::error_code error;
  for (const fs::path& entry : entries_of(root_ / "sys/class/drm")) {
    if (!is_card(entry.filename().string())) continue;
    const fs::path device = entry / "device";
    if (fs::read_symlink(device / "driver", error).filename() != "amdgpu") continue;
    const auto capacity = bytes_in(device / "mem_info_vram_total");
    const auto events = os::read_file(device / "uevent", kShort);
    if (!capacity || *capacity == Bytes() || !events) continue;
    cards_.push_back({.id = {},
                      .name = name_of(device),
                      .bus = variable_in(*events, "PCI_SLOT_NAME"),
                      .device = device,
                      .compute_id = {},
                      .capacity = *capacity,
                      .display = has_screen(entry)});
  }
  std::ranges::sort(cards_, {}, &Card::bus);
  for (std::size_t i = 0; i < cards_.size(); ++i) cards_[i].id = DeviceId(fmt::format("rocm{}", i));
}

// A node's place on the bus is told as domain and location: bus << 8 | device << 3 | function.
void AmdgpuProbe::find_compute_ids() {
  for (const fs::path& node : entries_of(root_ / "sys/class/kfd/kfd/topology/nodes")) {
    const auto id = line_of(node / "gpu_id");
    const auto properties = os::read_file(node / "properties", kTable);
    if (!id || *id == "0" || !properties) continue;
    const auto domain = property_in(*properties, "domain");
    const auto location = property_in(*properties, "location_id");
    if (!location) continue;
    const std::string bus = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain.value_or(0),
                                        *location >> 8 & 0xff, *location >> 3 & 0x1f, *location & 7);
    for (Card& card : cards_)
      if (card.bus == bus) card.compute_id = *id;
  }
}

Result<std::vector<Device>> AmdgpuProbe::devices() {
  std::vector<Device> devices;
  for (const Card& card : cards_) {
    devices.push_back({.id = card.id,
                       .kind = DeviceKind::kRocm,
                       .name = card.name,
                       .capacity = card.capacity,
                       .headroom = {},
                       .limit = {},
                       .driver = line_of(root_ / "sys/module/amdgpu/version").value_or(""),
                       .display = card.display});
  }
  return devices;
}

// One client of the driver may be open under several numbers and is told under each.
AmdgpuProbe::BytesByCard AmdgpuProbe::told_by_files(int pid) const {
  BytesByCard told;
  std::set<std::string> clients;
  const fs::path process = root_ / "proc" / std::to_string(pid);
  std::error_code error;
  for (const fs::path& file : entries_of(process / "fd")) {
    if (!fs::read_symlink(file, error).string().starts_with("/dev/dri/")) continue;
    const auto text = os::read_file(process / "fdinfo" / file.filename(), kTable);
    if (!text || field_of(*text, "drm-driver") != "amdgpu") continue;
    const auto bus = field_of(*text, "drm-pdev");
    const auto client = field_of(*text, "drm-client-id");
    if (!bus || (client && !clients.insert(fmt::format("{} {}", *bus, *client)).second)) continue;
    auto bytes = amount_in(*text, "drm-memory-vram");
    if (!bytes) bytes = amount_in(*text, "drm-resident-vram");
    if (bytes) told[std::string(*bus)] += *bytes;
  }
  return told;
}

AmdgpuProbe::BytesByCard AmdgpuProbe::told_by_compute(int pid) const {
  BytesByCard told;
  const fs::path process = root_ / "sys/class/kfd/kfd/proc" / std::to_string(pid);
  for (const Card& card : cards_) {
    if (card.compute_id.empty()) continue;
    if (const auto bytes = bytes_in(process / ("vram_" + card.compute_id))) told[card.bus] = *bytes;
  }
  return told;
}

AmdgpuProbe::BytesByCard AmdgpuProbe::held_by(int pid) const {
  BytesByCard held = told_by_files(pid);
  for (const auto& [bus, bytes] : told_by_compute(pid)) held[bus] = std::max(held[bus], bytes);
  return held;
}

std::map<int, AmdgpuProbe::BytesByCard> AmdgpuProbe::held_by_everybody() const {
  std::map<int, BytesByCard> everybody;
  for (const fs::path& entry : entries_of(root_ / "proc")) {
    const auto pid = pid_of(entry);
    if (!pid) continue;
    if (BytesByCard held = held_by(*pid); !held.empty()) everybody.emplace(*pid, std::move(held));
  }
  return everybody;
}

DeviceReading AmdgpuProbe::reading_of(const Card& card) const {
  const auto capacity = bytes_in(card.device / "mem_info_vram_total");
  const auto used = bytes_in(card.device / "mem_info_vram_used");
  if (!capacity || !used) {
    return {.device = card.id,
            .capacity = card.capacity,
            .free = {},
            .holders = {},
            .per_process = false,
            .unknown = "the driver does not tell this card's memory any more"};
  }
  DeviceReading reading{.device = card.id,
                        .capacity = *capacity,
                        .free = std::max(Bytes(), *capacity - *used),
                        .holders = {},
                        .per_process = tells_processes_};
  if (!tells_processes_) reading.unknown = "bytes per process: the kernel is older than 6.0";
  reading.utilization = scaled_down(card.device / "gpu_busy_percent", 1);
  const fs::path sensors = sensors_of(card.device);
  if (!sensors.empty()) {
    reading.celsius = scaled_down(sensors / "temp1_input", 1000);
    reading.milliwatts = scaled_down(sensors / "power1_average", 1000);
    if (!reading.milliwatts) reading.milliwatts = scaled_down(sensors / "power1_input", 1000);
  }
  return reading;
}

void AmdgpuProbe::add_holders(DeviceReading& reading, const Card& card,
                              const std::map<int, BytesByCard>& everybody, std::size_t most) const {
  Bytes explained;
  for (const auto& [pid, held] : everybody) {
    const auto here = held.find(card.bus);
    if (here == held.end() || here->second == Bytes()) continue;
    explained += here->second;
    const auto stat = os::read_process_stat(pid, root_);
    reading.holders.push_back({.pid = pid, .name = stat ? stat->name : "", .bytes = here->second});
  }
  const Bytes used = reading.capacity - reading.free;
  if (reading.unknown.empty() && used > explained + kUnexplained) {
    reading.unknown =
        fmt::format("who holds {} of it: processes that may not be looked into", to_string(used - explained));
  }
  std::ranges::sort(reading.holders, [](const Holder& a, const Holder& b) {
    return std::tie(b.bytes, a.pid) < std::tie(a.bytes, b.pid);
  });
  if (reading.holders.size() > most) reading.holders.resize(most);
}

Result<Reading> AmdgpuProbe::read(const Request& request) {
  Reading out;
  for (const Card& card : cards_) out.devices.push_back(reading_of(card));
  if (request.holders > 0) {
    const auto everybody = held_by_everybody();
    for (std::size_t i = 0; i < cards_.size(); ++i)
      if (out.devices[i].free > Bytes() || out.devices[i].per_process)
        add_holders(out.devices[i], cards_[i], everybody, request.holders);
  }
  for (const auto& process : request.processes) {
    // Whoever has the number now may be somebody else; one that has ended may still be told of by kfd.
    const auto now = os::read_process_stat(process.pid, root_);
    if (now && now->identity != process) continue;
    const BytesByCard held = held_by(process.pid);
    ProcessReading mine{.pid = process.pid, .held = {}, .reclaimable = {}};
    for (std::size_t i = 0; i < cards_.size(); ++i) {
      const auto here = held.find(cards_[i].bus);
      if (out.devices[i].per_process && here != held.end()) mine.held.set(cards_[i].id, here->second);
    }
    if (!mine.held.empty()) out.processes.push_back(std::move(mine));
  }
  return out;
}

}  // namespace lm::probe

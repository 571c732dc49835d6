#include "core/placement.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/assert.h"

namespace lm::core {
namespace {

using Rooms = std::vector<const Room*>;

constexpr std::size_t kGuidesTextDevices = 4;
// So many devices are tried in every order; more only in the bus's, where nothing but very uneven layers can
// make a difference.
constexpr std::size_t kPermuted = 4;
// Of so many devices every set is looked at; of more only the largest.
constexpr std::size_t kEverySetOf = 6;

std::size_t layers_on_devices(const PlacementCase& model) {
  const std::size_t all = model.extent.layers.size();
  if (!model.gpu_layers || *model.gpu_layers < 0) return all;
  return std::min(all, static_cast<std::size_t>(*model.gpu_layers));
}

Bytes weight_of(const Extent::Layer& layer) {
  return layer.weights + layer.cache;
}

// One of the devices that a model is cut over.
struct Part {
  bool is_first = false;
  bool has_output = false;
  std::size_t layers = 2;  // beside the output
  bool pipelined = false;
};

// What a device takes beside its layers.
Bytes fixed_cost(const Extent& extent, const Room& room, const Part& part) {
  Bytes cost;
  if (part.layers > 0) cost = part.has_output && part.layers == 1 ? extent.last_scratch : extent.scratch;
  if (part.has_output) cost = std::max(cost, extent.output_scratch);
  if (part.layers > 0) cost += extent.inputs;
  if (part.layers > 0 && part.pipelined) cost += extent.pipelined;
  if (!room.bare) cost += extent.device_context;
  if (part.is_first) cost += extent.first;
  return cost;
}

// The engine lets the devices work at different batches at the same time, which takes copies of what they
// read, where all of it lies on several of them, layer after layer.
bool is_pipelined(const PlacementCase& model, std::size_t devices) {
  return devices > 1 && model.split == Split::kLayer &&
         layers_on_devices(model) == model.extent.layers.size();
}

// How many layers each of `rooms` gets, and what that takes.
class Cut {
 public:
  Cut(const PlacementCase& model, Rooms rooms)
      : model_(model),
        rooms_(std::move(rooms)),
        begin_(model.extent.layers.size() - layers_on_devices(model)),
        counts_(rooms_.size(), 0) {
    for (std::size_t i = 0; i < rooms_.size(); ++i) {
      // The last may get the output alone, which takes less.
      const Bytes fixed = fixed_cost(model_.extent, *rooms_[i],
                                     {.is_first = i == 0,
                                      .has_output = i + 1 == rooms_.size(),
                                      .pipelined = is_pipelined(model_, rooms_.size())});
      budgets_.push_back(std::max(Bytes(), rooms_[i]->free - fixed));
    }
  }

  // By what each has free; one that is too full for its part passes on what is too much.
  bool fit() {
    if (units() < rooms_.size()) return false;
    if (rooms_.size() == 1) {
      counts_[0] = units();
      return fits();
    }
    by_free_bytes();
    if (fits()) return true;
    fill_in_order();
    if (fits()) return true;
    fill_from_the_end();
    return fits();
  }
  void by_free_bytes() {
    const Bytes all = std::accumulate(budgets_.begin(), budgets_.end(), Bytes());
    Bytes total;
    for (std::size_t u = 0; u < units(); ++u) total += unit(u);
    double target = 0;
    Bytes placed;
    std::size_t next = 0;
    for (std::size_t i = 0; i < rooms_.size(); ++i) {
      const std::size_t others = rooms_.size() - i - 1;
      target += all > Bytes()
                    ? static_cast<double>(total.count()) * static_cast<double>(budgets_[i].count()) /
                          static_cast<double>(all.count())
                    : static_cast<double>(total.count()) / static_cast<double>(rooms_.size());
      counts_[i] = 0;
      while (next + others < units()) {
        const auto middle = static_cast<double>(placed.count()) + static_cast<double>(unit(next).count()) / 2;
        if (counts_[i] > 0 && others > 0 && middle > target) break;
        placed += unit(next++);
        ++counts_[i];
      }
    }
  }

  Placement result() const {
    Placement placement;
    std::vector<int> counts;
    for (const std::size_t count : counts_)
      counts.push_back(rooms_.size() == 1 ? 0 : static_cast<int>(count));
    for (std::size_t i = 0; i < rooms_.size(); ++i)
      placement.shares.push_back({.device = rooms_[i]->device, .layers = counts[i]});
    const auto known = std::ranges::find(model_.known, counts, &Experience::layers);
    if (known != model_.known.end()) {
      for (std::size_t i = 0; i < rooms_.size(); ++i) placement.bytes.add(rooms_[i]->device, known->bytes[i]);
      placement.bytes.add(host_device(), known->host);
      return placement;
    }
    const Extent& extent = model_.extent;
    Bytes host = extent.host;
    std::size_t next = 0;
    if (std::ranges::any_of(rooms_, [](const Room* room) { return !room->bare; }))
      host += extent.host_with_cards;
    for (std::size_t i = 0; i < rooms_.size(); ++i) {
      const bool has_output = i + 1 == rooms_.size();
      Bytes bytes = fixed_cost(extent, *rooms_[i],
                               {.is_first = i == 0,
                                .has_output = has_output,
                                .layers = counts_[i] - (has_output ? 1U : 0U),
                                .pipelined = is_pipelined(model_, rooms_.size())});
      for (std::size_t n = 0; n < counts_[i]; ++n) bytes += unit(next++);
      placement.bytes.add(rooms_[i]->device, bytes);
    }
    for (std::size_t layer = 0; layer < begin_; ++layer) {
      host += extent.layers[layer].cache;
      if (!extent.mapped) host += extent.layers[layer].weights;
    }
    if (begin_ > 0) host += extent.host_scratch;
    if (is_pipelined(model_, rooms_.size())) host += extent.host_pipelined;
    placement.bytes.add(host_device(), host);
    return placement;
  }

 private:
  std::size_t units() const { return model_.extent.layers.size() - begin_; }
  Bytes unit(std::size_t u) const { return weight_of(model_.extent.layers[begin_ + u]); }

  bool fits() const {
    const Placement placement = result();
    return std::ranges::all_of(
        rooms_, [&](const Room* room) { return placement.bytes.on(room->device) <= room->free; });
  }

  void fill_in_order() {
    std::size_t next = 0;
    for (std::size_t i = 0; i < rooms_.size(); ++i) {
      const std::size_t others = rooms_.size() - i - 1;
      Bytes filled;
      counts_[i] = 0;
      while (next + others < units()) {
        if (others > 0 && counts_[i] > 0 && filled + unit(next) > budgets_[i]) break;
        filled += unit(next++);
        ++counts_[i];
      }
    }
  }
  void fill_from_the_end() {
    std::size_t left = units();
    for (std::size_t i = rooms_.size(); i-- > 0;) {
      Bytes filled;
      counts_[i] = 0;
      while (left > i) {
        if (i > 0 && counts_[i] > 0 && filled + unit(left - 1) > budgets_[i]) break;
        filled += unit(--left);
        ++counts_[i];
      }
    }
  }

  const PlacementCase& model_;
  Rooms rooms_;
  std::size_t begin_;  // the first layer that leaves the host
  std::vector<std::size_t> counts_;
  std::vector<Bytes> budgets_;  // for layers
};

std::optional<Placement> cut_over(const PlacementCase& model, Rooms rooms) {
  Cut in_order(model, rooms);
  if (in_order.fit()) return in_order.result();
  if (rooms.size() < 2 || rooms.size() > kPermuted) return std::nullopt;
  const Rooms bus = rooms;
  std::ranges::sort(rooms);
  do {
    if (rooms == bus) continue;
    Cut cut(model, rooms);
    if (cut.fit()) return cut.result();
  } while (std::ranges::next_permutation(rooms).found);
  return std::nullopt;
}

Bytes net(const Extent& extent, const Room& room) {
  return room.bare ? room.free : room.free - extent.device_context;
}

bool is_embedding(ModelKind kind) {
  return kind != ModelKind::kGeneration;
}

// One after the other in the order of preference.
Rooms in_preference(const PlacementCase& model, std::span<const Room> rooms) {
  Rooms order;
  for (const Room& room : rooms) order.push_back(&room);
  std::ranges::sort(order, [&](const Room* a, const Room* b) {
    if (a->display != b->display) return b->display;
    if (is_embedding(model.kind) && a->occupied != b->occupied) return b->occupied;
    const Bytes free_a = net(model.extent, *a);
    const Bytes free_b = net(model.extent, *b);
    if (free_a == free_b) return a < b;  // as on the bus
    return is_embedding(model.kind) && !a->occupied ? free_a < free_b : free_a > free_b;
  });
  return order;
}

// Whether the layout would as soon have the one as the other, but for what is free.
bool is_as_good(const PlacementCase& model, const Room& a, const Room& b) {
  return a.display == b.display && (!is_embedding(model.kind) || a.occupied == b.occupied);
}

std::size_t most_devices(const PlacementCase& model, std::size_t there) {
  return model.max_devices ? std::min(there, static_cast<std::size_t>(*model.max_devices)) : there;
}

// Sets of `count`, each in the order of the bus; the largest first.
std::vector<Rooms> sets_of(const PlacementCase& model, std::span<const Room> rooms, std::size_t count,
                           bool with_display) {
  Rooms order;
  for (const Room& room : rooms) {
    if (with_display || !room.display) order.push_back(&room);
  }
  if (order.size() < count) return {};
  std::ranges::sort(order, [&](const Room* a, const Room* b) {
    const Bytes free_a = net(model.extent, *a);
    const Bytes free_b = net(model.extent, *b);
    return free_a != free_b ? free_a > free_b : a < b;
  });
  std::vector<Rooms> sets;
  std::string taken(order.size(), 'n');
  std::fill_n(taken.begin(), count, 'y');
  do {
    Rooms& set = sets.emplace_back();
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (taken[i] == 'y') set.push_back(order[i]);
    }
    std::ranges::sort(set);  // they lie in the order of the bus
  } while (order.size() <= kEverySetOf && std::ranges::prev_permutation(taken).found);
  return sets;
}

std::vector<Placement> compact_places(const PlacementCase& model, std::span<const Room> rooms,
                                      std::size_t most) {
  std::vector<Placement> found;
  const Room* first = nullptr;
  for (const Room* room : in_preference(model, rooms)) {
    if (found.size() == most || (first != nullptr && !is_as_good(model, *room, *first))) break;
    if (auto placement = cut_over(model, {room})) {
      found.push_back(*std::move(placement));
      if (first == nullptr) first = room;
    }
  }
  for (std::size_t count = 2; found.empty() && count <= most_devices(model, rooms.size()); ++count) {
    for (const bool with_display : {false, true}) {
      if (!found.empty()) break;
      for (const Rooms& set : sets_of(model, rooms, count, with_display)) {
        if (found.size() == most) break;
        if (auto placement = cut_over(model, set)) found.push_back(*std::move(placement));
      }
    }
  }
  return found;
}

// The devices that the requirements' rule names.
Rooms guides(const PlacementCase& model, std::span<const Room> rooms) {
  Rooms chosen;
  if (is_embedding(model.kind)) {
    chosen.push_back(&rooms[std::min(rooms.size() - 1, kGuidesTextDevices)]);
    return chosen;
  }
  const std::size_t count = rooms.size() == 1 ? 1 : std::min(rooms.size() - 1, kGuidesTextDevices);
  for (const Room& room : rooms.first(most_devices(model, count))) chosen.push_back(&room);
  return chosen;
}

// What lies within so little of a device is left to the others: it is full.
std::optional<Placement> place_by_guide(const PlacementCase& model, std::span<const Room> rooms) {
  Rooms chosen = guides(model, rooms);
  while (!chosen.empty()) {
    Cut cut(model, chosen);
    if (cut.fit()) return cut.result();
    if (chosen.size() == 1) break;
    // The fullest may have no room for even one layer.
    chosen.erase(std::ranges::min_element(chosen, {}, [](const Room* room) { return room->free; }));
  }
  return std::nullopt;
}

bool is_guide(Layout layout, std::size_t devices) {
  return layout == Layout::kGuide || (layout == Layout::kGuideFromFive && devices > kGuidesTextDevices);
}

bool is_host(std::string_view word) {
  return word == "host" || word == "cpu";
}

// "cuda0" names one device, "cuda" all of its kind.
bool names(std::string_view word, const Device& device) {
  return word == "auto" || word == device.id.str() || word == to_string(device.kind);
}

}  // namespace

std::vector<Placement> places(const PlacementCase& model, std::span<const Room> rooms, std::size_t most) {
  if (rooms.empty()) return {};
  if (is_guide(model.layout, rooms.size())) {
    if (auto placement = place_by_guide(model, rooms)) return {*std::move(placement)};
  }
  return compact_places(model, rooms, most);
}

std::optional<Placement> place(const PlacementCase& model, std::span<const Room> rooms) {
  std::vector<Placement> first = places(model, rooms, 1);
  if (first.empty()) return std::nullopt;
  return std::move(first.front());
}

Placement place_anyway(const PlacementCase& model, std::span<const Room> rooms) {
  LM_ASSERT(!rooms.empty(), "there is a device to place it on");
  Rooms chosen;
  if (is_guide(model.layout, rooms.size())) {
    chosen = guides(model, rooms);
    chosen.resize(std::min(chosen.size(), std::max<std::size_t>(1, layers_on_devices(model))));
  } else {
    const std::size_t most =
        std::min(most_devices(model, rooms.size()), std::max<std::size_t>(1, layers_on_devices(model)));
    chosen = sets_of(model, rooms, most, true).front();
  }
  Cut cut(model, chosen);
  cut.by_free_bytes();
  return cut.result();
}

std::vector<DeviceMemory> account_of(const PlacementCase& model, std::span<const LayerShare> shares,
                                     std::span<const Room> rooms) {
  const Extent& extent = model.extent;
  const std::size_t begin = extent.layers.size() - layers_on_devices(model);
  std::vector<DeviceMemory> all(1);
  DeviceMemory& host = all.front();
  host.device = host_device();
  host.compute = extent.host;
  if (begin > 0) host.compute += extent.host_scratch;
  const bool pipelined = is_pipelined(model, shares.size());
  if (pipelined) host.compute += extent.host_pipelined;
  for (std::size_t layer = 0; layer < begin; ++layer) {
    host.context += extent.layers[layer].cache;
    (extent.mapped ? host.mapped : host.weights) += extent.layers[layer].weights;
  }
  bool opens_card = false;
  std::size_t next = begin;
  std::vector<DeviceMemory> devices;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const auto room = std::ranges::find(rooms, shares[i].device, &Room::device);
    LM_ASSERT(room != rooms.end(), "every share's device is a room");
    DeviceMemory part;
    part.device = shares[i].device;
    const std::size_t count =
        shares.size() == 1 ? extent.layers.size() - begin : static_cast<std::size_t>(shares[i].layers);
    const bool has_output = i + 1 == shares.size();
    part.compute = fixed_cost(extent, *room,
                              {.is_first = i == 0,
                               .has_output = has_output,
                               .layers = count - (has_output ? 1U : 0U),
                               .pipelined = pipelined});
    if (i == 0) {
      part.compute -= extent.first;
      part.weights += extent.first;
    }
    for (std::size_t n = 0; n < count; ++n, ++next) {
      part.weights += extent.layers[next].weights;
      part.context += extent.layers[next].cache;
    }
    opens_card |= !room->bare;
    devices.push_back(std::move(part));
  }
  if (opens_card) host.compute += extent.host_with_cards;
  all.insert(all.end(), devices.begin(), devices.end());
  return all;
}

bool spreads(Layout layout, ModelKind kind, std::size_t devices) {
  return is_guide(layout, devices) && !is_embedding(kind) && devices > 2;
}

Candidates candidates(const LoadOptions& options, const PlacementWish& wish, std::span<const Device> devices,
                      std::string_view engine) {
  Candidates found;
  const std::string& word = options.device;
  if (is_host(word) || options.gpu_layers == 0) return found;
  const auto allowed = [&](const Device& device) {
    return wish.devices.empty() ||
           std::ranges::any_of(wish.devices, [&](const DeviceId& id) { return names(id.str(), device); });
  };
  if (!wish.devices.empty() &&
      std::ranges::all_of(wish.devices, [](const DeviceId& id) { return is_host(id.str()); })) {
    return found;
  }
  std::vector<DeviceId> others;      // usable, and not what was wished for
  const Device* unusable = nullptr;  // what was wished for
  for (const Device& device : devices) {
    if (device.kind == DeviceKind::kHost) continue;
    const bool wished = names(word, device) && allowed(device);
    if (device.usable) {
      (wished ? found.devices : others).push_back(device.id);
    } else if (wished && (word != "auto" || !wish.devices.empty())) {
      unusable = &device;
    }
  }
  if (!found.devices.empty()) return found;
  const bool is_plain = word == "auto" && wish.devices.empty();
  if (is_plain) return found;
  // Behind a server it will be back; an engine that cannot use it never will.
  if (unusable != nullptr && !unusable->server.empty()) {
    found.missed = unusable->id;
    return found;
  }
  std::string wanted = word;
  if (!wish.devices.empty()) {
    wanted.clear();
    for (const DeviceId& id : wish.devices) wanted += (wanted.empty() ? "" : ", ") + id.str();
  }
  if (unusable != nullptr) {
    found.warning = fmt::format(
        "device {} cannot be used by the engine that was built ({}); it runs on the "
        "host; scripts/bootstrap --gpu {} builds the other one",
        wanted, engine.substr(engine.rfind(' ') + 1), to_string(unusable->kind));
    return found;
  }
  // One that is not there is replaced, unless the owner has listed all that it may use.
  if (wish.devices.empty()) found.devices = std::move(others);
  const std::string place = found.devices.empty()       ? "the host"
                            : found.devices.size() == 1 ? found.devices.front().str()
                                                        : "another one";
  found.warning = fmt::format("device {} is not there; it runs on {}", wanted, place);
  return found;
}

Bytes reserve_on(const PlacementWish& wish, const DeviceId& device) {
  for (const auto& [id, bytes] : wish.reserve) {
    if (id == device) return bytes;
  }
  static const DeviceId kAll("all");
  return wish.reserve.on(kAll);
}

}  // namespace lm::core

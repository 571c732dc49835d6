#include "wire/event_codec.h"

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "wire/utf8.h"

namespace lm::wire {
namespace {

namespace json = boost::json;

template <class T, class Of>
concept Like = std::same_as<std::remove_const_t<T>, Of>;

// ---- the members of each type, by name, read and written by the same words. The bindings name all of them:
// one that is added to a type does not compile until it is named here.

void describe(auto& f, Like<LoadOptions> auto& v) {
  auto& [context, parallel, gpu_layers, batch, threads, kv_type, device, pooling, mmap, split, shares] = v;
  f("context", context)("parallel", parallel)("gpu_layers", gpu_layers)("batch", batch)("threads", threads);
  f("kv_type", kv_type)("device", device)("pooling", pooling)("mmap", mmap);
  f.later("split", split).later("shares", shares);
}
void describe(auto& f, Like<LayerShare> auto& v) {
  auto& [device, layers] = v;
  f("device", device)("layers", layers);
}
void describe(auto& f, Like<PlacementWish> auto& v) {
  auto& [layout, devices, reserve, max_devices] = v;
  f("layout", layout)("devices", devices)("reserve", reserve)("max_devices", max_devices);
}
void describe(auto& f, Like<Extent::Layer> auto& v) {
  auto& [weights, cache] = v;
  f("weights", weights)("cache", cache);
}
void describe(auto& f, Like<Extent> auto& v) {
  auto& [layers, scratch, inputs, pipelined, last_scratch, output_scratch, first, device_context, host,
         host_with_cards, host_scratch, host_pipelined, mapped] = v;
  f("layers", layers)("scratch", scratch)("output_scratch", output_scratch)("first", first);
  f("device_context", device_context)("host", host)("host_with_cards", host_with_cards);
  f("host_scratch", host_scratch)("mapped", mapped);
  f.later("inputs", inputs)
      .later("pipelined", pipelined)
      .later("last_scratch", last_scratch)
      .later("host_pipelined", host_pipelined);
}
void describe(auto& f, Like<Experience> auto& v) {
  auto& [layers, bytes, host] = v;
  f("layers", layers)("bytes", bytes)("host", host);
}
void describe(auto& f, Like<SamplingDefaults> auto& v) {
  auto& [temperature, top_p, min_p, repeat_penalty, top_k, max_tokens] = v;
  f("temperature", temperature)("top_p", top_p)("min_p", min_p)("repeat_penalty", repeat_penalty);
  f("top_k", top_k)("max_tokens", max_tokens);
}
void describe(auto& f, Like<Artifact> auto& v) {
  auto& [path, projector, size, fingerprint, modified_s] = v;
  f("path", path)("projector", projector)("size", size)("fingerprint", fingerprint);
  f.later("modified_s", modified_s);
}
void describe(auto& f, Like<ModelPolicy> auto& v) {
  auto& [pinned, keep_alive, weight, priority] = v;
  f("pinned", pinned)("keep_alive", keep_alive)("weight", weight).later("priority", priority);
}
void describe(auto& f, Like<Remote> auto& v) {
  auto& [upstream, name] = v;
  f("upstream", upstream)("name", name);
}
void describe(auto& f, Like<Error> auto& v) {
  auto& [code, message, reason, fields, retry_after] = v;
  f("code", code)("message", message)("reason", reason)("fields", fields)("retry_after", retry_after);
}
void describe(auto& f, Like<Model> auto& v) {
  auto& [id, aliases, kind, family, artifact, remote, load, placement, sampling, policy, origin, problem] = v;
  f("id", id)("aliases", aliases)("kind", kind)("family", family)("artifact", artifact)("remote", remote);
  f("load", load)
      .later("placement", placement)("sampling", sampling)("policy", policy)("origin", origin)("problem",
                                                                                               problem);
}
void describe(auto& f, Like<Upstream> auto& v) {
  auto& [id, family, shares_devices, url] = v;
  f("id", id)("family", family)("shares_devices", shares_devices).address("url", url);
}
void describe(auto& f, Like<Resident> auto& v) {
  auto& [name, kind, bytes, accelerated] = v;
  f("name", name)("kind", kind)("bytes", bytes)("accelerated", accelerated);
}
void describe(auto& f, Like<Footprint> auto& v) {
  auto& [bytes, source] = v;
  f("bytes", bytes)("source", source);
}
void describe(auto& f, Like<Holder> auto& v) {
  auto& [pid, name, bytes] = v;
  f("pid", pid)("name", name)("bytes", bytes);
}
void describe(auto& f, Like<Device> auto& v) {
  auto& [id, kind, name, capacity, headroom, limit, driver, display, is_part, usable, server, number] = v;
  f("id", id)("kind", kind)("name", name)("capacity", capacity)("headroom", headroom)("limit", limit);
  f("driver", driver)("display", display)("is_part", is_part);
  f.later("usable", usable).later("server", server).later("number", number);
}
void describe(auto& f, Like<DeviceReading> auto& v) {
  auto& [device, capacity, free, holders, per_process, unknown, utilization, celsius, milliwatts] = v;
  f("device", device)("capacity", capacity)("free", free)("holders", holders)("per_process", per_process);
  f("unknown", unknown)("utilization", utilization)("celsius", celsius)("milliwatts", milliwatts);
}
void describe(auto& f, Like<ProcessUse> auto& v) {
  auto& [instance, held, reclaimable] = v;
  f("instance", instance)("held", held)("reclaimable", reclaimable);
}
void describe(auto& f, Like<Settings::Residency> auto& v) {
  auto& [mode, linger, max_loaded, keep_alive, keep_alive_limit] = v;
  f("mode", mode)("linger", linger)("max_loaded", max_loaded)("keep_alive", keep_alive);
  f.later("keep_alive_limit", keep_alive_limit);
}
void describe(auto& f, Like<Settings::Scheduling> auto& v) {
  auto& [policy, quantum_min, quantum_factor, cap_interactive, cap_batch, wait_interactive, wait_batch, drain,
         queue_per_model, queue_total] = v;
  f("policy", policy)("quantum_min", quantum_min)("quantum_factor", quantum_factor)("age_cap_interactive",
                                                                                    cap_interactive);
  f("age_cap_batch", cap_batch)("wait_interactive", wait_interactive)("wait_batch", wait_batch);
  f("drain", drain)("queue_per_model", queue_per_model)("queue_total", queue_total);
}
void describe(auto& f, Like<Settings::Limits> auto& v) {
  auto& [drain_unload, drain_evict, stop_grace, release_cap, yield, load_silence, retry_first, retry_most] =
      v;
  f("drain_unload", drain_unload)("drain_evict", drain_evict)("stop_grace", stop_grace);
  f("release_cap", release_cap)("yield", yield)("load_silence", load_silence);
  f("retry_first", retry_first)("retry_most", retry_most);
}
void describe(auto& f, Like<Settings> auto& v) {
  auto& [residency, scheduling, limits] = v;
  f("residency", residency)("scheduling", scheduling)("limits", limits);
}
void describe(auto& f, Like<DesiredRestored::Hold> auto& v) {
  auto& [model, who, unix_ms] = v;
  f("model", model)("who", who)("unix_ms", unix_ms);
}

void describe(auto& f, Like<RequestArrived> auto& v) {
  auto& [request, model, priority, deadline, preemptible, weight] = v;
  f("request", request)("model", model)("priority", priority)("deadline", deadline);
  f("preemptible", preemptible).later("weight", weight);
}
void describe(auto& f, Like<RequestCancelled> auto& v) {
  auto& [request] = v;
  f("request", request);
}
void describe(auto& f, Like<AnswerBegan> auto& v) {
  auto& [request] = v;
  f("request", request);
}
void describe(auto& f, Like<LeaseReleased> auto& v) {
  auto& [request] = v;
  f("request", request);
}
void describe(auto& f, Like<RequestPreempted> auto& v) {
  auto& [request] = v;
  f("request", request);
}
void describe(auto& f, Like<KeepAliveAsked> auto& v) {
  auto& [model, keep_alive] = v;
  f("model", model)("keep_alive", keep_alive);
}
void describe(auto& f, Like<LoadWanted> auto& v) {
  auto& [job, model, who, force] = v;
  f("job", job)("model", model)("who", who)("force", force);
}
void describe(auto& f, Like<UnloadWanted> auto& v) {
  auto& [job, model, who, hold, unix_ms] = v;
  f("job", job)("model", model)("who", who)("hold", hold)("unix_ms", unix_ms);
}
void describe(auto& f, Like<PinChanged> auto& v) {
  auto& [job, model, pinned] = v;
  f("job", job)("model", model)("pinned", pinned);
}
void describe(auto& f, Like<SwitchWanted> auto& v) {
  auto& [job, model, who] = v;
  f("job", job)("model", model)("who", who);
}
void describe(auto& f, Like<JobAbandoned> auto& v) {
  auto& [job] = v;
  f("job", job);
}
void describe(auto& f, Like<FootprintPredicted> auto& v) {
  auto& [instance, generation, footprint, error, extent, known] = v;
  f("instance", instance)("generation", generation)("footprint", footprint)("error", error);
  f("extent", extent).later("known", known);
}
void describe(auto& f, Like<WorkerTaken> auto& v) {
  auto& [instance, generation, pid] = v;
  f("instance", instance)("generation", generation)("pid", pid);
}
void describe(auto& f, Like<LoadProgressed> auto& v) {
  auto& [instance, generation, stage, fraction] = v;
  f("instance", instance)("generation", generation)("stage", stage)("fraction", fraction);
}
void describe(auto& f, Like<LoadSucceeded> auto& v) {
  auto& [instance, generation, held, reclaimable, slots, context, took] = v;
  f("instance", instance)("generation", generation)("held", held)("reclaimable", reclaimable);
  f("slots", slots)("context", context)("took", took);
}
void describe(auto& f, Like<LoadFailed> auto& v) {
  auto& [instance, generation, error] = v;
  f("instance", instance)("generation", generation)("error", error);
}
void describe(auto& f, Like<WorkerExited> auto& v) {
  auto& [instance, generation, how, held_before, reclaimable_before, error] = v;
  f("instance", instance)("generation", generation)("how", how)("held_before", held_before);
  f("reclaimable_before", reclaimable_before)("error", error);
}
void describe(auto& f, Like<UpstreamYielded> auto& v) {
  auto& [instance, generation, error] = v;
  f("instance", instance)("generation", generation)("error", error);
}
void describe(auto& f, Like<UpstreamLoaded> auto& v) {
  auto& [instance, generation, model, error] = v;
  f("instance", instance)("generation", generation)("model", model)("error", error);
}
void describe(auto& f, Like<UpstreamSeen> auto& v) {
  auto& [upstream, reachable, tells_residents, residents, held, measured, runs] = v;
  f("upstream", upstream)("reachable", reachable)("tells_residents", tells_residents);
  f("residents", residents)("held", held)("measured", measured).later("runs", runs);
}
void describe(auto& f, Like<ReleaseMeasured> auto& v) {
  auto& [instance, generation, residual, holders, devices, method, complete] = v;
  f("instance", instance)("generation", generation)("residual", residual)("holders", holders);
  f("devices", devices)("method", method)("complete", complete);
}
void describe(auto& f, Like<MemoryMeasured> auto& v) {
  auto& [devices, instances] = v;
  f("devices", devices)("instances", instances);
}
void describe(auto& f, Like<StatesKept> auto& v) {
  auto& [memory] = v;
  f("memory", memory);
}
void describe(auto& f, Like<ModelsChanged> auto& v) {
  auto& [models, upstreams] = v;
  f("models", models)("upstreams", upstreams);
}
void describe(auto& f, Like<SettingsChanged> auto& v) {
  auto& [settings, devices] = v;
  f("settings", settings)("devices", devices);
}
void describe(auto& f, Like<DesiredRestored> auto& v) {
  auto& [holds, pins, last_switch] = v;
  f("holds", holds)("pins", pins).later("last_switch", last_switch);
}
void describe(auto&, Like<TimerFired> auto&) {}
void describe(auto& f, Like<ShutdownBegan> auto& v) {
  auto& [deadline] = v;
  f("deadline", deadline);
}

// ---- enumerators, by their names

constexpr ModelKind last_of(ModelKind) {
  return ModelKind::kRerank;
}
constexpr Family last_of(Family) {
  return Family::kOpenai;
}
constexpr FootprintSource last_of(FootprintSource) {
  return FootprintSource::kMeasured;
}
constexpr DeviceKind last_of(DeviceKind) {
  return DeviceKind::kOther;
}
constexpr Split last_of(Split) {
  return Split::kRow;
}
constexpr Layout last_of(Layout) {
  return Layout::kGuideFromFive;
}
constexpr PriorityClass last_of(PriorityClass) {
  return PriorityClass::kBatch;
}
constexpr LoadStage last_of(LoadStage) {
  return LoadStage::kReady;
}
constexpr ErrorCode last_of(ErrorCode) {
  return static_cast<ErrorCode>(kErrorCodeCount - 1);
}
constexpr ResidencyMode last_of(ResidencyMode) {
  return ResidencyMode::kFit;
}
constexpr SchedulingPolicy last_of(SchedulingPolicy) {
  return SchedulingPolicy::kFifo;
}

std::string_view to_string(ResidencyMode mode) {
  return mode == ResidencyMode::kFit ? "fit" : "exclusive";
}
using lm::to_string;

// ---- what kind of value a type is

template <class T, template <class...> class Of>
constexpr bool kIs = false;
template <template <class...> class Of, class... Of_what>
constexpr bool kIs<Of<Of_what...>, Of> = true;

template <class T>
concept Optional = kIs<T, std::optional>;
template <class T>
concept List = kIs<T, std::vector>;
template <class T>
concept Id = kIs<T, StrongId>;
template <class T>
concept Name = kIs<T, StrongName>;

// scheme://user:password@host/path?query, without what is between // and @ and behind ?.
std::string without_secrets(std::string_view address) {
  address = address.substr(0, address.find_first_of("?#"));
  const std::size_t scheme = address.find("://");
  const std::size_t host = scheme == std::string_view::npos ? 0 : scheme + 3;
  const std::size_t at = address.substr(host, address.find('/', host) - host).rfind('@');
  if (at == std::string_view::npos) return std::string(address);
  return std::string(address.substr(0, host)) + std::string(address.substr(host + at + 1));
}

class Writer {
 public:
  explicit Writer(json::object& into) : into_(into) {}

  template <class T>
  Writer& operator()(std::string_view key, const T& value) {
    if constexpr (Optional<T>) {
      if (value) into_[key] = json_of(*value);
    } else {
      into_[key] = json_of(value);
    }
    return *this;
  }
  // What recordings of earlier versions do not have.
  template <class T>
  Writer& later(std::string_view key, const T& value) {
    return (*this)(key, value);
  }
  Writer& address(std::string_view key, const std::string& value) {
    return (*this)(key, without_secrets(value));
  }

 private:
  template <class T>
  static json::value json_of(const T& value) {
    if constexpr (std::same_as<T, bool>) {
      return value;
    } else if constexpr (std::integral<T>) {
      return static_cast<std::int64_t>(value);
    } else if constexpr (std::floating_point<T>) {
      // Boost.JSON may read another number than was written; a replay decides by these.
      std::array<char, 64> text{};
      return json::string(text.data(), std::to_chars(text.begin(), text.end(), value).ptr);
    } else if constexpr (std::same_as<T, std::string>) {
      return json::string(utf8(value));
    } else if constexpr (std::same_as<T, std::filesystem::path>) {
      return json::string(utf8(value.native()));
    } else if constexpr (std::same_as<T, Bytes> || std::same_as<T, Duration>) {
      return static_cast<std::int64_t>(value.count());
    } else if constexpr (std::same_as<T, TimePoint>) {
      return static_cast<std::int64_t>(value.time_since_epoch().count());
    } else if constexpr (Id<T>) {
      return static_cast<std::int64_t>(value.value());
    } else if constexpr (Name<T>) {
      return json::string(utf8(value.str()));
    } else if constexpr (std::is_enum_v<T>) {
      return json::string(to_string(value));
    } else if constexpr (std::same_as<T, DeviceBytes>) {
      json::object out;
      for (const auto& [device, bytes] : value) out[utf8(device.str())] = bytes.count();
      return out;
    } else if constexpr (std::same_as<T, Error::Field>) {
      return json::array{json::string(utf8(value.first)),
                         std::visit([](const auto& v) { return json_of(v); }, value.second)};
    } else if constexpr (List<T>) {
      json::array out;
      for (const auto& element : value) out.push_back(json_of(element));
      return out;
    } else {
      json::object out;
      Writer inner(out);
      describe(inner, value);
      return out;
    }
  }

  json::object& into_;
};

// Reads the members of one object. The first that is wrong is remembered and told in the end.
class Reader {
 public:
  Reader(const json::object& from, std::string& wrong) : from_(from), wrong_(wrong) {}

  template <class T>
  Reader& operator()(std::string_view key, T& value) {
    const json::value* found = from_.if_contains(key);
    bool good = false;
    if constexpr (Optional<T>) {
      good = found == nullptr || read(*found, value.emplace());
      if (found == nullptr) value.reset();
    } else {
      good = found != nullptr && read(*found, value);
    }
    if (!good && wrong_.empty()) wrong_ = key;
    return *this;
  }
  template <class T>
  Reader& later(std::string_view key, T& value) {
    return from_.if_contains(key) == nullptr ? *this : (*this)(key, value);
  }
  Reader& address(std::string_view key, std::string& value) { return (*this)(key, value); }

 private:
  template <std::integral T>
  static bool read_integer(const json::value& from, T& value) {
    const auto* number = from.if_int64();
    if (number == nullptr || !std::in_range<T>(*number)) return false;
    value = static_cast<T>(*number);
    return true;
  }

  static bool read_text(const json::value& from, std::string& value) {
    const auto* text = from.if_string();
    if (text == nullptr) return false;
    value.assign(text->data(), text->size());
    return true;
  }

  template <class T>
  bool read_members(const json::value& from, T& value) {
    const auto* object = from.if_object();
    if (object == nullptr) return false;
    Reader inner(*object, wrong_);
    describe(inner, value);
    return wrong_.empty();
  }

  template <class T>
  bool read(const json::value& from, T& value) {
    if constexpr (std::same_as<T, bool>) {
      const bool* known = from.if_bool();
      if (known != nullptr) value = *known;
      return known != nullptr;
    } else if constexpr (std::integral<T>) {
      return read_integer(from, value);
    } else if constexpr (std::floating_point<T>) {
      std::string text;
      if (!read_text(from, text)) return false;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
    } else if constexpr (std::same_as<T, std::string>) {
      return read_text(from, value);
    } else if constexpr (std::same_as<T, std::filesystem::path> || Name<T>) {
      std::string text;
      if (!read_text(from, text)) return false;
      value = T(std::move(text));
      return true;
    } else if constexpr (std::same_as<T, Bytes> || std::same_as<T, Duration>) {
      std::int64_t count = 0;
      if (!read_integer(from, count)) return false;
      value = T(count);
      return true;
    } else if constexpr (std::same_as<T, TimePoint>) {
      Duration since{};
      if (!read(from, since)) return false;
      value = TimePoint(since);
      return true;
    } else if constexpr (Id<T>) {
      std::uint64_t number = 0;
      if (!read_integer(from, number)) return false;
      value = T(number);
      return true;
    } else if constexpr (std::is_enum_v<T>) {
      const auto* text = from.if_string();
      for (int i = 0; text != nullptr && i <= static_cast<int>(last_of(T{})); ++i) {
        value = static_cast<T>(i);
        if (to_string(value) == std::string_view(text->data(), text->size())) return true;
      }
      return false;
    } else if constexpr (std::same_as<T, DeviceBytes>) {
      const auto* object = from.if_object();
      if (object == nullptr) return false;
      value = {};
      for (const auto& [device, bytes] : *object) {
        Bytes amount;
        if (!read(bytes, amount)) return false;
        value.set(DeviceId(std::string(device)), amount);
      }
      return true;
    } else if constexpr (std::same_as<T, Error::Field>) {
      const auto* pair = from.if_array();
      if (pair == nullptr || pair->size() != 2 || !read_text((*pair)[0], value.first)) return false;
      if ((*pair)[1].is_string()) return read_text((*pair)[1], value.second.template emplace<std::string>());
      return read_integer((*pair)[1], value.second.template emplace<std::int64_t>());
    } else if constexpr (List<T>) {
      const auto* array = from.if_array();
      if (array == nullptr) return false;
      value.clear();
      for (const json::value& element : *array) {
        if (!read(element, value.emplace_back())) return false;
      }
      return true;
    } else {
      return read_members(from, value);
    }
  }

  const json::object& from_;
  std::string& wrong_;
};

// The event of that name with nothing in it.
template <std::size_t... I>
std::optional<Event> event_named(std::string_view name, std::index_sequence<I...>) {
  std::optional<Event> found;
  const auto consider = [&](Event event) {
    if (name_of(event) == name) found = std::move(event);
  };
  (consider(Event(std::in_place_index<I>)), ...);
  return found;
}

std::unexpected<Error> no_event(std::string why) {
  return fail(ErrorCode::kInvalidArgument, "no recorded event: " + std::move(why), "invalid_event");
}

}  // namespace

std::string encode(const Event& event, TimePoint at) {
  json::object line;
  Writer writer(line);
  writer("at", at)("event", std::string(name_of(event)));
  std::visit([&](const auto& e) { describe(writer, e); }, event);
  return json::serialize(line) + "\n";
}

Result<RecordedEvent> decode_event(std::string_view line) {
  json::error_code error;
  const json::value parsed = json::parse(json::string_view(line.data(), line.size()), error);
  const auto* object = error ? nullptr : parsed.if_object();
  if (object == nullptr) return no_event(error ? error.message() : "no JSON object");
  RecordedEvent recorded;
  std::string wrong;
  std::string name;
  Reader reader(*object, wrong);
  reader("at", recorded.at)("event", name);
  if (!wrong.empty()) return no_event(fmt::format("\"{}\" is missing or wrong", wrong));
  auto event = event_named(name, std::make_index_sequence<std::variant_size_v<Event>>());
  if (!event) return no_event(fmt::format("this version knows no {}", name));
  recorded.event = *std::move(event);
  std::visit([&](auto& e) { describe(reader, e); }, recorded.event);
  if (!wrong.empty()) return no_event(fmt::format("\"{}\" of {} is missing or wrong", wrong, name));
  return recorded;
}

}  // namespace lm::wire

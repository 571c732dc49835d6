#include "wire/codec.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include <boost/json.hpp>

#include "wire/utf8.h"

namespace lm::wire {
namespace {

namespace json = boost::json;

// ---- values to JSON

json::value number(Bytes bytes) {
  return bytes.count();
}

template <class T>
void put(json::object& object, std::string_view key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}

json::object to_json(const LoadOptions& options) {
  json::object out;
  put(out, "context", options.context);
  put(out, "parallel", options.parallel);
  put(out, "gpu_layers", options.gpu_layers);
  put(out, "batch", options.batch);
  put(out, "threads", options.threads);
  out["kv_type"] = utf8(options.kv_type);
  out["device"] = utf8(options.device);
  out["pooling"] = utf8(options.pooling);
  out["mmap"] = options.mmap;
  out["split"] = to_string(options.split);
  json::array shares;
  for (const LayerShare& share : options.shares)
    shares.push_back(json::object{{"device", utf8(share.device.str())}, {"layers", share.layers}});
  out["shares"] = std::move(shares);
  return out;
}

json::object to_json(const SamplingDefaults& sampling) {
  json::object out;
  put(out, "temperature", sampling.temperature);
  put(out, "top_p", sampling.top_p);
  put(out, "min_p", sampling.min_p);
  put(out, "repeat_penalty", sampling.repeat_penalty);
  put(out, "top_k", sampling.top_k);
  put(out, "max_tokens", sampling.max_tokens);
  return out;
}

json::array to_json(const std::vector<DeviceMemory>& memory) {
  json::array out;
  for (const auto& m : memory) {
    out.push_back(json::object{{"device", utf8(m.device.str())},
                               {"weights", number(m.weights)},
                               {"mapped", number(m.mapped)},
                               {"context", number(m.context)},
                               {"compute", number(m.compute)}});
  }
  return out;
}

json::object to_json(const Error& error) {
  json::object fields;
  for (const auto& [name, value] : error.fields) {
    std::visit(
        [&](const auto& v) {
          if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::string>) {
            fields[utf8(name)] = utf8(v);
          } else {
            fields[utf8(name)] = v;
          }
        },
        value);
  }
  json::object out{{"code", to_string(error.code)},
                   {"message", utf8(error.message)},
                   {"reason", utf8(error.reason)},
                   {"fields", std::move(fields)}};
  if (error.retry_after) out["retry_after"] = seconds(*error.retry_after);
  return out;
}

// A JSON number has 53 good bits at most readers.
std::string hexadecimal(std::uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += kDigits[(value >> shift) & 15];
  return out;
}

json::array to_json(const std::vector<SlotState>& states) {
  json::array out;
  for (const SlotState& s : states) {
    out.push_back(json::object{{"file", utf8(s.file.native())},
                               {"tokens", s.tokens},
                               {"token_sum", hexadecimal(s.token_sum)},
                               {"size", number(s.size)},
                               {"sum", hexadecimal(s.sum)}});
  }
  return out;
}

json::array to_json(const std::vector<RpcDevice>& devices) {
  json::array out;
  for (const RpcDevice& d : devices)
    out.push_back(json::object{{"id", utf8(d.id.str())}, {"server", utf8(d.server)}, {"number", d.number}});
  return out;
}

// Layers as pairs: there may be hundreds.
json::object to_json(const Extent& e) {
  json::array layers;
  for (const Extent::Layer& layer : e.layers)
    layers.push_back(json::array{layer.weights.count(), layer.cache.count()});
  return {{"layers", std::move(layers)},
          {"scratch", number(e.scratch)},
          {"inputs", number(e.inputs)},
          {"pipelined", number(e.pipelined)},
          {"last_scratch", number(e.last_scratch)},
          {"output_scratch", number(e.output_scratch)},
          {"first", number(e.first)},
          {"device_context", number(e.device_context)},
          {"host", number(e.host)},
          {"host_with_cards", number(e.host_with_cards)},
          {"host_scratch", number(e.host_scratch)},
          {"host_pipelined", number(e.host_pipelined)},
          {"mapped", e.mapped}};
}

json::array to_json(const std::vector<std::string>& texts) {
  json::array out;
  for (const std::string& text : texts) out.push_back(json::string(utf8(text)));
  return out;
}

json::object to_json(const Load& m) {
  return {{"kind", "load"},
          {"generation", m.generation.value()},
          {"model_kind", to_string(m.kind)},
          {"path", utf8(m.path.native())},
          {"projector", utf8(m.projector.native())},
          {"options", to_json(m.options)},
          {"alias", utf8(m.alias)},
          {"sampling", to_json(m.sampling)},
          {"rpc", to_json(m.rpc)},
          {"states", to_json(m.states)}};
}

json::object to_json(const Inspect& m) {
  return {{"kind", "inspect"},
          {"id", m.id},
          {"path", utf8(m.path.native())},
          {"projector", utf8(m.projector.native())},
          {"options", to_json(m.options)},
          {"exact", m.exact}};
}

json::object to_json(const ListDevices& m) {
  return {{"kind", "list_devices"}, {"servers", to_json(m.servers)}};
}
json::object to_json(const SaveStates& m) {
  json::array places;
  for (const StatePlace& place : m.places)
    places.push_back(json::object{{"folder", utf8(place.folder.native())}, {"limit", number(place.limit)}});
  return {{"kind", "save_states"},
          {"id", m.id},
          {"name", utf8(m.name)},
          {"places", std::move(places)},
          {"least_tokens", m.least_tokens}};
}
json::object to_json(const CancelSave& m) {
  return {{"kind", "cancel_save"}, {"id", m.id}};
}
json::object to_json(const Shutdown&) {
  return {{"kind", "shutdown"}};
}

json::object to_json(const Hello& m) {
  return {{"kind", "hello"},          {"protocol", m.protocol},
          {"engine", utf8(m.engine)}, {"variant", utf8(m.variant)},
          {"build", utf8(m.build)},   {"pid", m.pid}};
}

json::object to_json(const Progress& m) {
  return {{"kind", "progress"},
          {"generation", m.generation.value()},
          {"stage", to_string(m.stage)},
          {"fraction", m.fraction}};
}

json::object to_json(const Ready& m) {
  const auto& c = m.capabilities;
  json::array phases;
  for (const auto& phase : m.phases) phases.push_back(json::array{utf8(phase.name), seconds(phase.took)});
  return {{"kind", "ready"},
          {"generation", m.generation.value()},
          {"model_kind", to_string(m.kind)},
          {"memory", to_json(m.memory)},
          {"slots", m.slots},
          {"context", m.context},
          {"slot_context", m.slot_context},
          {"context_train", m.context_train},
          {"capabilities", json::object{{"chat", c.chat},
                                        {"tools", c.tools},
                                        {"vision", c.vision},
                                        {"audio", c.audio},
                                        {"embeddings", c.embeddings},
                                        {"rerank", c.rerank}}},
          {"keeps_states", m.keeps_states},
          {"phases", std::move(phases)}};
}

json::object to_json(const Failed& m) {
  return {{"kind", "failed"},
          {"generation", m.generation.value()},
          {"inspection", m.inspection},
          {"error", to_json(m.error)}};
}

json::object to_json(const Inspecting& m) {
  return {{"kind", "inspecting"}, {"inspection", m.inspection}, {"step", to_string(m.step)}};
}

json::object to_json(const Inspected& m) {
  json::value extent;
  if (m.extent) extent = to_json(*m.extent);
  return {{"kind", "inspected"},
          {"inspection", m.inspection},
          {"fingerprint", utf8(m.fingerprint)},
          {"name", utf8(m.name)},
          {"architecture", utf8(m.architecture)},
          {"quantization", utf8(m.quantization)},
          {"parameters", m.parameters},
          {"size", number(m.size)},
          {"parts", m.parts},
          {"layers", m.layers},
          {"context_train", m.context_train},
          {"embedding_length", m.embedding_length},
          {"vocabulary", m.vocabulary},
          {"pooling", utf8(m.pooling)},
          {"model_kind", to_string(m.kind)},
          {"chat_template", utf8(m.chat_template)},
          {"keeps_conversations", m.keeps_conversations},
          {"conversations", utf8(m.conversations)},
          {"predicted", to_json(m.predicted)},
          {"extent", std::move(extent)},
          {"exact", m.exact}};
}

json::object to_json(const Restored& m) {
  json::array refused;
  for (const auto& file : m.refused) refused.push_back(json::string(utf8(file.native())));
  return {{"kind", "restored"},     {"generation", m.generation.value()}, {"slots", m.slots},
          {"tokens", m.tokens},     {"refused", std::move(refused)},      {"wrong", to_json(m.wrong)},
          {"took", seconds(m.took)}};
}

json::object to_json(const StatesSaved& m) {
  json::array resumptions;
  for (const Resumption& r : m.resumptions)
    resumptions.push_back(json::object{{"restored", r.restored}, {"shared", r.shared}, {"reused", r.reused}});
  return {{"kind", "states_saved"},       {"id", m.id},
          {"complete", m.complete},       {"slots", to_json(m.slots)},
          {"wrong", to_json(m.wrong)},    {"resumptions", std::move(resumptions)},
          {"prompt_rate", m.prompt_rate}, {"took", seconds(m.took)}};
}

json::object to_json(const DevicesListed& m) {
  json::array devices;
  for (const auto& d : m.devices) {
    devices.push_back(json::object{{"id", utf8(d.id.str())},
                                   {"kind", to_string(d.kind)},
                                   {"name", utf8(d.name)},
                                   {"capacity", number(d.capacity)},
                                   {"free", number(d.free)},
                                   {"bus", utf8(d.bus)},
                                   {"server", utf8(d.server)},
                                   {"number", d.number}});
  }
  json::array missing;
  for (const auto& gone : m.missing)
    missing.push_back(json::object{{"server", utf8(gone.server)}, {"why", utf8(gone.why)}});
  return {{"kind", "devices_listed"}, {"devices", std::move(devices)}, {"missing", std::move(missing)}};
}

template <class Variant>
std::string line_of(const Variant& message) {
  std::string line = json::serialize(std::visit([](const auto& m) { return to_json(m); }, message));
  line += '\n';
  return line;
}

// ---- JSON to values

constexpr std::size_t kMostElements = 4096;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 60;

// Reads the fields of one object. The first field that is wrong is remembered, all later reads give defaults,
// and finish() tells it: so a message's reading has no branch for each field.
class Reader {
 public:
  Reader(const json::object& object, std::string where) : object_(&object), where_(std::move(where)) {}

  std::int64_t integer(std::string_view key, std::int64_t least, std::int64_t most) {
    const auto* value = find(key);
    return value ? integer_of(*value, key, least, most) : 0;
  }
  int small(std::string_view key, int least = 0, int most = std::numeric_limits<int>::max()) {
    return static_cast<int>(integer(key, least, most));
  }
  std::uint64_t id(std::string_view key) {
    return static_cast<std::uint64_t>(integer(key, 0, std::numeric_limits<std::int64_t>::max()));
  }
  Bytes bytes(std::string_view key) { return Bytes(integer(key, 0, kMostBytes)); }
  Bytes bytes_of(const json::value& value, std::string_view key) {
    return Bytes(integer_of(value, key, 0, kMostBytes));
  }
  bool has(std::string_view key) const {
    const auto* value = object_->if_contains(key);
    return value != nullptr && !value->is_null();
  }
  std::optional<int> optional_small(std::string_view key) {
    const auto* value = object_->if_contains(key);
    if (!value || value->is_null()) return std::nullopt;
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    return static_cast<int>(integer_of(*value, key, -kMost, kMost));
  }
  double real(std::string_view key, double least, double most) {
    const auto* value = find(key);
    return value ? real_of(*value, key, least, most) : 0;
  }
  std::optional<double> optional_real(std::string_view key) {
    const auto* value = object_->if_contains(key);
    if (!value || value->is_null()) return std::nullopt;
    return real_of(*value, key, -1e9, 1e9);
  }
  bool boolean(std::string_view key) {
    const auto* value = find(key);
    if (!value) return false;
    if (const auto* b = value->if_bool()) return *b;
    wrong(key, "is no boolean");
    return false;
  }
  std::string text(std::string_view key) {
    const auto* value = find(key);
    if (!value) return {};
    if (const auto* s = value->if_string()) return std::string(s->data(), s->size());
    wrong(key, "is no string");
    return {};
  }
  std::filesystem::path path(std::string_view key) {
    auto value = text(key);
    if (value.find('\0') != std::string::npos) wrong(key, "contains a zero byte");
    return value;
  }
  // Sixteen hexadecimal digits.
  std::uint64_t hexadecimal(std::string_view key) {
    const std::string digits = text(key);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (error != std::errc() || digits.size() != 16 || end != digits.data() + 16)
      wrong(key, "is no number of sixteen hexadecimal digits");
    return value;
  }
  std::vector<std::string> texts(std::string_view key) {
    std::vector<std::string> out;
    for (const auto& element : array(key)) {
      if (const auto* s = element.if_string()) {
        out.emplace_back(s->data(), s->size());
      } else {
        wrong(key, "has an element that is no string");
      }
    }
    return out;
  }
  // Enumerators 0…last, told by their names.
  template <class Enum>
  Enum one_of(std::string_view key, Enum last) {
    const std::string name = text(key);
    for (int i = 0; i <= static_cast<int>(last); ++i) {
      if (to_string(static_cast<Enum>(i)) == name) return static_cast<Enum>(i);
    }
    wrong(key, "is none of the known words");
    return Enum{};
  }
  const json::object& object(std::string_view key) {
    const auto* value = find(key);
    if (value) {
      if (const auto* o = value->if_object()) return *o;
      wrong(key, "is no object");
    }
    static const json::object none;
    return none;
  }
  const json::array& array(std::string_view key) {
    static const json::array none;
    const auto* value = find(key);
    if (!value) return none;
    const auto* a = value->if_array();
    if (!a) {
      wrong(key, "is no array");
      return none;
    }
    if (a->size() > kMostElements) {
      wrong(key, "has too many elements");
      return none;
    }
    return *a;
  }

  void wrong(std::string_view key, std::string_view how) {
    if (problem_.empty()) problem_ = where_ + "." + std::string(key) + " " + std::string(how);
  }
  // Takes over what is wrong in a part of this object.
  void include(const Reader& part) {
    if (problem_.empty()) problem_ = part.problem_;
  }
  bool good() const { return problem_.empty(); }
  std::string_view where() const { return where_; }
  std::unexpected<Error> failure() const {
    return fail(ErrorCode::kInvalidArgument, "a message on the worker's link cannot be read: " + problem_,
                "bad_message");
  }

  double real_of(const json::value& value, std::string_view key, double least, double most) {
    double x = 0;
    if (const auto* d = value.if_double()) {
      x = *d;
    } else if (const auto* i = value.if_int64()) {
      x = static_cast<double>(*i);
    } else if (const auto* u = value.if_uint64()) {
      x = static_cast<double>(*u);
    } else {
      wrong(key, "is no number");
      return 0;
    }
    if (!std::isfinite(x) || x < least || x > most) {
      wrong(key, "is out of its range");
      return 0;
    }
    return x;
  }

 private:
  const json::value* find(std::string_view key) {
    const auto* value = object_->if_contains(key);
    if (!value) wrong(key, "is missing");
    return value;
  }
  std::int64_t integer_of(const json::value& value, std::string_view key, std::int64_t least,
                          std::int64_t most) {
    std::int64_t n = 0;
    if (const auto* i = value.if_int64()) {
      n = *i;
    } else {
      // An unsigned JSON number is one too large for int64, so it is out of every range here.
      wrong(key, value.is_number() ? "is out of its range" : "is no whole number");
      return 0;
    }
    if (n < least || n > most) {
      wrong(key, "is out of its range");
      return 0;
    }
    return n;
  }
  const json::object* object_;
  std::string where_;
  std::string problem_;
};

// Runs `read(Reader&)` on each element of an array of objects.
template <class Read>
void each(Reader& reader, std::string_view key, Read read) {
  for (const auto& element : reader.array(key)) {
    const auto* object = element.if_object();
    if (!object) {
      reader.wrong(key, "has an element that is no object");
      return;
    }
    Reader part(*object, std::string(reader.where()) + "." + std::string(key));
    read(part);
    reader.include(part);
    if (!reader.good()) return;
  }
}

LoadOptions read_options(Reader& outer) {
  Reader r(outer.object("options"), "options");
  LoadOptions o;
  if (!outer.good()) return o;
  o.context = r.optional_small("context");
  o.parallel = r.optional_small("parallel");
  o.gpu_layers = r.optional_small("gpu_layers");
  o.batch = r.optional_small("batch");
  o.threads = r.optional_small("threads");
  o.kv_type = r.text("kv_type");
  o.device = r.text("device");
  o.pooling = r.text("pooling");
  o.mmap = r.boolean("mmap");
  o.split = r.one_of("split", Split::kRow);
  each(r, "shares", [&](Reader& part) {
    LayerShare share;
    share.device = DeviceId(part.text("device"));
    share.layers = part.small("layers");
    o.shares.push_back(std::move(share));
  });
  outer.include(r);
  return o;
}

SamplingDefaults read_sampling(Reader& outer) {
  Reader r(outer.object("sampling"), "sampling");
  SamplingDefaults s;
  if (!outer.good()) return s;
  s.temperature = r.optional_real("temperature");
  s.top_p = r.optional_real("top_p");
  s.min_p = r.optional_real("min_p");
  s.repeat_penalty = r.optional_real("repeat_penalty");
  s.top_k = r.optional_small("top_k");
  s.max_tokens = r.optional_small("max_tokens");
  outer.include(r);
  return s;
}

std::vector<DeviceMemory> read_memory(Reader& outer, std::string_view key) {
  std::vector<DeviceMemory> out;
  each(outer, key, [&](Reader& r) {
    DeviceMemory m;
    m.device = DeviceId(r.text("device"));
    m.weights = r.bytes("weights");
    m.mapped = r.bytes("mapped");
    m.context = r.bytes("context");
    m.compute = r.bytes("compute");
    out.push_back(std::move(m));
  });
  return out;
}

Error read_error(Reader& outer) {
  Reader r(outer.object("error"), "error");
  Error e;
  if (!outer.good()) return e;
  const auto code = error_code_from_string(r.text("code"));
  // A later version's code is an error all the same; what it is about stands in reason and message.
  e.code = code.value_or(ErrorCode::kInternal);
  e.message = r.text("message");
  e.reason = r.text("reason");
  const auto& fields = r.object("fields");
  if (fields.size() > 64) r.wrong("fields", "has too many elements");
  for (const auto& [name, value] : fields) {
    if (!r.good()) break;
    if (const auto* i = value.if_int64()) {
      e.fields.emplace_back(std::string(name), *i);
    } else if (const auto* s = value.if_string()) {
      e.fields.emplace_back(std::string(name), std::string(s->data(), s->size()));
    } else {
      r.wrong("fields", "has one that is neither a whole number nor a string");
    }
  }
  if (const auto* after = outer.object("error").if_contains("retry_after"); after && !after->is_null()) {
    e.retry_after = from_seconds(r.real("retry_after", 0, 1e9));
  }
  outer.include(r);
  return e;
}

std::vector<SlotState> read_states(Reader& outer, std::string_view key) {
  std::vector<SlotState> out;
  each(outer, key, [&](Reader& r) {
    SlotState s;
    s.file = r.path("file");
    s.tokens = r.small("tokens");
    s.token_sum = r.hexadecimal("token_sum");
    s.size = r.bytes("size");
    s.sum = r.hexadecimal("sum");
    out.push_back(std::move(s));
  });
  return out;
}

std::optional<Extent> read_extent(Reader& outer) {
  if (!outer.has("extent")) return std::nullopt;
  Reader r(outer.object("extent"), "extent");
  Extent e;
  for (const auto& element : r.array("layers")) {
    const auto* pair = element.if_array();
    if (!pair || pair->size() != 2) {
      r.wrong("layers", "has an element that is no pair of amounts");
      break;
    }
    e.layers.push_back({r.bytes_of((*pair)[0], "layers"), r.bytes_of((*pair)[1], "layers")});
  }
  e.scratch = r.bytes("scratch");
  e.inputs = r.bytes("inputs");
  e.pipelined = r.bytes("pipelined");
  e.last_scratch = r.bytes("last_scratch");
  e.output_scratch = r.bytes("output_scratch");
  e.first = r.bytes("first");
  e.device_context = r.bytes("device_context");
  e.host = r.bytes("host");
  e.host_with_cards = r.bytes("host_with_cards");
  e.host_scratch = r.bytes("host_scratch");
  e.host_pipelined = r.bytes("host_pipelined");
  e.mapped = r.boolean("mapped");
  outer.include(r);
  return e;
}

SaveStates read_save_states(Reader& r) {
  SaveStates m;
  m.id = r.id("id");
  m.name = r.text("name");
  each(r, "places", [&](Reader& p) {
    StatePlace place;
    place.folder = p.path("folder");
    place.limit = p.bytes("limit");
    m.places.push_back(std::move(place));
  });
  m.least_tokens = r.small("least_tokens");
  return m;
}

CancelSave read_cancel_save(Reader& r) {
  return {.id = r.id("id")};
}

Restored read_restored(Reader& r) {
  Restored m;
  m.generation = Generation(r.id("generation"));
  m.slots = r.small("slots");
  m.tokens = r.small("tokens");
  for (std::string& file : r.texts("refused")) m.refused.emplace_back(std::move(file));
  m.wrong = r.texts("wrong");
  m.took = from_seconds(r.real("took", 0, 1e9));
  return m;
}

StatesSaved read_states_saved(Reader& r) {
  StatesSaved m;
  m.id = r.id("id");
  m.complete = r.boolean("complete");
  m.slots = read_states(r, "slots");
  m.wrong = r.texts("wrong");
  each(r, "resumptions", [&](Reader& part) {
    Resumption resumption;
    resumption.restored = part.small("restored");
    resumption.shared = part.small("shared");
    resumption.reused = part.small("reused");
    m.resumptions.push_back(resumption);
  });
  m.prompt_rate = r.real("prompt_rate", 0, 1e12);
  m.took = from_seconds(r.real("took", 0, 1e9));
  return m;
}

Load read_load(Reader& r) {
  Load m;
  m.generation = Generation(r.id("generation"));
  m.kind = r.one_of("model_kind", ModelKind::kRerank);
  m.path = r.path("path");
  m.projector = r.path("projector");
  m.options = read_options(r);
  m.alias = r.text("alias");
  m.sampling = read_sampling(r);
  each(r, "rpc", [&](Reader& part) {
    RpcDevice device;
    device.id = DeviceId(part.text("id"));
    device.server = part.text("server");
    device.number = part.small("number");
    m.rpc.push_back(std::move(device));
  });
  m.states = read_states(r, "states");
  return m;
}

Inspect read_inspect(Reader& r) {
  Inspect m;
  m.id = r.id("id");
  m.path = r.path("path");
  m.projector = r.path("projector");
  m.options = read_options(r);
  m.exact = r.boolean("exact");
  return m;
}

Hello read_hello(Reader& r) {
  Hello m;
  m.protocol = r.small("protocol");
  m.engine = r.text("engine");
  m.variant = r.text("variant");
  m.build = r.text("build");
  m.pid = r.small("pid", 1);
  return m;
}

Progress read_progress(Reader& r) {
  Progress m;
  m.generation = Generation(r.id("generation"));
  m.stage = r.one_of("stage", LoadStage::kReady);
  m.fraction = r.real("fraction", 0, 1);
  return m;
}

Ready read_ready(Reader& r) {
  Ready m;
  m.generation = Generation(r.id("generation"));
  m.kind = r.one_of("model_kind", ModelKind::kRerank);
  m.memory = read_memory(r, "memory");
  m.slots = r.small("slots", 1);
  m.context = r.small("context");
  m.slot_context = r.small("slot_context");
  m.context_train = r.small("context_train");
  Reader c(r.object("capabilities"), "capabilities");
  if (r.good()) {
    m.capabilities = {.chat = c.boolean("chat"),
                      .tools = c.boolean("tools"),
                      .vision = c.boolean("vision"),
                      .audio = c.boolean("audio"),
                      .embeddings = c.boolean("embeddings"),
                      .rerank = c.boolean("rerank")};
    r.include(c);
  }
  m.keeps_states = r.boolean("keeps_states");
  for (const auto& element : r.array("phases")) {
    const auto* pair = element.if_array();
    const auto* name = pair && pair->size() == 2 ? (*pair)[0].if_string() : nullptr;
    if (!name) {
      r.wrong("phases", "has an element that is no pair of a name and seconds");
      break;
    }
    const double took = r.real_of((*pair)[1], "phases", 0, 1e9);
    m.phases.push_back({std::string(name->data(), name->size()), from_seconds(took)});
  }
  return m;
}

Failed read_failed(Reader& r) {
  Failed m;
  m.generation = Generation(r.id("generation"));
  m.inspection = r.id("inspection");
  m.error = read_error(r);
  return m;
}

Inspecting read_inspecting(Reader& r) {
  Inspecting m;
  m.inspection = r.id("inspection");
  m.step = r.one_of("step", InspectionStep::kTemplate);
  return m;
}

Inspected read_inspected(Reader& r) {
  Inspected m;
  m.inspection = r.id("inspection");
  m.fingerprint = r.text("fingerprint");
  m.name = r.text("name");
  m.architecture = r.text("architecture");
  m.quantization = r.text("quantization");
  m.parameters = r.integer("parameters", 0, std::numeric_limits<std::int64_t>::max());
  m.size = r.bytes("size");
  m.parts = r.small("parts", 1);
  m.layers = r.small("layers");
  m.context_train = r.small("context_train");
  m.embedding_length = r.small("embedding_length");
  m.vocabulary = r.integer("vocabulary", 0, std::numeric_limits<std::int64_t>::max());
  m.pooling = r.text("pooling");
  m.kind = r.one_of("model_kind", ModelKind::kRerank);
  m.chat_template = r.text("chat_template");
  m.keeps_conversations = r.boolean("keeps_conversations");
  m.conversations = r.text("conversations");
  m.predicted = read_memory(r, "predicted");
  m.extent = read_extent(r);
  m.exact = r.boolean("exact");
  return m;
}

DevicesListed read_devices(Reader& outer) {
  DevicesListed m;
  each(outer, "devices", [&](Reader& r) {
    DevicesListed::Device d;
    d.id = DeviceId(r.text("id"));
    d.kind = r.one_of("kind", DeviceKind::kOther);
    d.name = r.text("name");
    d.capacity = r.bytes("capacity");
    d.free = r.bytes("free");
    d.bus = r.text("bus");
    d.server = r.text("server");
    d.number = r.small("number");
    m.devices.push_back(std::move(d));
  });
  each(outer, "missing", [&](Reader& r) {
    DevicesListed::Missing gone;
    gone.server = r.text("server");
    gone.why = r.text("why");
    m.missing.push_back(std::move(gone));
  });
  return m;
}

// The line as an object with its kind, or why it is none.
struct Parsed {
  json::value root;
  std::string kind;
};

Result<Parsed> parse(std::string_view line) {
  json::parse_options options;
  options.max_depth = 16;
  boost::system::error_code error;
  Parsed out;
  out.root = json::parse(line, error, {}, options);
  if (error) {
    return fail(ErrorCode::kInvalidArgument, "a message on the worker's link is no JSON: " + error.message(),
                "bad_message");
  }
  const auto* object = out.root.if_object();
  const auto* kind = object ? object->if_contains("kind") : nullptr;
  if (!kind || !kind->is_string()) {
    return fail(ErrorCode::kInvalidArgument, "a message on the worker's link has no kind", "bad_message");
  }
  out.kind.assign(kind->get_string().data(), kind->get_string().size());
  return out;
}

template <class Variant, class Read>
Result<std::optional<Variant>> finish(const Parsed& parsed, Read read) {
  Reader reader(parsed.root.get_object(), parsed.kind);
  Variant message = read(reader);
  if (!reader.good()) return reader.failure();
  return std::optional<Variant>(std::move(message));
}

}  // namespace

std::string_view to_string(InspectionStep step) {
  switch (step) {
    case InspectionStep::kStarting:
      return "starting";
    case InspectionStep::kFile:
      return "file";
    case InspectionStep::kTemplate:
      return "template";
  }
  return "?";
}

std::string encode(const ToWorker& message) {
  return line_of(message);
}
std::string encode(const FromWorker& message) {
  return line_of(message);
}

Result<std::optional<ToWorker>> decode_to_worker(std::string_view line) {
  LM_TRY(const Parsed parsed, parse(line));
  if (parsed.kind == "load") return finish<ToWorker>(parsed, read_load);
  if (parsed.kind == "inspect") return finish<ToWorker>(parsed, read_inspect);
  if (parsed.kind == "save_states") return finish<ToWorker>(parsed, read_save_states);
  if (parsed.kind == "cancel_save") return finish<ToWorker>(parsed, read_cancel_save);
  if (parsed.kind == "list_devices")
    return finish<ToWorker>(parsed, [](Reader& r) { return ListDevices{r.texts("servers")}; });
  if (parsed.kind == "shutdown") return std::optional<ToWorker>(Shutdown{});
  return std::optional<ToWorker>();
}

Result<std::optional<FromWorker>> decode_from_worker(std::string_view line) {
  LM_TRY(const Parsed parsed, parse(line));
  if (parsed.kind == "hello") return finish<FromWorker>(parsed, read_hello);
  if (parsed.kind == "progress") return finish<FromWorker>(parsed, read_progress);
  if (parsed.kind == "ready") return finish<FromWorker>(parsed, read_ready);
  if (parsed.kind == "failed") return finish<FromWorker>(parsed, read_failed);
  if (parsed.kind == "inspecting") return finish<FromWorker>(parsed, read_inspecting);
  if (parsed.kind == "inspected") return finish<FromWorker>(parsed, read_inspected);
  if (parsed.kind == "restored") return finish<FromWorker>(parsed, read_restored);
  if (parsed.kind == "states_saved") return finish<FromWorker>(parsed, read_states_saved);
  if (parsed.kind == "devices_listed") return finish<FromWorker>(parsed, read_devices);
  return std::optional<FromWorker>();
}

Result<void> check_protocol(const Hello& hello) {
  if (hello.protocol == kProtocol) return {};
  return fail(ErrorCode::kFailedPrecondition,
              "llm-worker speaks protocol " + std::to_string(hello.protocol) + " and this daemon " +
                  std::to_string(kProtocol) + ": they come from different builds, run scripts/bootstrap",
              "protocol_mismatch");
}

}  // namespace lm::wire

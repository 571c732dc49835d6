#include "runtime/records.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/database.h"
#include "store/death_tally.h"
#include "store/decisions.h"
#include "store/desired.h"
#include "store/footprints.h"
#include "store/kinds.h"
#include "store/pulls.h"
#include "store/switches.h"

namespace lm::runtime {
namespace {

// The name under which a hold over every local model is kept; no model has it, since ids have no spaces.
const ModelId& every_model() {
  static const ModelId kEvery("every local model");
  return kEvery;
}

const ModelId& stored_name(const ModelId& model) {
  return model.empty() ? every_model() : model;
}

// A decision's fields as text, one "name i 12" or "name s text" a line.
std::string to_text(const std::vector<Error::Field>& fields) {
  std::string text;
  for (const auto& [name, value] : fields) {
    if (const auto* number = std::get_if<std::int64_t>(&value)) {
      text += fmt::format("{} i {}\n", name, *number);
    } else {
      std::string line = std::get<std::string>(value);
      std::ranges::replace(line, '\n', ' ');
      text += fmt::format("{} s {}\n", name, line);
    }
  }
  return text;
}

std::vector<Error::Field> fields_of(std::string_view text) {
  std::vector<Error::Field> fields;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.size() < space + 3) continue;
    const std::string_view value = line.substr(space + 3);
    if (line[space + 1] == 'i') {
      std::int64_t number = 0;
      std::from_chars(value.data(), value.data() + value.size(), number);
      fields.emplace_back(line.substr(0, space), number);
    } else {
      fields.emplace_back(line.substr(0, space), std::string(value));
    }
  }
  return fields;
}

// A device's place in a cut, whichever it was.
DeviceId part_id(std::size_t number) {
  return DeviceId(fmt::format("part{}", number));
}

std::optional<DecisionKind> kind_from(std::string_view text) {
  for (int i = 0; i <= static_cast<int>(DecisionKind::kPreempt); ++i) {
    if (to_string(static_cast<DecisionKind>(i)) == text) return static_cast<DecisionKind>(i);
  }
  return std::nullopt;
}

template <class T>
void note(const Result<T>& written, std::string_view what) {
  if (!written) log::warning("{} was not recorded: {}", what, written.error().message);
}

}  // namespace

struct Records::Impl {
  explicit Impl(store::Database::Opened opened)
      : database(std::move(opened.database)),
        warnings(std::move(opened.warnings)),
        footprints(*database),
        kinds(*database),
        decisions(*database),
        desired(*database),
        deaths(*database),
        switches(*database),
        pulls(*database) {}

  std::unique_ptr<store::Database> database;
  std::vector<std::string> warnings;
  store::Footprints footprints;
  store::Kinds kinds;
  store::Decisions decisions;
  store::Desired desired;
  store::DeathTally deaths;
  store::Switches switches;
  std::optional<std::int64_t> switching;  // the one under way
  store::Pulls pulls;
};

Records::Records(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Records::~Records() = default;

Result<std::unique_ptr<Records>> Records::open(const std::filesystem::path& data) {
  LM_TRY(auto opened, store::Database::open(data));
  return std::unique_ptr<Records>(new Records(std::make_unique<Impl>(std::move(opened))));
}

const std::vector<std::string>& Records::warnings() const {
  return impl_->warnings;
}

DesiredRestored Records::desired() const {
  DesiredRestored desired;
  if (const auto holds = impl_->desired.holds()) {
    for (const store::Wish& wish : *holds)
      desired.holds.push_back(
          {wish.model == every_model() ? ModelId() : wish.model, wish.who, wish.since_ms});
  } else {
    log::warning("the holds of before could not be read: {}", holds.error().message);
  }
  if (const auto pins = impl_->desired.pins()) {
    for (const store::Wish& wish : *pins) desired.pins.push_back(wish.model);
  }
  if (const auto last = impl_->switches.newest(1); last && !last->empty())
    desired.last_switch = static_cast<std::uint64_t>(last->front().id);
  return desired;
}

void Records::hold(const RecordHold& record) {
  const ModelId& model = stored_name(record.model);
  if (record.held) {
    note(impl_->desired.hold({model, record.who, record.unix_ms}), "the hold");
  } else {
    note(impl_->desired.end_hold(model), "the end of the hold");
  }
}

void Records::pin(const RecordPin& record) {
  if (record.pinned) {
    note(impl_->desired.pin({record.model, "", unix_time_ms()}), "the pin");
  } else {
    note(impl_->desired.unpin(record.model), "the end of the pin");
  }
}

std::optional<Footprint> Records::footprint(const std::string& key) const {
  const auto learned = impl_->footprints.get(key);
  if (!learned || !*learned) return std::nullopt;
  return Footprint{(*learned)->bytes, FootprintSource::kMeasured};
}

void Records::learn(const std::string& key, const Footprint& footprint, Duration load_took) {
  note(impl_->footprints.put(key, footprint.bytes, Bytes(), load_took, unix_time_ms()),
       "a learned footprint");
}

std::vector<Experience> Records::experiences(const std::string& key) const {
  std::vector<Experience> all;
  const auto found = impl_->footprints.find(key);
  if (!found) {
    log::warning("what was learned could not be read: {}", found.error().message);
    return all;
  }
  for (const auto& [layers, learned] : *found) {
    Experience each{.layers = {}, .bytes = {}, .host = learned.bytes.on(host_device())};
    std::size_t begin = 0;
    while (begin < layers.size()) {
      int count = 0;
      const char* end = layers.data() + layers.size();
      const auto read = std::from_chars(layers.data() + begin, end, count);
      if (read.ec != std::errc()) break;
      each.bytes.push_back(learned.bytes.on(part_id(each.layers.size())));
      each.layers.push_back(count);
      begin = static_cast<std::size_t>(read.ptr - layers.data()) + 1;
    }
    if (!each.layers.empty()) all.push_back(std::move(each));
  }
  return all;
}

void Records::learn(const std::string& key, const Experience& experience, Duration load_took) {
  DeviceBytes bytes;
  bytes.set(host_device(), experience.host);
  std::string layers;
  for (std::size_t i = 0; i < experience.layers.size(); ++i) {
    layers += fmt::format("{}{}", i == 0 ? "" : "+", experience.layers[i]);
    bytes.set(part_id(i), experience.bytes[i]);
  }
  note(impl_->footprints.put(key + layers, bytes, Bytes(), load_took, unix_time_ms()), "a learned footprint");
}

std::optional<ModelKind> Records::kind_in(const std::string& fingerprint) const {
  if (fingerprint.empty()) return std::nullopt;
  return impl_->kinds.get(fingerprint).value_or(std::nullopt);
}

void Records::found_kind(const std::string& fingerprint, ModelKind kind) {
  note(impl_->kinds.put(fingerprint, kind), "a model's kind");
}

void Records::decide(const Decision& decision, std::int64_t at_ms) {
  note(impl_->decisions.append({.at_ms = at_ms,
                                .kind = std::string(to_string(decision.kind)),
                                .model = decision.model.str(),
                                .why = decision.why,
                                .fields = to_text(decision.fields)}),
       "a decision");
}

std::vector<StoredDecision> Records::decisions(std::string_view model, std::size_t limit) const {
  store::DecisionQuery query{.model = {},
                             .since_ms = {},
                             .before_id = {},
                             .most = static_cast<int>(std::min<std::size_t>(limit, 100'000))};
  if (!model.empty()) query.model = std::string(model);
  std::vector<StoredDecision> result;
  const auto records = impl_->decisions.find(query);
  if (!records) {
    log::warning("the decisions could not be read: {}", records.error().message);
    return result;
  }
  for (const store::DecisionRecord& record : *records) {
    const auto kind = kind_from(record.kind);
    if (!kind) continue;  // of a later version
    result.push_back({record.at_ms,
                      {.kind = *kind,
                       .model = ModelId(record.model),
                       .why = record.why,
                       .fields = fields_of(record.fields)}});
  }
  return result;
}

void Records::switched(std::uint64_t id, const std::string& report, std::int64_t at_ms, bool ended) {
  const auto row = static_cast<std::int64_t>(id);
  note(impl_->switches.put({.id = row, .at_ms = at_ms, .kind = "switch", .report = report}), "a switch");
  impl_->switching = ended ? std::nullopt : std::optional(row);
}

std::vector<std::string> Records::switches(std::size_t limit) const {
  std::vector<std::string> reports;
  const auto most = std::min<std::size_t>(limit, 1000) + (impl_->switching ? 1 : 0);
  const auto records = impl_->switches.newest(static_cast<int>(most));
  if (!records) {
    log::warning("the switches could not be read: {}", records.error().message);
    return reports;
  }
  for (const store::SwitchRecord& record : *records) {
    if (record.id != impl_->switching && reports.size() < limit) reports.push_back(record.report);
  }
  return reports;
}

std::int64_t Records::add_pull(const store::PullRecord& record) {
  const auto id = impl_->pulls.add(record);
  note(id, "a pull");
  return id.value_or(0);
}

void Records::update_pull(const store::PullRecord& record) {
  note(impl_->pulls.update(record), "what became of a pull");
}

std::vector<store::PullRecord> Records::pulls() const {
  auto records = impl_->pulls.all();
  if (!records) log::warning("the pulls could not be read: {}", records.error().message);
  return records ? *std::move(records) : std::vector<store::PullRecord>();
}

void Records::add_file(const store::PulledFileRecord& file) {
  note(impl_->pulls.add_file(file), "a pulled file");
}

void Records::forget_file(const std::string& path) {
  note(impl_->pulls.forget_file(path), "the end of a pulled file");
}

bool Records::was_pulled(const std::string& path) const {
  return impl_->pulls.has_file(path).value_or(false);
}

std::vector<std::filesystem::path> Records::pulled_checkpoints() const {
  std::vector<std::filesystem::path> folders;
  const auto files = impl_->pulls.files_named("config.json");
  if (!files) log::warning("pulled checkpoints could not be read: {}", files.error().message);
  for (const std::string& file : files ? *files : std::vector<std::string>())
    folders.push_back(std::filesystem::path(file).parent_path());
  return folders;
}

void Records::died(const ModelId& model, std::string_view how) {
  note(impl_->deaths.record(
           {.artifact = model.str(), .at_ms = unix_time_ms(), .cause = "failed", .how = std::string(how)}),
       "a worker's death");
}

}  // namespace lm::runtime

#include "plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "json_document.h"
#include "refusal.h"
#include "text_battery.h"

namespace lm::importer {
namespace {

std::string numbered(std::string_view pattern, std::int64_t layer) {
  std::string out(pattern);
  if (const auto at = out.find('#'); at != std::string::npos) out.replace(at, 1, std::to_string(layer));
  return out;
}

// "layers.17.mlp" becomes "layers.#.mlp".
std::string pattern_of(std::string_view name) {
  std::string out;
  while (!name.empty()) {
    const auto part = name.substr(0, name.find('.'));
    const bool digits =
        !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    out += digits ? "#" : part;
    name.remove_prefix(part.size());
    if (!name.empty()) {
      out += '.';
      name.remove_prefix(1);
    }
  }
  return out;
}

// As older files of bert's family call them.
std::string modern(std::string name) {
  for (const auto& [old, now] :
       {std::pair<std::string_view, std::string_view>{".gamma", ".weight"}, {".beta", ".bias"}}) {
    if (name.ends_with(old)) return name.substr(0, name.size() - old.size()) + std::string(now);
  }
  return name;
}

// The checkpoint's tensors by the names that the table uses.
class ByRule {
 public:
  ByRule(const Architecture& architecture, const Weights& weights) : architecture_(architecture) {
    // The longest prefix that fits: "" fits everything.
    for (const auto& [name, weight] : weights) {
      std::string_view best;
      for (const auto prefix : architecture.prefixes) {
        if (name.starts_with(prefix) && prefix.size() > best.size()) best = prefix;
      }
      by_name_[modern(name.substr(best.size()))] = &weight;
    }
  }

  const Weight* find(std::string_view name) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return nullptr;
    used_.insert(found->first);
    return found->second;
  }

  // One that neither a rule wants nor the model does without.
  std::optional<std::string> stranger() const {
    for (const auto& [name, weight] : by_name_) {
      const auto pattern = pattern_of(name);
      const bool ignored = std::ranges::any_of(
          architecture_.ignored, [&](auto beginning) { return pattern.starts_with(beginning); });
      if (!ignored && !used_.contains(name)) return name;
    }
    return std::nullopt;
  }

 private:
  const Architecture& architecture_;
  std::map<std::string, const Weight*, std::less<>> by_name_;
  std::set<std::string, std::less<>> used_;
};

class Planner {
 public:
  Planner(Plan& plan) : plan_(plan), weights_(*plan.architecture, plan.weights) {}

  Result<void> plan_all() {
    for (const auto& rule : plan_.architecture->tensors) LM_TRY_VOID(plan_one(rule, -1));
    for (std::int64_t layer = 0; layer < plan_.shape.layers; ++layer) {
      for (const auto& rule : plan_.architecture->layer) LM_TRY_VOID(plan_one(rule, layer));
    }
    if (const auto name = weights_.stranger()) {
      return unsupported(fmt::format("its tensor {} is none that a {} has: a variant that is not imported",
                                     in_quotes(*name), plan_.architecture->model_type));
    }
    return {};
  }

 private:
  bool output_tied() const { return plan_.shape.tied || plan_.pooling; }

  Result<void> plan_one(const TensorRule& rule, std::int64_t layer) {
    const auto name = numbered(rule.from, layer);
    const auto* weight = weights_.find(name);
    if (rule.need == Need::kToGenerate && (plan_.shape.tied || plan_.pooling)) return {};
    if (weight == nullptr && rule.need == Need::kMaybe) return {};
    if (weight == nullptr)
      return refuse(fmt::format("the tensor {} is missing: is the download complete?", in_quotes(name)));

    std::vector<std::int64_t> shape = {length_of(rule.rows, plan_.shape, *plan_.architecture)};
    if (rule.columns != Dimension::kNone)
      shape.push_back(length_of(rule.columns, plan_.shape, *plan_.architecture));
    auto in_checkpoint = shape;
    in_checkpoint.front() += rows_left_out(rule.order, plan_.shape);
    if (shape.front() < 1 || weight->shape != in_checkpoint) {
      return refuse(fmt::format("the tensor {} has the shape {}, by config.json it should be {}",
                                in_quotes(name), shown(weight->shape), shown(in_checkpoint)));
    }
    if (weight->type == WeightType::kOther) {
      return unsupported(
          fmt::format("its tensor {} is of the type {}: weights that are quantised already are not "
                      "imported, only F32, F16 and BF16 are",
                      in_quotes(name), weight->type_name));
    }
    PlannedTensor tensor{.name = numbered(rule.to, layer),
                         .shape = shape,
                         .source = weight,
                         .order = rule.order,
                         .values = {}};
    auto choice =
        choose_type(tensor.name, shape, weight->type, plan_.quantization, layer, output_tied(), plan_.shape);
    tensor.type = choice.type;
    // Once for all layers.
    if (!choice.notice.empty() && layer <= 0) plan_.notices.push_back(std::move(choice.notice));
    plan_.tensors.push_back(std::move(tensor));
    return {};
  }

  static std::string shown(const std::vector<std::int64_t>& shape) {
    std::string out = "[";
    for (const auto n : shape) out += fmt::format("{}{}", out.size() > 1 ? "," : "", n);
    return out + "]";
  }

  Plan& plan_;
  ByRule weights_;
};

// By what each frequency of the rotation is divided, as Llama 3.1 stretches its context: high ones stay, low
// ones are divided by the factor, those between by something between.
std::vector<float> rope_divisors(const ModelShape& shape) {
  const auto& rope = shape.rope;
  const auto context = static_cast<double>(rope.original_context);
  const double longest = context / rope.low_frequency_factor, shortest = context / rope.high_frequency_factor;
  std::vector<float> out;
  for (std::int64_t i = 0; i < shape.head; i += 2) {
    const double wave = 2 * std::numbers::pi *
                        std::pow(shape.rope_base, static_cast<double>(i) / static_cast<double>(shape.head));
    double divisor = 1;
    if (wave > longest) {
      divisor = rope.factor;
    } else if (wave >= shortest) {
      const double part = (context / wave - rope.low_frequency_factor) /
                          (rope.high_frequency_factor - rope.low_frequency_factor);
      divisor = 1 / ((1 - part) / rope.factor + part);
    }
    out.push_back(static_cast<float>(divisor));
  }
  return out;
}

WeightType commonest(const Weights& weights) {
  std::array<std::uint64_t, 4> bytes{};
  for (const auto& [name, weight] : weights) bytes[static_cast<std::size_t>(weight.type)] += weight.size;
  return static_cast<WeightType>(std::ranges::max_element(bytes) - bytes.begin());
}

// The engine has no window in these architectures: beyond it, answers would differ from the model's.
void respect_window(Plan& plan) {
  auto& shape = plan.shape;
  if (!shape.sliding_window || *shape.sliding_window >= shape.context) return;
  plan.notices.push_back(
      fmt::format("its layers look back {} tokens only, which the engine does not do for it: the "
                  "context is {} tokens instead of {}",
                  *shape.sliding_window, *shape.sliding_window, shape.context));
  shape.context = *shape.sliding_window;
}

}  // namespace

Result<Plan> make_plan(const CheckpointFolder& folder, std::optional<Quantization> quantization) {
  Plan plan;
  LM_TRY(const auto text, folder.content("config.json"));
  LM_TRY(const auto config, parse_json(text, "config.json"));
  if (member(config, "quantization_config") != nullptr)
    return unsupported(
        "config.json: its weights are quantised already; import the checkpoint that it was made of");
  LM_TRY(plan.shape, read_shape(config));
  LM_TRY(plan.architecture, find_architecture(plan.shape));
  if (plan.architecture->family == Family::kDecoder && plan.shape.head % 2 != 0)
    return refuse("config.json: head_dim is odd, which no rotation can be");
  plan.name = folder.name();
  LM_TRY(plan.pooling, read_pooling(folder, *plan.architecture, plan.shape, plan.notices));
  if (plan.architecture->family == Family::kDecoder) respect_window(plan);
  plan.quantization = quantization.value_or(plan.pooling ? Quantization::k8Bit : Quantization::k4Bit);

  LM_TRY(plan.tokenizer, read_tokenizer(folder, config, plan.shape.vocabulary, plan.notices));
  if (const auto lost = texts_without_tokens(plan.tokenizer); !lost.empty()) {
    const bool drops = plan.tokenizer.model == "gpt2";
    plan.notices.push_back(fmt::format("its tokenizer has no tokens for all of {}: what it lacks is {}",
                                       fmt::join(lost, ", "), drops ? "left out" : "read as unknown"));
  }
  LM_TRY(plan.weights, read_weights(folder));
  plan.source = commonest(plan.weights);
  LM_TRY_VOID(Planner(plan).plan_all());
  if (plan.shape.rope.kind == RopeScaling::Kind::kLlama3) {
    const auto divisors = rope_divisors(plan.shape);
    plan.tensors.push_back({.name = "rope_freqs.weight",
                            .shape = {static_cast<std::int64_t>(divisors.size())},
                            .type = GGML_TYPE_F32,
                            .source = nullptr,
                            .order = Rows::kSame,
                            .values = divisors});
  }
  return plan;
}

}  // namespace lm::importer

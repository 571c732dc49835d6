#include "load.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace lm::fake {
namespace {

namespace asio = boost::asio;

constexpr int kSteps = 4;  // told within a stage

constexpr std::pair<LoadStage, const char*> kStages[] = {{LoadStage::kMetadata, "metadata"},
                                                         {LoadStage::kVocabulary, "vocabulary"},
                                                         {LoadStage::kWeights, "weights"},
                                                         {LoadStage::kContext, "context"},
                                                         {LoadStage::kWarmUp, "warm_up"}};

ErrorCode code_of(const std::string& reason) {
  if (reason == "insufficient_memory") return ErrorCode::kResourceExhausted;
  if (reason == "invalid_artifact" || reason == "invalid_options") return ErrorCode::kInvalidArgument;
  if (reason == "unsupported_model") return ErrorCode::kUnimplemented;
  if (reason == "io_error") return ErrorCode::kNotFound;
  return ErrorCode::kInternal;
}

}  // namespace

Task<> pause(Duration time) {
  if (time <= Duration()) co_return;
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

void crash(const Behaviour& behaviour) {
  if (behaviour.crash_by == "exit") ::_exit(3);
  if (behaviour.crash_by == "abort") std::abort();
  ::raise(SIGKILL);
  ::_exit(4);
}

Task<> hang() {
  for (;;) co_await pause(std::chrono::hours(1));
}

void hold_on_card(const std::filesystem::path& folder, const std::string& card, Bytes bytes) {
  // Renamed into place: the driver may look at any moment.
  const std::string pid = std::to_string(::getpid());
  std::ofstream(folder / ("new-" + pid)) << card << ' ' << bytes.count() << '\n';
  std::filesystem::rename(folder / ("new-" + pid), folder / pid);
}

// The card that an order names; empty where the fake model takes none, or the order says host.
std::string card_of(const LoadOptions& options, const Behaviour& behaviour) {
  const bool named = options.device.starts_with("cuda") && options.device.size() > 4;
  return named && behaviour.card_memory > Bytes() ? options.device : std::string();
}

wire::Inspected inspected(const wire::Inspect& order, const Behaviour& behaviour) {
  wire::Inspected out{
      .inspection = order.id,
      .fingerprint = "fake-" + order.path.filename().string(),
      .name = order.path.stem().string(),
      .architecture = behaviour.architecture,
      .quantization = "F16",
      .parameters = behaviour.memory.count() / 2,
      .size = behaviour.memory,
      .layers = 1,
      .context_train = behaviour.context,
      .embedding_length = 8,
      .vocabulary = 100,
      .kind = behaviour.kind,
      .predicted = {{.device = host_device(), .weights = behaviour.predict.value_or(behaviour.memory)}}};
  if (const std::string card = card_of(order.options, behaviour); !card.empty()) {
    out.predicted.push_back(
        {.device = DeviceId(card), .weights = behaviour.card_predict.value_or(behaviour.card_memory)});
  }
  return out;
}

Error failure(const std::string& reason) {
  Error error{.code = code_of(reason),
              .message = "the fake model fails with " + reason,
              .reason = reason,
              .fields = {},
              .retry_after = {}};
  if (reason == "insufficient_memory") {
    error.fields = {{"device", host_device().str()}, {"needed", gib(64).count()}, {"free", gib(1).count()}};
  }
  return error;
}

Task<wire::Ready> load(wire::Load order, Behaviour behaviour, HeldMemory& memory, Say say) {
  wire::Ready ready{
      .generation = order.generation,
      .kind = behaviour.kind,
      .memory = {{.device = host_device(), .weights = behaviour.claim.value_or(behaviour.memory)}},
      .slots = order.options.parallel.value_or(behaviour.slots),
      .context = order.options.context.value_or(behaviour.context)};
  ready.slot_context = ready.context / std::max(1, ready.slots);
  ready.context_train = behaviour.context;
  ready.capabilities = {.chat = behaviour.kind == ModelKind::kGeneration,
                        .tools = behaviour.kind == ModelKind::kGeneration,
                        .embeddings = behaviour.kind == ModelKind::kEmbedding,
                        .rerank = behaviour.kind == ModelKind::kRerank};
  if (!memory.reserve(behaviour.memory)) crash(behaviour);
  const std::string card = card_of(order.options, behaviour);
  if (!card.empty()) ready.memory.push_back({.device = DeviceId(card), .weights = behaviour.card_memory});
  for (const auto& [stage, name] : kStages) {
    const auto began = std::chrono::steady_clock::now();
    for (int step = 0; step < kSteps; ++step) {
      say(wire::Progress{
          .generation = order.generation, .stage = stage, .fraction = static_cast<double>(step) / kSteps});
      // The last step takes what the division left over.
      if (stage == LoadStage::kWeights)
        memory.fill(step + 1 < kSteps ? Bytes(behaviour.memory.count() / kSteps) : behaviour.memory);
      co_await pause(behaviour.stage_time / kSteps);
    }
    if (stage == LoadStage::kWeights) {
      if (!card.empty() && !behaviour.card_folder.empty()) {
        hold_on_card(behaviour.card_folder, card.substr(4), behaviour.card_memory);
      }
      if (behaviour.crash_at == Moment::kLoading) crash(behaviour);
      if (behaviour.hang_at == Moment::kLoading) co_await hang();
    }
    ready.phases.push_back({name, std::chrono::steady_clock::now() - began});
  }
  co_return ready;
}

}  // namespace lm::fake

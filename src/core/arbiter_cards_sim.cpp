// Several cards at random: a load waits only for what cannot be had sooner, whoever is busy, pinned or on its
// way, and nothing runs out of memory on the way.
#include <algorithm>

#include <fmt/format.h>

#include "core/arbiter_seeds.h"
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

std::string card(int i) {
  return "cuda" + std::to_string(i);
}
std::string name_of_model(int m) {
  return std::string(1, static_cast<char>('a' + m));
}

// A card as somebody sees it who knows nothing of turns: what could be had of it at once, were those sent
// away who answer nobody.
Bytes to_be_had(const Snapshot& snapshot, const DeviceView& view) {
  Bytes room = view.device.capacity;
  for (const ModelView& model : snapshot.models) {
    if (!model.instance) continue;
    const InstanceView& instance = *model.instance;
    const Bytes bytes = std::max(instance.reserved.on(view.device.id), instance.held.on(view.device.id));
    const bool goes = instance.state == InstanceState::kReady && !model.pinned && instance.active == 0 &&
                      instance.waiting == 0;
    if (!goes && !is_going(instance.state)) room -= bytes;
  }
  return room;
}

struct Cards {
  Cards(Dice& dice, Settings settings)
      : cards(dice.between(2, 5)), models(dice.between(3, 8)), world(settings) {
    world.keep_no_commands();
    const bool equal = dice.chance(50);
    for (int i = 0; i < cards; ++i) {
      world.add_device(card(i), gib(equal ? 16 : dice.between(8, 24)));
      world.devices().back().display = dice.chance(10);
    }
    for (int m = 0; m < models; ++m) {
      const std::string name = name_of_model(m);
      Model& model = world.add_model(name, DeviceBytes{{DeviceId(card(0)), gib(dice.between(2, 15))}});
      model.policy.pinned = dice.chance(10);
      model.policy.keep_alive = sec(-1);
      if (dice.chance(15)) model.kind = ModelKind::kEmbedding;
      Truth& truth = world.truth(name);
      truth.slots = dice.between(1, 3);
      truth.load_time = sec(dice.real(0.1, 2));
      truth.stop_time = sec(dice.real(0, 0.1));
      truth.release_delay = sec(dice.real(0, 0.1));
    }
    world.configure();
  }
  // The one model that waits for room, where nobody else does and nobody drains; null: not so.
  static const ModelView* only_one_that_waits(const Snapshot& snapshot) {
    const ModelView* found = nullptr;
    for (const ModelView& model : snapshot.models) {
      if (!model.instance) continue;
      const InstanceState state = model.instance->state;
      if (state == InstanceState::kDraining || is_coming(state)) return nullptr;
      if (state != InstanceState::kQueued) continue;
      if (found != nullptr) return nullptr;
      found = &model;
    }
    return found;
  }
  int cards, models;
  World world;
};

// A model in one piece that could lie on a card whose other models answer nobody lies there a moment later.
TEST(ArbiterCards, NobodyWaitsWhereSomebodyIdleCouldGo) {
  std::uint64_t looked = 0;
  for_each_seed(30, 1000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    Cards cards(dice, World::plain());
    World& world = cards.world;
    const double pace = dice.real(0.2, 3);
    InstanceId waits;
    TimePoint since;
    // What is held for a moment by a worker that ends is there as soon as it has ended.
    constexpr Duration kMoment = ms(750);
    while (world.steps() < events && !::testing::Test::HasFailure()) {
      const TimePoint next = world.now() + dice.exponential(pace);
      while (world.now() < next) {
        world.run_for(ms(250));
        const Snapshot snapshot = world.snapshot();
        const ModelView* model = Cards::only_one_that_waits(snapshot);
        looked += model != nullptr ? 1 : 0;
        const bool could =
            model != nullptr && std::ranges::any_of(snapshot.devices, [&](const auto& view) {
              return to_be_had(snapshot, view) >= world.truth(model->model.id.str()).bytes.total();
            });
        if (!could || model->instance->id != waits) {
          waits = could ? model->instance->id : InstanceId();
          since = world.now();
          continue;
        }
        EXPECT_LE(world.now() - since, kMoment) << model->model.id.str() << ": " << model->instance->why;
      }
      world.request(name_of_model(dice.upto(cards.models)),
                    dice.chance(20) ? sec(dice.real(20, 200)) : dice.exponential(2),
                    PriorityClass::kInteractive, {}, dice.chance(50));
    }
    EXPECT_EQ(world.out_of_memory(), 0);
    world.run_for(std::chrono::hours(3));
    for (const auto& [id, r] : world.requests()) EXPECT_NE(r.fate, RequestFate::kWaiting) << id.value();
    return world.steps();
  });
  EXPECT_GT(looked, 0u) << "no world had anything to look at";
}

// What a request is told at arrival is never a refusal where its model could be loaded at once.
TEST(ArbiterCards, NobodyIsRefusedWhoseModelCouldBeLoadedAtOnce) {
  int asked = 0;
  for_each_seed(30, 1000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    Cards cards(dice, World::plain());
    World& world = cards.world;
    while (world.steps() < events && !::testing::Test::HasFailure()) {
      world.run_for(dice.exponential(2));
      const std::string name = name_of_model(dice.upto(cards.models));
      const Snapshot before = world.snapshot();
      const bool quiet = std::ranges::none_of(before.models, [](const ModelView& model) {
        return model.instance && (model.instance->state == InstanceState::kQueued ||
                                  is_coming(model.instance->state) || is_going(model.instance->state));
      });
      const bool could = quiet && !world.view(name).instance &&
                         std::ranges::any_of(before.devices, [&](const DeviceView& view) {
                           return view.available >= world.truth(name).bytes.total();
                         });
      // It loads in two seconds at most, and the estimate of that is its last load.
      const Duration enough = sec(3);
      const RequestId r = world.request(name, dice.exponential(3), PriorityClass::kInteractive, enough);
      if (!could) continue;
      ++asked;
      EXPECT_FALSE(world.rejected(r)) << world.of(r).error->message;
      world.run_for(enough);
      EXPECT_TRUE(world.granted(r)) << world.reason(r);
    }
    return world.steps();
  });
  EXPECT_GT(asked, 0);
}

}  // namespace
}  // namespace lm::core

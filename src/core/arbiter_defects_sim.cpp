// Each check of the guarantees, and of memory, can fail: with a defect planted between the arbiter and its
// world it has to, and without one it must not.
#include <gtest/gtest-spi.h>

#include "core/arbiter_guarantees.h"

namespace lm::core {
namespace {

using namespace testing;

// What `play` reports.
std::vector<std::string> reports_of(const std::function<void()>& play) {
  using Reporter = ::testing::ScopedFakeTestPartResultReporter;
  ::testing::TestPartResultArray found;
  {
    const Reporter reporter(Reporter::INTERCEPT_ONLY_CURRENT_THREAD, &found);
    play();
  }
  std::vector<std::string> reports;
  for (int i = 0; i < found.size(); ++i) {
    if (found.GetTestPartResult(i).failed()) reports.emplace_back(found.GetTestPartResult(i).message());
  }
  return reports;
}

// With the defect a check says `words`; without it none says anything.
void expect_found(std::string_view words, const Defect& defect,
                  const std::function<void(const Defect&)>& play) {
  const std::vector<std::string> sound = reports_of([&] { play({}); });
  EXPECT_TRUE(sound.empty()) << sound.front();
  const std::vector<std::string> found = reports_of([&] { play(defect); });
  EXPECT_TRUE(std::ranges::any_of(
      found, [&](const std::string& report) { return report.find(words) != std::string::npos; }))
      << "of " << found.size() << " reports none says: " << words
      << (found.empty() ? "" : "\n" + found.front());
}

constexpr Square kBusy{.load = 0.8, .models = 3, .equal = true};

template <class Told>
Defect on_each(std::function<void(World&, Told&)> change) {
  return {.tamper = [change = std::move(change)](World& world, Commands& commands) {
    for (auto& command : commands) {
      if (auto* c = std::get_if<Told>(&command)) change(world, *c);
    }
  }};
}

TEST(PlantedDefects, G1AModelThatIsServedToExhaustionStarvesTheOthers) {
  expect_found("somebody waited too long", {.policy = SchedulingPolicy::kExhaustive},
               [](const Defect& defect) {
                 Dice dice(1);
                 play_patience(dice, {.load = 5, .models = 2, .equal = true}, 6000, defect);
               });
}

TEST(PlantedDefects, G2StrictArrivalOrderSpendsTheTimeOnChanges) {
  expect_found("of the time goes by in changes", {.policy = SchedulingPolicy::kFifo},
               [](const Defect& defect) {
                 Dice dice(1);
                 play_saturation(dice, {.load = 1, .models = 3, .equal = true}, 2000, defect);
               });
}

// A model is loaded, and who waited for it is sent away.
TEST(PlantedDefects, G3ALoadThatServesNobody) {
  const Defect refuses{.tamper = [](World& world, Commands& commands) {
    for (Command& command : commands) {
      const auto* grant = std::get_if<GrantLease>(&command);
      if (grant == nullptr) continue;
      const RequestId id = grant->request;
      command = RejectRequest{id, {.code = ErrorCode::kUnavailable, .message = "no", .reason = "planted"}};
      world.after(ms(1), [&world, id] { world.tell(LeaseReleased{id}); });
    }
  }};
  expect_found("was loaded for nobody", refuses, [](const Defect& defect) {
    Dice dice(1);
    play_turns(dice, kBusy, 1000, defect);
  });
}

// Of two who are served at once for the same model, the later comes first.
TEST(PlantedDefects, G4TheLaterIsServedFirst) {
  const Defect reorders{.tamper = [](World& world, Commands& commands) {
    GrantLease* first = nullptr;
    for (Command& command : commands) {
      auto* grant = std::get_if<GrantLease>(&command);
      if (grant == nullptr) continue;
      if (first != nullptr && first->instance == grant->instance &&
          world.of(first->request).priority == world.of(grant->request).priority)
        std::swap(first->request, grant->request);
      first = grant;
    }
  }};
  expect_found("first come, first served", reorders, [](const Defect& defect) {
    Dice dice(1);
    play_turns(dice, kBusy, 1000, defect);
  });
}

TEST(PlantedDefects, G5ATimerThatIsNotArmed) {
  const Defect drops{.tamper = [](World&, Commands& commands) {
    std::erase_if(commands, [](const Command& c) { return std::holds_alternative<ArmTimer>(c); });
  }};
  const auto play = [](const Defect& defect) {
    Dice dice(1);
    play_deadlines(dice, kBusy, 1000, defect);
  };
  expect_found("waits beyond its deadline", drops, play);
  expect_found("nobody tells them", drops, play);
}

TEST(PlantedDefects, G6StrictArrivalOrderLetsQueuesGrow) {
  expect_found("so many wait", {.policy = SchedulingPolicy::kFifo}, [](const Defect& defect) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      Dice dice(seed);
      play_stability(dice, {.load = 0.5, .models = 3, .equal = true}, 4000, defect);
    }
  });
}

TEST(PlantedDefects, ARequestThatIsAnsweredTwice) {
  const Defect repeats{.tamper = [](World&, Commands& commands) {
    const auto grant = std::ranges::find_if(
        commands, [](const Command& c) { return std::holds_alternative<GrantLease>(c); });
    if (grant != commands.end()) commands.push_back(Command(*grant));
  }};
  expect_found("a request is answered once", repeats, [](const Defect& defect) {
    Dice dice(1);
    play_turns(dice, kBusy, 300, defect);
  });
}

// Ollama #17408: a victim that takes a request is revived while somebody waits for its room.
TEST(PlantedDefects, AVictimThatIsRevived) {
  const auto play = [](const Defect& defect) {
    World world;
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(7));
    world.add_model("b", gib(7));
    world.configure();
    world.request("a", minutes(1));
    world.run_for(sec(3));
    world.request("b");
    world.run_for(sec(10));
    ASSERT_EQ(world.state("a"), InstanceState::kDraining);
    if (defect.tamper) world.tamper = [&](Commands& commands) { defect.tamper(world, commands); };
    world.request("a");
  };
  const Defect revives{.tamper = [](World& world, Commands& commands) {
    const auto victim = world.view("a").instance;
    commands.emplace_back(GrantLease{RequestId(3), victim->id, victim->generation, ModelId("a")});
  }};
  expect_found("a victim takes no new request", revives, play);
}

TEST(PlantedDefects, MoreIsPromisedThanThereIs) {
  expect_found("no more is promised than there is",
               on_each<StartLoad>([](World&, StartLoad& c) { c.reservation.add(DeviceId("gpu"), gib(5)); }),
               [](const Defect& defect) {
                 Dice dice(1);
                 play_turns(dice, kBusy, 300, defect);
               });
}

TEST(PlantedDefects, MemoryIsToldToBeFreeBeforeItIsMeasured) {
  expect_found("only once it was measured", on_each<PublishState>([](World&, PublishState& c) {
                 if (c.state == InstanceState::kReclaiming) c.state = InstanceState::kAbsent;
               }),
               [](const Defect& defect) {
                 Dice dice(1);
                 play_turns(dice, kBusy, 300, defect);
               });
}

// The next load is ordered while the last worker's memory is still there.
TEST(PlantedDefects, AReleaseThatIsBelievedWithoutLooking) {
  const Defect believes{.tamper = [](World& world, Commands& commands) {
    for (auto& [id, truth] : world.truths()) truth.release_delay = sec(3);
    for (const Command& command : commands) {
      const auto* c = std::get_if<MeasureRelease>(&command);
      if (c == nullptr) continue;
      world.after(ms(0), [&world, e = ReleaseMeasured{c->instance, c->generation, {}, {}, {}, "process"}] {
        world.tell(e);
      });
    }
    std::erase_if(commands, [](const Command& c) { return std::holds_alternative<MeasureRelease>(c); });
  }};
  expect_found("room is proved free", believes, [](const Defect& defect) {
    Dice dice(1);
    play_turns(dice, kBusy, 300, defect);
  });
}

}  // namespace
}  // namespace lm::core

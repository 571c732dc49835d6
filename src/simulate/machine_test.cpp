#include "simulate/machine.h"

#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::simulate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Machine, IsReadWithDefaultsBelowItsModels) {
  const auto machine = read_machine(R"(
models:
  small: {memory: 2GB, load: 500ms}
  big: {device: cuda1, slots: 1, weight: 2, pinned: true, unload: 0}
default: {memory: 10GB, prefill: 500, decode: 12.5, slots: 3}
devices:
  cuda0: {memory: 24GB, headroom: 1GB}
  cuda1: {memory: 48GB}
)",
                                    "machine.yaml");
  ASSERT_TRUE(machine.has_value()) << machine.error().message;
  ASSERT_EQ(machine->devices.size(), 2U);
  EXPECT_EQ(machine->devices[0], (SimulatedDevice{"cuda0", gib(24), gib(1)}));
  ASSERT_EQ(machine->models.size(), 2U);
  const SimulatedModel& small = machine->models[0];
  EXPECT_EQ(small.name, "small");
  EXPECT_EQ(small.memory, gib(2));
  EXPECT_EQ(small.load, std::chrono::milliseconds(500));
  EXPECT_EQ(small.slots, 3);
  EXPECT_EQ(small.service(1000, 25), std::chrono::seconds(4)) << "1000 / 500 + 25 / 12.5";
  EXPECT_EQ(machine->find_device(small.device)->name, "cuda0");
  const SimulatedModel& big = machine->models[1];
  EXPECT_EQ(big.memory, gib(10));
  EXPECT_EQ(machine->find_device(big.device)->name, "cuda1");
  EXPECT_TRUE(big.pinned);
  EXPECT_EQ(big.unload, Duration());
}

TEST(Machine, WhatIsWrongIsToldAllAtOnceWithLineAndNearestKey) {
  const auto machine = read_machine(
      "device: {gpu: {memory: 24GB}}\n"
      "devices:\n"
      "  gpu: {memory: much}\n"
      "models:\n"
      "  a: {memori: 2GB}\n"
      "  b: {slots: 0}\n"
      "  c: {device: gpy}\n"
      "  d: 3\n",
      "machine.yaml");
  ASSERT_FALSE(machine.has_value());
  EXPECT_EQ(machine.error().reason, "invalid_config");
  EXPECT_THAT(
      machine.error().message,
      AllOf(HasSubstr("machine.yaml:1:1: device: unknown key, did you mean devices?"),
            HasSubstr("machine.yaml:3:17: devices.gpu.memory: expected"),
            HasSubstr("machine.yaml:5:7: models.a.memori: unknown key, did you mean memory?"),
            HasSubstr("machine.yaml:6:14: models.b.slots: expected"),
            HasSubstr("machine.yaml:7:15: models.c.device: no device is called gpy, did you mean gpu?"),
            HasSubstr("machine.yaml:8:6: models.d: expected a map")));
}

// The example in docs/cli.md says that it shows the defaults.
TEST(Machine, TheDocumentedExampleIsTrue) {
  std::ifstream page(LM_DOCS_DIR "/cli.md");
  std::stringstream text;
  text << page.rdbuf();
  const std::string all = text.str();
  const std::size_t begin = all.find("```yaml\ndevices:");
  ASSERT_NE(begin, std::string::npos);
  const std::size_t end = all.find("```", begin + 8);
  const auto machine = read_machine(all.substr(begin + 8, end - begin - 8), "cli.md");
  ASSERT_TRUE(machine.has_value()) << machine.error().message;
  EXPECT_EQ(machine->devices, Machine().devices);
  EXPECT_EQ(machine->set_aside, Machine().set_aside);
  SimulatedModel expected;
  expected.device = "gpu";
  EXPECT_EQ(machine->defaults, expected);
  ASSERT_EQ(machine->models.size(), 1U);
  EXPECT_EQ(machine->models[0].load, std::chrono::seconds(6));
}

TEST(Machine, SaysWhatSettingAsideCosts) {
  EXPECT_EQ(read_machine("models: {a: {}}", "m.yaml")->set_aside, std::chrono::milliseconds(150));
  EXPECT_EQ(read_machine("set_aside: 2s", "m.yaml")->set_aside, std::chrono::seconds(2));
  const auto wrong = read_machine("set_aside: cheap", "m.yaml");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("set_aside"), std::string::npos) << wrong.error().message;
}

TEST(Machine, ABrokenFileAndOneWithoutDevicesAreErrors) {
  EXPECT_FALSE(read_machine("models: [", "m.yaml").has_value());
  EXPECT_FALSE(read_machine("[a, b]", "m.yaml").has_value());
  EXPECT_FALSE(read_machine("devices: {}", "m.yaml").has_value());
  EXPECT_FALSE(read_machine("devices: {gpu: {headroom: 1GB}}", "m.yaml").has_value());
  const auto empty = read_machine("", "m.yaml");
  ASSERT_TRUE(empty.has_value());
  EXPECT_EQ(empty->devices, Machine().devices);
}

TEST(Machine, ModelsOfTheWorkloadThatNobodyDescribedAreAssumed) {
  Machine machine;
  machine.models = {{.name = "a"}, {.name = "idle"}, {.name = "kept", .pinned = true}};
  const auto ready = with_models(machine, {"b", "a"});
  ASSERT_TRUE(ready.has_value());
  ASSERT_EQ(ready->models.size(), 3U) << "nobody asks for idle";
  EXPECT_EQ(ready->models[0].name, "a");
  EXPECT_FALSE(ready->models[0].assumed);
  EXPECT_EQ(ready->models[1].name, "kept");
  EXPECT_EQ(ready->models[2].name, "b");
  EXPECT_TRUE(ready->models[2].assumed);
}

TEST(Machine, AModelThatCanNeverFitIsToldBeforeTheRun) {
  Machine machine;
  machine.models = {{.name = "huge", .memory = gib(40)}};
  const auto refused = with_models(machine, {"huge"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().reason, "insufficient_memory");
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("huge"), HasSubstr("40.00 GB"), HasSubstr("12.00 GB")));
}

}  // namespace
}  // namespace lm::simulate

#include "runtime/device_choice.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

using ::testing::HasSubstr;

const Device kHost{.id = host_device(), .kind = DeviceKind::kHost};
Device card(const std::string& id, bool display = false) {
  return {.id = DeviceId(id), .kind = DeviceKind::kCuda, .display = display};
}

DeviceChoice choose(const std::string& wish, const std::vector<Device>& devices,
                    std::string_view engine = "0.5.0 cuda", std::optional<int> layers = {}) {
  return choose_device({.gpu_layers = layers, .device = wish}, devices, engine);
}

TEST(DeviceChoice, WithoutACardItIsTheHost) {
  EXPECT_EQ(choose("auto", {kHost}, "0.5.0 cpu").device, "auto");
  EXPECT_FALSE(choose("auto", {kHost}, "0.5.0 cpu").warning);
  const auto cuda = choose("cuda", {kHost}, "0.5.0 cpu");
  EXPECT_EQ(cuda.device, "auto");
  EXPECT_EQ(cuda.warning, "device cuda is not there; it runs on the host");
  EXPECT_TRUE(choose("cuda0", {kHost}).warning);
  EXPECT_EQ(choose("cpu", {kHost}).device, "cpu");
}

TEST(DeviceChoice, ACardIsNamedForLedgerAndWorker) {
  EXPECT_EQ(choose("auto", {kHost, card("cuda0")}).device, "cuda0");
  EXPECT_EQ(choose("cuda", {kHost, card("cuda0")}).device, "cuda0");
  EXPECT_EQ(choose("host", {kHost, card("cuda0")}).device, "host");
  EXPECT_FALSE(choose("cuda", {kHost, card("cuda0")}).warning);
}

TEST(DeviceChoice, AnEngineForTheHostLeavesTheCard) {
  EXPECT_EQ(choose("auto", {kHost, card("cuda0")}, "0.5.0 cpu").device, "auto");
  const auto wished = choose("cuda", {kHost, card("cuda0")}, "0.5.0 cpu");
  EXPECT_EQ(wished.device, "auto");
  EXPECT_THAT(wished.warning.value(), HasSubstr("--gpu cuda"));
}

TEST(DeviceChoice, AnotherEngineKnowsItsOwnDevices) {
  EXPECT_EQ(choose("vulkan0", {kHost, card("cuda0")}, "0.5.0 vulkan").device, "vulkan0");
  EXPECT_FALSE(choose("vulkan0", {kHost}, "0.5.0 vulkan").warning);
}

TEST(DeviceChoice, TheScreensCardIsTheLastChoice) {
  const std::vector<Device> two = {kHost, card("cuda0", true), card("cuda1")};
  EXPECT_EQ(choose("auto", two).device, "cuda1");
  EXPECT_EQ(choose("cuda0", two).device, "cuda0") << "but a word is a word";
  EXPECT_EQ(choose("auto", {kHost, card("cuda0", true)}).device, "cuda0");
}

TEST(DeviceChoice, ACardThatIsNotThereIsReplacedAndSaid) {
  const auto choice = choose("cuda7", {kHost, card("cuda0")});
  EXPECT_EQ(choice.device, "cuda0");
  EXPECT_EQ(choice.warning, "device cuda7 is not there; it runs on cuda0");
}

TEST(DeviceChoice, NoLayersOnTheCardIsTheHost) {
  EXPECT_EQ(choose("auto", {kHost, card("cuda0")}, "0.5.0 cuda", 0).device, "host");
  EXPECT_EQ(choose("auto", {kHost, card("cuda0")}, "0.5.0 cuda", 3).device, "cuda0");
}

}  // namespace
}  // namespace lm::runtime

#include "core/thrash_gauge.h"

#include <cmath>
#include <queue>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const DeviceId kGpu("cuda0");

Ledger gpu(Bytes capacity, std::optional<int> max_loaded = {}, DeviceBytes external = {}) {
  const std::vector<Device> devices = {{.id = kGpu, .kind = DeviceKind::kCuda, .capacity = capacity}};
  return Ledger(devices, external, max_loaded);
}

Wanted wanted(const std::string& name, double rate, Bytes bytes) {
  return {.model = ModelId(name),
          .rate = rate,
          .answering = 0,
          .need = {.bytes = {{kGpu, bytes}}, .places = 1},
          .pinned = false,
          .family = {}};
}

constexpr Duration kWorth = std::chrono::seconds(20);

TEST(ThrashGauge, IsTheFormula) {
  EXPECT_EQ(wanted_probability(0, 0, kWorth), 0);
  EXPECT_DOUBLE_EQ(wanted_probability(0.05, 0, kWorth), 1 - std::exp(-1.0));
  EXPECT_DOUBLE_EQ(wanted_probability(0.05, 1, kWorth), 1 - std::exp(-2.0));
  EXPECT_EQ(wanted_probability(1e9, 0, kWorth), 1);
  const DemandView view =
      thrash_gauge({wanted("a", 0.05, gib(1)), wanted("b", 0.1, gib(1))}, gpu(gib(8)), kWorth);
  EXPECT_DOUBLE_EQ(view.wanted, (1 - std::exp(-1.0)) + (1 - std::exp(-2.0)));
  ASSERT_EQ(view.rows.size(), 2U);
  EXPECT_EQ(view.rows[0].model, ModelId("b")) << "the most wanted first";
  EXPECT_EQ(view.fit, 2);
  EXPECT_THAT(view.advice, IsEmpty());
}

// The claim behind the formula: of a Poisson stream whose answers take s each, the share of time that is less
// than T behind an answer, or within one, is 1 − e^(−λ(s+T)).
TEST(ThrashGauge, TheFormulaIsWhatHappens) {
  std::mt19937_64 random(5);
  const double rate = 0.03;
  std::exponential_distribution<double> gap(rate);
  std::uniform_real_distribution<double> length(0, 20);  // mean 10
  double now = 0, covered = 0, until = 0;
  while (now < 5e6) {
    now += gap(random);
    const double end = now + length(random) + seconds(kWorth);
    if (end > until) covered += end - std::max(now, until);
    until = std::max(until, end);
  }
  EXPECT_NEAR(covered / now, wanted_probability(rate, rate * 10, kWorth), 0.005);
}

TEST(ThrashGauge, NobodyThrashesWhileAllFit) {
  const DemandView view = thrash_gauge({wanted("a", 1, gib(4)), wanted("b", 1, gib(4))}, gpu(gib(8)), kWorth);
  EXPECT_NEAR(view.wanted, 2, 1e-6);
  EXPECT_EQ(view.fit, 2);
  EXPECT_THAT(view.advice, IsEmpty());
}

TEST(ThrashGauge, OneThatIsSeldomWantedIsNoTrouble) {
  const DemandView view =
      thrash_gauge({wanted("a", 0.02, gib(6)), wanted("b", 0.005, gib(6))}, gpu(gib(8)), kWorth);
  EXPECT_LT(view.wanted, 1);
  EXPECT_EQ(view.fit, 1);
  EXPECT_THAT(view.advice, IsEmpty());
  EXPECT_TRUE(view.rows[0].fits);
  EXPECT_FALSE(view.rows[1].fits);
}

TEST(ThrashGauge, TheSmallestChangeIsAdvised) {
  const DemandView view = thrash_gauge(
      {wanted("a", 9, gib(6)), wanted("big", 8, gib(9)), wanted("near", 1, gib(6))}, gpu(gib(10)), kWorth);
  EXPECT_EQ(view.fit, 1);
  EXPECT_EQ(
      view.advice,
      "3.0 models are wanted, 1 fits: 2.00 GB more on cuda0, or 2.00 GB less of near (a smaller context, "
      "fewer bits), would let it stay too");
}

TEST(ThrashGauge, NoContextIsMadeSmallerThanAModelIs) {
  const DemandView view = thrash_gauge({wanted("a", 9, gib(8)), wanted("b", 8, gib(8))}, gpu(gib(9)), kWorth);
  EXPECT_EQ(view.advice, "2.0 models are wanted, 1 fits: 7.00 GB more on cuda0 would let b stay too");
}

TEST(ThrashGauge, APlaceIsAskedForWhereOnlyAPlaceIsMissing) {
  const DemandView view = thrash_gauge(
      {wanted("a", 9, gib(1)), wanted("b", 8, gib(1)), wanted("c", 7, gib(1))}, gpu(gib(9), 2), kWorth);
  EXPECT_EQ(view.advice, "3.0 models are wanted, 2 fit: residency.max_loaded: 3 would let c stay too");
}

TEST(ThrashGauge, OthersUseAndPinsTakeRoom) {
  Wanted pinned = wanted("kept", 0, gib(4));
  pinned.pinned = true;
  const DemandView view =
      thrash_gauge({wanted("a", 9, gib(4)), pinned}, gpu(gib(9), {}, {{kGpu, gib(2)}}), kWorth);
  ASSERT_EQ(view.rows.size(), 2U);
  EXPECT_EQ(view.rows[0].model, ModelId("kept")) << "its owner wants it always";
  EXPECT_EQ(view.rows[0].wanted, 1);
  EXPECT_EQ(view.fit, 1);
  EXPECT_THAT(view.advice, HasSubstr("1.00 GB more on cuda0"));
}

TEST(ThrashGauge, FamiliesThatExcludeEachOtherNeverFitTogether) {
  Wanted local = wanted("tiny", 1, gib(1));
  local.family = Family::kLocal;
  Wanted ollama = wanted("ollama", 0.5, gib(1));
  ollama.family = Family::kOllama;
  ollama.need.places = 0;
  const DemandView view = thrash_gauge({local, ollama}, gpu(gib(9)), kWorth);
  EXPECT_EQ(view.fit, 1);
  EXPECT_EQ(view.advice,
            "2.0 models are wanted, 1 fits: residency.mode: fit would let ollama stay beside the others");
}

TEST(ThrashGauge, ForgottenModelsHaveNoRow) {
  EXPECT_THAT(thrash_gauge({wanted("a", 0, gib(1)), wanted("b", 1e-9, gib(1))}, gpu(gib(9)), kWorth).rows,
              IsEmpty());
}

// Whatever is asked for: the rows add up, who fits fits, and more memory never makes fewer fit… of equals.
TEST(ThrashGauge, PropertiesOfRandomMachines) {
  std::mt19937_64 random(11);
  const auto some = [&](int most) { return static_cast<int>(random() % static_cast<unsigned>(most)); };
  for (int round = 0; round < 3000; ++round) {
    std::vector<Wanted> models;
    const int n = 1 + some(6);
    for (int i = 0; i < n; ++i)
      models.push_back(
          wanted(std::string(1, static_cast<char>('a' + i)), some(1000) / 1000.0, mib(1 + some(9000))));
    const Bytes capacity = mib(1 + some(16000));
    const DemandView view = thrash_gauge(models, gpu(capacity), kWorth);
    double sum = 0;
    Bytes taken;
    int fit = 0;
    for (const DemandView::Row& row : view.rows) {
      sum += row.wanted;
      ASSERT_GE(row.wanted, 0);
      ASSERT_LE(row.wanted, 1);
      if (!row.fits) continue;
      ++fit;
      const auto it = std::ranges::find(models, row.model, &Wanted::model);
      taken += it->need.bytes.total();
    }
    ASSERT_NEAR(view.wanted, sum, 1e-9);
    ASSERT_EQ(view.fit, fit);
    ASSERT_LE(taken, capacity);
    const bool thrashes = view.wanted > view.fit && view.fit < static_cast<int>(view.rows.size());
    ASSERT_EQ(!view.advice.empty(), thrashes);
    const DemandView endless = thrash_gauge(models, gpu(gib(1000)), kWorth);
    ASSERT_EQ(endless.fit, static_cast<int>(endless.rows.size()));
    ASSERT_TRUE(endless.advice.empty());
  }
}

}  // namespace
}  // namespace lm::core

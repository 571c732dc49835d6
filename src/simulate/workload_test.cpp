#include "simulate/workload.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "simulate/seeded.h"

namespace lm::simulate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What python3 -c "import random; r = random.Random(SEED); print(r.random(), …, r.expovariate(.5))" prints.
TEST(Seeded, GivesPythonsNumbers) {
  Seeded one(1);
  EXPECT_DOUBLE_EQ(one.uniform(), 0.13436424411240122);
  EXPECT_DOUBLE_EQ(one.uniform(), 0.8474337369372327);
  Seeded five(5);
  EXPECT_DOUBLE_EQ(five.uniform(), 0.6229016948897019);
  Seeded wide(1234567890123);
  EXPECT_DOUBLE_EQ(wide.uniform(), 0.8225316907510454);
  Seeded spans(1);
  EXPECT_DOUBLE_EQ(spans.exponential(0.5), 0.2885821282190184);
}

TEST(Trace, IsReadWhateverTheOrderOfItsColumns) {
  const auto trace = read_trace(
      "model,when,t_s,generated_tokens,context_tokens\r\n"
      "a,x,10.5,44,374\r\n"
      "\r\n"
      "b,y,11,0,879\r\n"
      "a,z,11,5,1\r\n",
      "t.csv");
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_THAT(trace->models, ElementsAre("a", "b"));
  ASSERT_EQ(trace->arrivals.size(), 3U);
  EXPECT_EQ(trace->arrivals[0].at, Duration()) << "times count from the first";
  EXPECT_EQ(trace->arrivals[1].at, std::chrono::milliseconds(500));
  EXPECT_EQ(trace->arrivals[1].model, 1);
  EXPECT_EQ(trace->arrivals[0].context, 374);
  EXPECT_EQ(trace->arrivals[0].generated, 44);
  EXPECT_EQ(trace->span(), std::chrono::milliseconds(500));
  EXPECT_TRUE(trace->by_tokens);
}

TEST(Trace, SaysWhoAsksOneAfterTheOther) {
  const auto trace = read_trace(
      "t_s,client,model,context_tokens,generated_tokens\n"
      "0,bot,a,1,1\n"
      "0,,a,1,1\n"
      "1,desk,b,1,1\n"
      "1,bot,b,1,1\n",
      "t.csv");
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->clients, 2);
  std::vector<int> clients;
  for (const Arrival& arrival : trace->arrivals) clients.push_back(arrival.client);
  EXPECT_THAT(clients, ElementsAre(0, -1, 1, 0));
}

TEST(Trace, WhatIsWrongIsToldWithItsLine) {
  constexpr std::string_view kNames = "t_s,model,context_tokens,generated_tokens\n";
  const auto message = [&](const std::string& text) {
    const auto trace = read_trace(text, "t.csv");
    EXPECT_FALSE(trace.has_value()) << text;
    return trace ? std::string() : trace.error().message;
  };
  const auto line = [&](const std::string& text) { return message(std::string(kNames) + text); };
  EXPECT_THAT(message("t,model,context_token,generated_tokens\n1,a,1,1\n"), HasSubstr("t.csv:1: "));
  EXPECT_THAT(message("t_s,model,context_token,generated_tokens\n"), HasSubstr("is context_token meant?"));
  EXPECT_THAT(message(""), HasSubstr("t.csv: "));
  EXPECT_THAT(message(std::string(kNames)), HasSubstr("a line for each request"));
  EXPECT_THAT(line("0,a,1,1\n1,a,1\n"), HasSubstr("t.csv:3: expected 4 cells, found 3"));
  EXPECT_THAT(line("soon,a,1,1\n"), HasSubstr("t.csv:2: t_s must be seconds, found \"soon\""));
  EXPECT_THAT(line("nan,a,1,1\n"), HasSubstr("t_s must be seconds"));
  EXPECT_THAT(line("1e300,a,1,1\n"), HasSubstr("t_s must be seconds"));
  EXPECT_THAT(line("5,a,1,1\n4,a,1,1\n"), HasSubstr("t.csv:3: t_s goes back"));
  EXPECT_THAT(line("0,a,-1,1\n"), HasSubstr("context_tokens must be a number of tokens"));
  EXPECT_THAT(line("0,a,1,9999999999\n"), HasSubstr("generated_tokens must be"));
  EXPECT_THAT(line("0,,1,1\n"), HasSubstr("no name"));
}

// The first three requests of reference.py's loop for seed 1 and 1.6 requests a second.
TEST(Synthetic, IsTheReferencesWorkload) {
  const Workload made = synthesize({.rate = 1.6, .seed = 1});
  ASSERT_GE(made.arrivals.size(), 3U);
  EXPECT_FALSE(made.by_tokens);
  const double expected[3][3] = {
      {0.090181915, 1, 2.885937851}, {0.274221738, 0, 1.193824184}, {0.933211653, 1, 0.197122007}};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(seconds(made.arrivals[i].at), expected[i][0], 1e-6);
    EXPECT_EQ(made.arrivals[i].model, static_cast<int>(expected[i][1]));
    EXPECT_NEAR(seconds(made.arrivals[i].service), expected[i][2], 1e-6);
  }
}

TEST(Synthetic, KeepsItsRateItsLengthAndItsSkew) {
  const Workload made = synthesize({.rate = 10,
                                    .service = std::chrono::milliseconds(500),
                                    .models = 4,
                                    .skew = 1,
                                    .span = std::chrono::hours(2),
                                    .seed = 7});
  const auto n = static_cast<double>(made.arrivals.size());
  EXPECT_NEAR(n, 72000, 4 * std::sqrt(72000));
  EXPECT_THAT(made.models, ElementsAre("A", "B", "C", "D"));
  double service = 0;
  std::vector<double> counts(4);
  Duration last{};
  for (const Arrival& arrival : made.arrivals) {
    EXPECT_GE(arrival.at, last);
    last = arrival.at;
    service += seconds(arrival.service);
    counts.at(static_cast<std::size_t>(arrival.model)) += 1;
  }
  EXPECT_LT(last, std::chrono::hours(2));
  EXPECT_NEAR(service / n, 0.5, 0.01);
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(counts[i] / counts[0], 1.0 / static_cast<double>(i + 1), 0.02);
}

TEST(Workload, ScalingMovesArrivalsAndKeepsAnswers) {
  const Workload made = synthesize({.rate = 1, .span = std::chrono::minutes(10), .seed = 2});
  const Workload half = scaled(made, 0.5);
  ASSERT_EQ(half.arrivals.size(), made.arrivals.size());
  for (std::size_t i = 0; i < made.arrivals.size(); ++i) {
    EXPECT_NEAR(seconds(half.arrivals[i].at), 2 * seconds(made.arrivals[i].at), 1e-6);
    EXPECT_EQ(half.arrivals[i].service, made.arrivals[i].service);
  }
}

}  // namespace
}  // namespace lm::simulate

#include "chat/mood.h"

#include <set>

#include <gtest/gtest.h>

#include "chat/intimacy.h"
#include "chat/sentiment.h"

namespace lm::chat {
namespace {

using std::chrono::hours;

TEST(Sentiment, KnowsThreeScripts) {
  for (const char* good : {"I love this, thank you!", "谢谢你，我很开心", "謝謝你，我很開心", "LOVE it"})
    EXPECT_GT(sentiment(good), 0.5) << good;
  for (const char* bad : {"This is terrible and I am sad.", "我好难过", "我好難過，真討厭"})
    EXPECT_LT(sentiment(bad), -0.5) << bad;
  for (const char* plain : {"", "The train leaves at nine.", "今天天氣怎麼樣？", "明天見"})
    EXPECT_EQ(sentiment(plain), 0) << plain;
}

TEST(Sentiment, TurnsWhatIsNegated) {
  EXPECT_LT(sentiment("That is not a very good idea"), 0);
  EXPECT_GT(sentiment("No worries. Good."), 0) << "a sentence's end is a negation's end";
  EXPECT_LT(sentiment("我不开心"), 0);
  EXPECT_LT(sentiment("我不太開心"), 0);
  EXPECT_GT(sentiment("我不讨厌你"), 0);
}

TEST(Sentiment, IsOfWholeEnglishWords) {
  EXPECT_EQ(sentiment("a goodly number of badgers"), 0);
  EXPECT_EQ(sentiment("good and bad"), 0);
}

TEST(Mood, EveryMoodCanBeReachedAndLeft) {
  std::set<Mood> reached;
  for (std::size_t mood = 0; mood < kMoods; ++mood) {
    bool left = false;
    for (std::size_t tone = 0; tone < kTones; ++tone) {
      const Mood next = next_mood(usual_moods(), static_cast<Mood>(mood), static_cast<Tone>(tone));
      reached.insert(next);
      left = left || next != static_cast<Mood>(mood);
    }
    EXPECT_TRUE(left) << to_string(static_cast<Mood>(mood));
  }
  EXPECT_EQ(reached.size(), kMoods);
}

TEST(Mood, CalmsDownWhereNothingIsFelt) {
  for (std::size_t start = 0; start < kMoods; ++start) {
    Mood mood = static_cast<Mood>(start);
    for (std::size_t i = 0; i < kMoods; ++i) mood = next_mood(usual_moods(), mood, Tone::kPlain);
    EXPECT_EQ(mood, Mood::kCalm) << "from " << to_string(static_cast<Mood>(start));
  }
}

TEST(Mood, WarmWordsNeverMakeItWorseThanBadOnes) {
  EXPECT_EQ(tone_of(1, 1), Tone::kWarm);
  EXPECT_EQ(tone_of(-1, -1), Tone::kBad);
  EXPECT_EQ(tone_of(0, 0), Tone::kPlain);
  EXPECT_EQ(tone_of(0, 1), Tone::kNice);
  EXPECT_EQ(tone_of(-1, 1), Tone::kPoor) << "the user's words weigh more";
  EXPECT_EQ(next_mood(usual_moods(), Mood::kCalm, Tone::kWarm), Mood::kDelighted);
  EXPECT_EQ(next_mood(usual_moods(), Mood::kUpset, Tone::kWarm), Mood::kCalm);
}

TEST(Intimacy, RisesSlowlyAndStaysInItsRange) {
  Intimacy one;
  EXPECT_EQ(one.level(), 0);
  one.exchanged(0, {});
  EXPECT_DOUBLE_EQ(one.level(), 0.5);
  one.exchanged(1, {});
  EXPECT_DOUBLE_EQ(one.level(), 2.0);
  for (int i = 0; i < 1000; ++i) one.exchanged(1, {});
  EXPECT_EQ(one.level(), 100);
  for (int i = 0; i < 1000; ++i) one.exchanged(-1, {});
  EXPECT_EQ(one.level(), 0);
}

TEST(Intimacy, DecaysAfterADayOfSilence) {
  const Intimacy one({}, 50);
  EXPECT_EQ(one.level(hours(24)), 50);
  EXPECT_DOUBLE_EQ(one.level(hours(24 * 11)), 40);
  EXPECT_EQ(one.level(hours(24 * 1000)), 0);
  Intimacy two({}, 50);
  two.exchanged(0, hours(24 * 11));
  EXPECT_DOUBLE_EQ(two.level(), 40.5);
}

}  // namespace
}  // namespace lm::chat

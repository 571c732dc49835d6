#include "client/telling.h"

#include <string>

#include <gtest/gtest.h>

namespace lm::client {
namespace {

struct Told {
  std::string heard, text, raw;
  bool looping = false;
};

Told tell(const Filters& filters, std::string_view all, std::size_t size) {
  Told told;
  Telling telling(filters, [&](std::string_view piece) { told.heard += piece; });
  for (std::size_t at = 0; at < all.size(); at += size)
    if (!telling.say(all.substr(at, size))) break;
  telling.finish();
  told.text = telling.text();
  told.raw = telling.raw();
  told.looping = telling.looping();
  return told;
}

TEST(Telling, ShowsWhatIsSaidWhereNothingIsAskedOfIt) {
  const Told told = tell({}, "我喜欢软件。 ha ha ha", 2);
  EXPECT_EQ(told.heard, "我喜欢软件。 ha ha ha");
  EXPECT_EQ(told.text, told.heard);
  EXPECT_EQ(told.raw, told.heard);
  EXPECT_FALSE(told.looping);
}

TEST(Telling, EndsALoopAndTurnsWhatIsLeftOfIt) {
  auto words = chat::TraditionalChinese::open();
  ASSERT_TRUE(words) << words.error().message;
  const Filters filters{.repetition = true, .traditional = *words};
  std::string all = "好的。";
  for (int i = 0; i < 100; ++i) all += "我喜欢软件，";
  const Told told = tell(filters, all, 3);
  EXPECT_TRUE(told.looping);
  EXPECT_LT(told.text.size(), all.size() / 4);
  EXPECT_TRUE(told.text.starts_with("好的。我喜歡軟體，我喜歡軟體，")) << told.text;
  EXPECT_EQ(told.heard, told.text);
  EXPECT_EQ(told.text, (*words)->convert(told.raw)) << "what was held back has come";
  for (const std::size_t size : {1u, 7u, 1000u}) EXPECT_EQ(tell(filters, all, size).text, told.text) << size;
}

}  // namespace
}  // namespace lm::client

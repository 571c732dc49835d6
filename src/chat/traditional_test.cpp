#include "chat/traditional.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace lm::chat {
namespace {

// Words of s2twp (软件, 打印机, 服务器, 鼠标), characters that one simplified form has several of (发, 后,
// 里, 面), idioms with punctuation inside, English, digits, emoji, and a stretch without any border.
constexpr std::string_view kText =
    "今天我在办公室里打开了一台新的服务器，安装了数据库软件，然后用鼠标点击了打印机的图标。"
    "后来皇后的头发干了，她发现面条已经发霉了；干燥的天气里，他们干了一整天的活！"
    "Hello world, this is a test of 软件 and hardware 123.45% 😀 程序员写的代码在内存里运行，"
    "信息技术与人工智能的发展使互联网用户的默认设置更加智能化并且能够通过移动终端访问云计算平台上的视频文件\n"
    "“一物不知，深以为耻”，是古人的话。三个和尚没水吃？这里有两只鸡，一共十元；出租车司机说：没关系。\t"
    "露西娅是一位虚拟主播，喜欢唱歌、画画，也喜欢和大家聊天；她的博客里有很多关于人工智能的文章。";

class Traditional : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = TraditionalChinese::open();
    ASSERT_TRUE(opened) << opened.error().message;
    words_ = *std::move(opened);
  }
  std::string in_pieces(std::string_view text, const std::vector<std::size_t>& cuts) const {
    TraditionalStream stream(words_);
    std::string out;
    std::size_t at = 0;
    for (const std::size_t cut : cuts) {
      out += stream.feed(text.substr(at, cut - at));
      at = cut;
    }
    out += stream.feed(text.substr(at));
    return out + stream.finish();
  }
  std::shared_ptr<const TraditionalChinese> words_;
};

TEST_F(Traditional, TakesTaiwansWords) {
  EXPECT_EQ(words_->convert("打开软件，用鼠标点击打印机"), "開啟軟體，用滑鼠點選印表機");
  EXPECT_EQ(words_->convert("头发和皇后"), "頭髮和皇后");
  EXPECT_EQ(words_->convert("Hello 123"), "Hello 123");
  EXPECT_EQ(words_->convert(""), "");
}

TEST_F(Traditional, IsTheSameInPiecesOfEverySize) {
  const std::string whole = words_->convert(std::string(kText));
  ASSERT_NE(whole, kText);
  for (std::size_t size = 1; size < 40; ++size) {
    std::vector<std::size_t> cuts;
    for (std::size_t at = size; at < kText.size(); at += size) cuts.push_back(at);
    EXPECT_EQ(in_pieces(kText, cuts), whole) << "pieces of " << size << " bytes";
  }
}

TEST_F(Traditional, IsTheSameOverAThousandRandomSplits) {
  const std::string whole = words_->convert(std::string(kText));
  for (unsigned seed = 0; seed < 1000; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::size_t> cuts(random() % 60);
    for (std::size_t& cut : cuts) cut = random() % (kText.size() + 1);
    std::ranges::sort(cuts);
    ASSERT_EQ(in_pieces(kText, cuts), whole) << "seed " << seed;
  }
}

TEST_F(Traditional, HoldsBackLessThanASentence) {
  TraditionalStream stream(words_);
  EXPECT_EQ(stream.feed("我喜欢软件。"), "我喜歡軟體。");
  EXPECT_EQ(stream.feed("Hello "), "Hello ");
  EXPECT_EQ(stream.feed("软"), "");
  EXPECT_EQ(stream.feed("件\n"), "軟體\n");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace lm::chat

#include "config/yaml.h"

#include <string>

#include <gtest/gtest.h>

namespace lm::config {
namespace {

Node good(std::string_view text, const YamlLimits& limits = {}) {
  auto tree = parse_yaml(text, "f.yaml", limits);
  EXPECT_TRUE(tree) << to_string(tree.error());
  return tree ? *std::move(tree) : Node{};
}

Problem bad(std::string_view text, const YamlLimits& limits = {}) {
  auto tree = parse_yaml(text, "f.yaml", limits);
  EXPECT_FALSE(tree);
  return tree ? Problem{} : std::move(tree).error();
}

TEST(Yaml, RemembersWhereThingsStood) {
  const Node root = good("a:\n  b: [1, 'x']\n");
  const Node* b = root.find("a")->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->at, (Position{2, 6}));
  EXPECT_EQ(b->children.at(1).at, (Position{2, 10}));
  EXPECT_TRUE(b->children.at(0).plain);
  EXPECT_FALSE(b->children.at(1).plain);
}

TEST(Yaml, EmptyTextsAreNothing) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "\xEF\xBB\xBF"}) {
    EXPECT_EQ(good(text).kind, Node::Kind::kNull) << text;
  }
}

TEST(Yaml, NullsAreNoTexts) {
  const Node root = good("a:\nb: ~\nc: null\nd: 'null'\n");
  EXPECT_EQ(root.find("a")->kind, Node::Kind::kNull);
  EXPECT_EQ(root.find("b")->kind, Node::Kind::kNull);
  EXPECT_EQ(root.find("c")->kind, Node::Kind::kNull);
  EXPECT_EQ(root.find("d")->text, "null");
}

TEST(Yaml, DuplicateKeysAreRefusedWhereTheyStand) {
  const Problem problem = bad("a: 1\nb: 2\na: 3\n");
  EXPECT_EQ(problem.at, (Position{3, 1}));
  EXPECT_NE(problem.message.find("twice"), std::string::npos);
  EXPECT_EQ(problem.file, "f.yaml");
}

TEST(Yaml, TabsAndControlCharactersAndBrokenTextAreNamed) {
  EXPECT_EQ(bad("a:\n\tb: 1\n").at, (Position{2, 1}));
  EXPECT_NE(bad("a:\n\tb: 1\n").message.find("tab"), std::string::npos);
  EXPECT_EQ(bad(std::string_view("a: 1\nb: \x04x\nc: 2\n")).at, (Position{2, 4}));
  EXPECT_EQ(bad(std::string_view("a: 1\0", 5)).at, (Position{1, 5}));
  const Problem latin1 = bad("name: caf\xE9\n");
  EXPECT_EQ(latin1.at, (Position{1, 10}));
  EXPECT_NE(latin1.message.find("UTF-8"), std::string::npos);
  EXPECT_EQ(bad("a: \xC0\xAF").at.column, 4);          // overlong
  EXPECT_EQ(bad("a: \xED\xA0\x80").at.column, 4);      // half of a surrogate pair
  EXPECT_EQ(bad("a: \xF4\x90\x80\x80").at.column, 4);  // beyond Unicode
  EXPECT_EQ(bad(std::string_view("\xFF\xFE"
                                 "a\0",
                                 4))
                .at,
            (Position{1, 1}));  // UTF-16
  EXPECT_EQ(good("name: 露西婭 é 😀\n").find("name")->text, "露西婭 é 😀");
}

TEST(Yaml, AliasesAndMergesAreResolved) {
  const Node root =
      good("base: &b {x: 1, y: 2}\nuse: *b\nmore:\n  <<: *b\n  y: 3\nboth:\n  <<: [*b, {z: 4}]\n");
  EXPECT_EQ(root.find("use")->find("x")->text, "1");
  EXPECT_EQ(root.find("more")->find("x")->text, "1");
  EXPECT_EQ(root.find("more")->find("y")->text, "3");
  EXPECT_EQ(root.find("more")->children.size(), 4U);
  EXPECT_EQ(root.find("both")->find("z")->text, "4");
  EXPECT_NE(bad("a:\n  <<: 5\n").message.find("map"), std::string::npos);
}

TEST(Yaml, AnAliasWithinItselfIsRefused) {
  EXPECT_FALSE(bad("a: &a [*a]\n").message.empty());
  EXPECT_FALSE(bad("a: *nobody\n").message.empty());
}

TEST(Yaml, ABillionLaughsAreRefused) {
  std::string text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 12; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j) text += (j == 0 ? "*a" : ", *a") + std::to_string(i - 1);
    text += "]\n";
  }
  const Problem problem = bad(text);
  EXPECT_NE(problem.message.find("more than"), std::string::npos) << problem.message;
  EXPECT_GT(problem.at.line, 1);
}

TEST(Yaml, LimitsOnSizeDepthAndNumber) {
  EXPECT_NE(bad("aaaaaaaaaaaaaaaa", {.bytes = 8}).message.find("at most 8"), std::string::npos);
  EXPECT_NE(bad("[[[[1]]]]", {.depth = 3}).message.find("deeper"), std::string::npos);
  EXPECT_EQ(good("[[[1]]]", {.depth = 3}).kind, Node::Kind::kList);
  EXPECT_NE(bad("x: &x [[1]]\ny: [*x]\n", {.depth = 3}).message.find("deeper"), std::string::npos);
  EXPECT_NE(bad("[1, 2, 3, 4]", {.nodes = 4}).message.find("more than 4"), std::string::npos);
  // Deep beyond any stack, in each notation that nests.
  for (const std::string unit : {"[", "{a: ", "- ", "? ", "{? "}) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += unit;
    EXPECT_FALSE(bad(text).message.empty()) << unit;
  }
}

TEST(Yaml, OnlyOneDocumentAndOnlyPlainKeys) {
  EXPECT_NE(bad("a: 1\n---\nb: 2\n").message.find("second document"), std::string::npos);
  EXPECT_EQ(bad("a: 1\n---\n# why\nb: 2\n").at.line, 2);
  EXPECT_EQ(bad("a: 1\n---\n").at.line, 2);
  EXPECT_NE(bad("[1, 2]: x\n").message.find("key"), std::string::npos);
  EXPECT_NE(bad("? {a: 1}\n: x\n").message.find("key"), std::string::npos);
}

TEST(Yaml, SyntaxErrorsHaveALine) {
  EXPECT_EQ(bad("a: 1\nb: [1, 2\nc: 3\n").file, "f.yaml");
  EXPECT_GE(bad("a: 1\n b: 2\n").at.line, 1);
  EXPECT_EQ(bad("a: \"never ends\nb: 1\n").at, (Position{1, 4}));
  EXPECT_EQ(bad("線: 1\n露西婭: &x 'it''s\n").at, (Position{2, 6})) << "columns are letters";
  EXPECT_EQ(bad("a: 'ends'\n'b: 1\n").at, (Position{2, 1}));
  EXPECT_EQ(good("a: !!str \"x\\\"y\"\nb: 'it''s'\nc: |\n  \"no quote\n").find("a")->text, "x\"y");
}

}  // namespace
}  // namespace lm::config

#include "config/example.h"

#include <algorithm>
#include <random>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "config/difference.h"
#include "config/load.h"
#include "config/schema.h"

namespace lm::config {
namespace {

Result<Loaded> load_text(std::string text) {
  return load({.config = SourceText{.path = "example.yaml", .text = std::move(text)},
               .dotenv = {},
               .environment = {},
               .working_folder = {}});
}

// Takes the # off every setting that is off.
std::string switched_on(const std::string& example) {
  std::istringstream lines(example);
  std::string result, line;
  while (std::getline(lines, line)) {
    const std::size_t hash = line.find_first_not_of(' ');
    if (hash != std::string::npos && line[hash] == '#' && hash + 1 < line.size() && line[hash + 1] != ' ')
      line.erase(hash, 1);
    result += line + '\n';
  }
  return result;
}

TEST(Example, AsItStandsItSaysTheDefaults) {
  const auto loaded = load_text(config_example());
  ASSERT_TRUE(loaded) << loaded.error().message << "\n" << config_example();
  EXPECT_TRUE(loaded->warnings.empty());
  EXPECT_EQ(loaded->config, Config{}) << to_string(diff(Config{}, loaded->config).at(0));
}

TEST(Example, HasEveryKeyAndEveryExampleIsValid) {
  const std::string all = switched_on(config_example());
  const auto loaded = load_text(all);
  ASSERT_TRUE(loaded) << loaded.error().message << "\n" << all;
  for (const Warning& warning : loaded->warnings) {
    if (warning.key != "providers.openai.api_key_env" && warning.key != "server.clients.ci.key_env")
      ADD_FAILURE() << to_string(warning);
  }
  const auto tree = parse_yaml(all, "example.yaml");
  ASSERT_TRUE(tree);
  for (const Key& key : schema()) {
    const Node* node = &*tree;
    std::istringstream words(key.path);
    std::string word;
    std::string path;
    while (node != nullptr && std::getline(words, word, '.')) {
      path += (path.empty() ? "" : ".") + word;
      node = node->find(word == "*" ? find_section(path)->example_name : word);
    }
    EXPECT_NE(node, nullptr) << key.path << " is not in the example";
  }
}

TEST(Example, LinesStayReadable) {
  std::istringstream lines(config_example());
  std::string line;
  while (std::getline(lines, line)) {
    EXPECT_LE(line.size(), 110U) << line;
    EXPECT_EQ(line.find('\t'), std::string::npos);
    EXPECT_FALSE(line.ends_with(' ')) << line;
  }
}

TEST(Schema, IsATableWithoutHoles) {
  std::vector<std::string> paths;
  for (const Key& key : schema()) {
    paths.push_back(key.path);
    EXPECT_FALSE(key.type.empty()) << key.path;
    const std::string section(parent(key.path));
    EXPECT_TRUE(section.empty() || find_section(section) != nullptr) << key.path;
    for (const std::string& alias : key.aliases) EXPECT_EQ(alias.find('.'), std::string::npos);
  }
  std::ranges::sort(paths);
  EXPECT_EQ(std::ranges::adjacent_find(paths), paths.end());
}

// What the table prints it reads again: for every key, from the example with everything switched on.
TEST(Schema, PrintedAndReadAgainNothingHasChanged) {
  const auto loaded = load_text(switched_on(config_example()));
  ASSERT_TRUE(loaded);
  int compared = 0;
  for (const Key& key : schema()) {
    std::string name;
    Config fresh;
    if (const std::size_t star = key.path.find('*'); star != std::string::npos) {
      const Section* section = find_section(std::string_view(key.path).substr(0, star + 1));
      name = section->example_name;
      section->create(fresh, name);
    }
    const std::string printed = key.print(loaded->config, name);
    if (printed.empty()) continue;
    const auto tree = parse_yaml("k: " + printed + "\n", "f");
    ASSERT_TRUE(tree) << key.path << ": " << printed;
    const auto wrong = key.read(fresh, name, *tree->find("k"));
    EXPECT_FALSE(wrong) << key.path << ": " << *wrong;
    EXPECT_EQ(key.print(fresh, name), printed) << key.path;
    ++compared;
  }
  EXPECT_EQ(compared, static_cast<int>(schema().size())) << "every key has a value in the example";
}

TEST(Difference, IsToldInWords) {
  Config before, after;
  after.settings.residency.linger = std::chrono::minutes(1);
  after.server.listen = "127.0.0.1:9000";
  after.models["qwen"].model_path = "/m/q.gguf";
  after.server.clients["ci"].weight = 2;
  before.models["gone"].model_path = "/m/g.gguf";
  before.models["llm"].load.context = 4096;
  after.models["llm"].load.context = std::nullopt;
  before.server.user_key.value = Secret("sk-old-secret");
  after.server.user_key.value = Secret("sk-new-secret");
  after.server.admin_key.value = Secret("sk-admin-secret");
  std::vector<std::string> lines;
  for (const Change& change : diff(before, after)) lines.push_back(to_string(change));
  const std::vector<std::string> expected = {
      "models.qwen: added",
      "models.gone: removed",
      "server.clients.ci: added (needs a restart)",
      "models.llm.max_length: 4096 → not set",
      "residency.linger: 30s → 1min",
      "server.listen: 127.0.0.1:11435 → 127.0.0.1:9000 (needs a restart)",
      "server.keys.user: changed",
      "server.keys.admin: (not set) → (set)",
  };
  EXPECT_EQ(lines, expected);
  EXPECT_TRUE(diff(after, after).empty());
}

// Whatever happens to the text: a configuration, or problems that each name a line.
TEST(Fuzz, MutatedExamplesNeverCrash) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string plain = config_example();
  const std::string all = switched_on(plain);
  const std::vector<std::string> scraps = {"\t",
                                           ":",
                                           "- ",
                                           "[",
                                           "]",
                                           "{",
                                           "}",
                                           "&a ",
                                           "*a",
                                           "<<: ",
                                           "\"",
                                           "'",
                                           "|\n",
                                           ">\n",
                                           "#",
                                           "? ",
                                           "!!str ",
                                           "\n",
                                           "---\n",
                                           "...\n",
                                           "%YAML 1.2\n",
                                           "\xFF",
                                           "\xC3",
                                           "null",
                                           "~",
                                           "1e999",
                                           "-1",
                                           "99999999999999999999",
                                           std::string(1, '\0'),
                                           "\x04",
                                           "線",
                                           "  ",
                                           ",",
                                           "\r",
                                           "@",
                                           "`",
                                           "%",
                                           "\\",
                                           "models:",
                                           "*: x\n"};
  const auto pick = [&random](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  int valid = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::string text = pick(2) == 0 ? plain : all;
    const std::size_t changes = 1 + pick(4);
    for (std::size_t i = 0; i < changes && !text.empty(); ++i) {
      const std::size_t at = pick(text.size());
      switch (pick(5)) {
        case 0:
          text[at] = static_cast<char>(pick(256));
          break;
        case 1:
          text.erase(at, 1 + pick(20));
          break;
        case 2:
          text.insert(at, scraps[pick(scraps.size())]);
          break;
        case 3:
          text.insert(at, text.substr(pick(text.size()), pick(80)));
          break;
        default:
          if (pick(4) == 0) text.resize(at);
      }
    }
    const auto loaded = load_text(text);
    if (loaded) {
      ++valid;
      continue;
    }
    ++refused;
    ASSERT_FALSE(loaded.error().fields.empty());
    for (const auto& [name, value] : loaded.error().fields) {
      const std::string& line = std::get<std::string>(value);
      ASSERT_TRUE(line.starts_with("example.yaml:")) << line;
      ASSERT_GE(std::stoi(line.substr(std::string_view("example.yaml:").size())), 1) << line;
    }
  }
  EXPECT_GT(valid, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace lm::config

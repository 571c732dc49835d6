#include "config/model_folder.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/disk_check.h"
#include "config/load.h"
#include "config/sources.h"
#include "config/utf8.h"

namespace lm::config {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Folder : public ::testing::Test {
 protected:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "lm-config-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~Folder() override { fs::remove_all(root_); }

  void put(const std::string& name, std::size_t size = 10) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << std::string(size, 'x');
  }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  FolderScan scan(const FolderLimits& limits = {}) { return scan_model_folders(std::vector{root_}, limits); }
  std::vector<std::string> ids(const FolderLimits& limits = {}) {
    std::vector<std::string> names;
    for (const Model& model : scan(limits).models) names.push_back(model.id.str());
    return names;
  }

  fs::path root_;
};

TEST_F(Folder, NamesAreCanonicalAndOrderIsFixed) {
  put("b/Qwen3 8B.GGUF", 20);
  put("TinyLlama-1.1B-Chat-v1.0.IQ2_XXS.gguf", 30);
  put("readme.md");
  put("a.gguf");
  const FolderScan first = scan();
  EXPECT_THAT(ids(), ElementsAre("tinyllama-1.1b-chat-v1.0.iq2_xxs", "a", "qwen3-8b"));
  EXPECT_THAT(first.models[0].aliases, ElementsAre("tinyllama-1.1b-chat-v1.0"));
  EXPECT_EQ(first.models[0].artifact.size, Bytes(30));
  EXPECT_EQ(first.models[0].artifact.path, root_ / "TinyLlama-1.1B-Chat-v1.0.IQ2_XXS.gguf");
  EXPECT_EQ(first.models[2].origin, (root_ / "b").string());
  EXPECT_THAT(first.warnings, IsEmpty());
  EXPECT_EQ(first.models, scan().models);
}

TEST_F(Folder, CheckpointsAreFoundAndAreNoModelsYet) {
  put("a/qwen/config.json");
  put("a/qwen/model.safetensors");
  put("b/config.json");
  put("c/model.safetensors");
  put(".hidden/config.json");
  put(".hidden/model.safetensors");
  EXPECT_THAT(scan().checkpoints, ElementsAre(root_ / "a/qwen"));
  EXPECT_THAT(scan().models, IsEmpty());
}

TEST_F(Folder, PartsOfASplitFileAreOneModel) {
  put("Big-00001-of-00003.gguf", 1);
  put("Big-00002-of-00003.gguf", 2);
  put("Big-00003-of-00003.gguf", 4);
  const auto models = scan().models;
  ASSERT_THAT(models, SizeIs(1));
  EXPECT_EQ(models[0].id.str(), "big");
  EXPECT_EQ(models[0].artifact.path, root_ / "Big-00001-of-00003.gguf");
  EXPECT_EQ(models[0].artifact.size, Bytes(7));
  EXPECT_FALSE(models[0].problem);
}

TEST_F(Folder, MissingPartsAreNamed) {
  put("big-00002-of-00003.gguf");
  put("huge-00001-of-00100.gguf");
  put("odd-00004-of-00003.gguf");  // not a part: a name of its own
  const auto models = scan().models;
  ASSERT_THAT(models, SizeIs(3));
  EXPECT_EQ(models[0].artifact.path, root_ / "big-00001-of-00003.gguf");
  ASSERT_TRUE(models[0].problem);
  EXPECT_EQ(models[0].problem->reason, "missing_parts");
  EXPECT_THAT(models[0].problem->message, HasSubstr("big-00001-of-00003.gguf, big-00003-of-00003.gguf"));
  EXPECT_THAT(models[1].problem->message, HasSubstr("huge-00006-of-00100.gguf and 94 more"));
  EXPECT_FALSE(models[2].problem);
}

TEST_F(Folder, UnfinishedDownloadsAndHiddenFoldersAreSkipped) {
  put("a.gguf.part");
  put("b.gguf.incomplete");
  put("c.part.gguf");
  put("d.gguf");
  put("d.gguf.aria2");
  put(".hidden/e.gguf");
  put(".f.gguf");
  put("g.gguf");
  EXPECT_THAT(ids(), ElementsAre("g"));
}

TEST_F(Folder, ProjectorsBelongToTheModelBesideThem) {
  put("gemma/gemma-3-4b-it-Q4_K_M.gguf");
  put("gemma/gemma-3-4b-it-Q8_0.gguf");
  put("gemma/mmproj-F32.gguf");
  put("gemma/mmproj-F16.gguf");
  put("mixed/llava-7b-q4_0.gguf");
  put("mixed/qwen2-vl-2b-q4_0.gguf");
  put("mixed/mmproj-Qwen2-VL-2B-f16.gguf");
  put("mixed/mmproj-model-f16.gguf");
  put("alone/mmproj-x.gguf");
  const auto models = scan().models;
  ASSERT_THAT(models, SizeIs(4));
  EXPECT_EQ(models[0].artifact.projector, root_ / "gemma/mmproj-F16.gguf");
  EXPECT_EQ(models[1].artifact.projector, root_ / "gemma/mmproj-F16.gguf");
  EXPECT_EQ(models[0].artifact.size, Bytes(10));
  EXPECT_EQ(models[2].id.str(), "llava-7b-q4_0");
  EXPECT_EQ(models[2].artifact.projector, "") << "nobody knows whose mmproj-model is";
  EXPECT_EQ(models[3].artifact.projector, root_ / "mixed/mmproj-Qwen2-VL-2B-f16.gguf");
}

TEST_F(Folder, NamesAreUnique) {
  put("a/model.gguf");
  put("b/model.gguf");
  put("c/Model.gguf");
  put("c/model.gguf");
  put("q/x-q4_0.gguf");
  put("q/x-q8_0.gguf");
  put("q/y-q8_0.gguf");
  put("r/y.gguf");
  const auto models = scan().models;
  EXPECT_THAT(ids(),
              ElementsAre("model", "b-model", "c-model", "model-2", "x-q4_0", "x-q8_0", "y-q8_0", "y"));
  EXPECT_THAT(models[4].aliases, IsEmpty()) << "x could be either";
  EXPECT_THAT(models[6].aliases, IsEmpty()) << "y is another";
}

TEST_F(Folder, LinksAreFollowedButNothingIsFoundTwice) {
  put("real/a.gguf");
  fs::create_directory_symlink(root_, root_ / "real/loop");
  fs::create_directory_symlink(root_ / "real", root_ / "again");
  fs::create_symlink(root_ / "real/a.gguf", root_ / "zlink.gguf");
  fs::create_symlink(root_ / "nowhere", root_ / "broken.gguf");
  const FolderScan twice = scan_model_folders(std::vector{root_, root_ / "real", root_});
  EXPECT_THAT(twice.models, SizeIs(1));
  EXPECT_THAT(twice.warnings, IsEmpty());
}

TEST_F(Folder, DepthAndNumberAreBounded) {
  put("1/2/3/deep.gguf");
  put("1/near.gguf");
  EXPECT_THAT(ids({.depth = 2}), ElementsAre("near"));
  EXPECT_THAT(scan({.depth = 2}).warnings,
              ElementsAre(::testing::Field(&Warning::message, HasSubstr("deeper than 2"))));
  EXPECT_THAT(ids({.depth = 3}), SizeIs(2));
  for (int i = 0; i < 20; ++i) put("many/" + std::to_string(i) + ".gguf");
  const FolderScan bounded = scan({.entries = 10});
  EXPECT_LE(bounded.models.size(), 10U);
  EXPECT_THAT(bounded.warnings, SizeIs(1));
}

TEST_F(Folder, AFolderThatIsNotThereIsAWarning) {
  put("file.gguf");
  const FolderScan scan = scan_model_folders(std::vector{root_ / "nowhere", root_ / "file.gguf"});
  EXPECT_THAT(scan.models, IsEmpty());
  EXPECT_THAT(scan.warnings, SizeIs(2));
}

TEST_F(Folder, AFileWhoseNameIsNotUtf8IsLeftOutAndTold) {
  put("caf\xE9.gguf");
  put("caf\xE9/good.gguf");
  put("plain.gguf");
  EXPECT_THAT(ids(), ElementsAre("plain"));
  const auto warnings = scan().warnings;
  ASSERT_THAT(warnings, SizeIs(2));
  EXPECT_THAT(to_string(warnings[0]), HasSubstr("caf\\xE9.gguf"));
  for (const Warning& warning : warnings) EXPECT_TRUE(is_utf8(to_string(warning)));
}

TEST_F(Folder, WhatAConfigurationNamesAndTheDiskDoesNotHaveIsTold) {
  put("models/here.gguf");
  write("llm-manager.yaml",
        "model_folders:\n"
        "  [models, nowhere]\n"
        "models:\n"
        "  a: {model_path: here}\n"
        "  b:\n"
        "    model_path: gone.gguf\n"
        "  c: {model_path: \"\"}\n"
        "  d: {model_path: models/here.gguf, projector: eye.gguf}\n"
        "  e: {model_path: owner/repo}\n");
  const auto sources = find_sources(root_ / "llm-manager.yaml", root_, {});
  ASSERT_TRUE(sources) << sources.error().message;
  const auto loaded = load(*sources);
  ASSERT_TRUE(loaded) << loaded.error().message;
  std::vector<std::string> told;
  const auto is_source = [](const std::string& path) { return path == "owner/repo"; };
  for (const Warning& warning : check_disk(*loaded, {}, is_source)) told.push_back(to_string(warning));
  const std::string file = (root_ / "llm-manager.yaml").string();
  EXPECT_THAT(told,
              ElementsAre(AllOf(HasSubstr(file + ":1:1"), HasSubstr("nowhere")),
                          AllOf(HasSubstr(file + ":6:5: models.b.model_path"), HasSubstr("gone.gguf")),
                          AllOf(HasSubstr(file + ":7:7: models.c.model_path"), HasSubstr("no model_path")),
                          AllOf(HasSubstr(file + ":8:37: models.d.projector"), HasSubstr("eye.gguf"))));
}

TEST_F(Folder, OddNamesBecomeGoodOnes) {
  EXPECT_EQ(canonical_name("A b\"c'd*e"), "a-b-c-d-e");
  EXPECT_EQ(canonical_name("caf\xE9"), "caf_");
  EXPECT_EQ(canonical_name("露西婭"), "露西婭");
  EXPECT_EQ(canonical_name(""), "model");
  EXPECT_EQ(without_quantization("qwen3-8b-q4_k_m"), "qwen3-8b");
  EXPECT_EQ(without_quantization("qwen3-8b-ud-q4_k_xl"), "qwen3-8b");
  EXPECT_EQ(without_quantization("m.f16"), "m");
  EXPECT_EQ(without_quantization("qwen3"), "qwen3");
  EXPECT_EQ(without_quantization("model-q"), "model-q");
  EXPECT_EQ(guess_kind("All-MiniLM-L6-v2"), ModelKind::kEmbedding);
  EXPECT_EQ(guess_kind("multilingual-e5-large"), ModelKind::kEmbedding);
  EXPECT_EQ(guess_kind("re5-x"), ModelKind::kGeneration);
  EXPECT_EQ(guess_kind("qwen3-reranker"), ModelKind::kRerank);
}

// ---- sources.h

TEST_F(Folder, TheFirstConfigurationOfTheSearchPathCounts) {
  const std::map<std::string, std::string> environment = {{"HOME", (root_ / "home").string()}};
  fs::create_directories(root_ / "work");
  auto none = find_sources({}, root_ / "work", environment);
  ASSERT_TRUE(none) << none.error().message;
  if (!fs::exists("/etc/llm-manager/config.yaml")) EXPECT_FALSE(none->config);

  write("home/.config/llm-manager/config.yaml", "locale: en");
  write("home/.config/llm-manager/.env", "A=beside");
  write("work/.env", "A=work\nB=work");
  auto user = find_sources({}, root_ / "work", environment);
  ASSERT_TRUE(user && user->config);
  EXPECT_EQ(user->config->path, root_ / "home/.config/llm-manager/config.yaml");
  ASSERT_THAT(user->dotenv, SizeIs(2));
  auto loaded = load(*user);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->environment.find("A")->value, "beside");
  EXPECT_EQ(loaded->environment.find("B")->value, "work");

  write("work/llm-manager.yaml", "locale: zh-CN");
  auto local = find_sources({}, root_ / "work", environment);
  ASSERT_TRUE(local && local->config);
  EXPECT_EQ(local->config->path, root_ / "work/llm-manager.yaml");
  EXPECT_THAT(local->dotenv, SizeIs(1));
}

TEST_F(Folder, AChosenConfigurationMustBeThere) {
  auto missing = find_sources("x.yaml", root_, {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr((root_ / "x.yaml").string()));
  auto folder = find_sources(".", root_, {});
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, HasSubstr("is a folder"));
  write("x.yaml", "locale: en");
  auto there = find_sources("x.yaml", root_, {});
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ(there->config->text, "locale: en");
}

TEST_F(Folder, KeyFiles) {
  write("key", "sk-file\n");
  fs::permissions(root_ / "key", fs::perms::owner_read | fs::perms::owner_write);
  Config config;
  config.providers["p"].api_key.file = (root_ / "key").string();
  auto warnings = read_key_files(config);
  ASSERT_TRUE(warnings) << warnings.error().message;
  EXPECT_THAT(*warnings, IsEmpty());
  EXPECT_EQ(config.providers["p"].api_key.value.reveal(), "sk-file");

  fs::permissions(root_ / "key", fs::perms::others_read, fs::perm_options::add);
  config.providers["p"].api_key.value = Secret();
  warnings = read_key_files(config);
  ASSERT_TRUE(warnings);
  EXPECT_THAT(*warnings, ElementsAre(::testing::Field(&Warning::message, HasSubstr("chmod 600"))));

  write("key", "\n");
  config.providers["p"].api_key.value = Secret();
  EXPECT_FALSE(read_key_files(config));
  write("key", "two\nlines\n");
  EXPECT_FALSE(read_key_files(config));
  config.providers["p"].api_key.file = (root_ / "nokey").string();
  auto missing = read_key_files(config);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("nokey"));
}

}  // namespace
}  // namespace lm::config

#include "config/models.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::config {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

Model found(std::string id, std::string path, ModelKind kind = ModelKind::kGeneration) {
  Model model;
  model.id = ModelId(std::move(id));
  model.kind = kind;
  model.artifact.path = std::move(path);
  model.artifact.size = mib(300);
  return model;
}

// The one model that the name means.
const Model& named(const std::vector<Model>& models, const std::string& name) {
  const Model* result = nullptr;
  int count = 0;
  for (const Model& model : models) {
    if (model.id.str() != name && std::ranges::find(model.aliases, name) == model.aliases.end()) continue;
    result = &model;
    ++count;
  }
  EXPECT_EQ(count, 1) << name;
  static const Model kNone;
  return result == nullptr ? kNone : *result;
}

TEST(Models, TheGuidesTwo) {
  Config config;
  config.models["llm"].model_path = "/path/to/Qwen-8B";
  config.models["llm"].load.context = 4096;
  config.models["llm"].load.device = "cuda";
  config.models["llm"].sampling.top_k = 50;
  config.models["llm"].policy.pinned = true;
  config.models["embedding"].model_path = "/path/to/Qwen3-Embedding-0.6B";
  const auto models = to_models(config);
  ASSERT_THAT(models, SizeIs(2));
  const Model& llm = named(models, "llm");
  EXPECT_EQ(llm.kind, ModelKind::kGeneration);
  EXPECT_EQ(llm.artifact.path, "/path/to/Qwen-8B");
  EXPECT_EQ(llm.load.context, 4096);
  EXPECT_EQ(llm.load.device, "cuda");
  EXPECT_EQ(llm.sampling.top_k, 50);
  EXPECT_TRUE(llm.policy.pinned);
  EXPECT_EQ(llm.family, Family::kLocal);
  EXPECT_FALSE(llm.problem);
  EXPECT_EQ(named(models, "embedding").kind, ModelKind::kEmbedding);
  for (const char* role : {"chat", "knowledge", "translation", "local_default"})
    EXPECT_EQ(named(models, role).id.str(), "llm");
}

TEST(Models, RolesGoWhereTheyAreSent) {
  Config config;
  config.models["llm"].model_path = "/a";
  config.models["coder"].model_path = "/b";
  config.models["coder"].aliases = {"code"};
  config.roles.chat = "code";
  config.roles.knowledge = "ollama_qwen:7b";
  const auto models = to_models(config);
  EXPECT_EQ(named(models, "chat").id.str(), "coder");
  EXPECT_EQ(named(models, "translation").id.str(), "llm");
  for (const Model& model : models)
    EXPECT_THAT(model.aliases, Not(Contains("knowledge"))) << "an upstream has it";
}

TEST(Models, WithoutConfigurationTheFirstFoundIsTheDefault) {
  const std::vector<Model> files = {found("minilm", "/m/minilm.gguf", ModelKind::kEmbedding),
                                    found("tinyllama", "/m/tinyllama.gguf"), found("other", "/m/other.gguf")};
  const auto models = to_models({}, files);
  ASSERT_THAT(models, SizeIs(3));
  EXPECT_EQ(named(models, "chat").id.str(), "tinyllama");
  EXPECT_EQ(named(models, "local_default").id.str(), "tinyllama");
  EXPECT_EQ(named(models, "embedding").id.str(), "minilm");
  EXPECT_THAT(to_models({}), IsEmpty());
}

TEST(Models, AFileThatWasLookedIntoTellsItsKindWhereTheConfigurationDoesNot) {
  const std::vector<Model> files = {
      found("notes", "/m/notes.gguf"), found("my-rerank", "/m/my-rerank.gguf", ModelKind::kRerank),
      found("my-embed", "/m/my-embed.gguf", ModelKind::kEmbedding), found("talk", "/m/talk.gguf")};
  std::map<std::filesystem::path, ModelKind> looked;
  const KindIn kind_in = [&](const std::filesystem::path& path) -> std::optional<ModelKind> {
    const auto kind = looked.find(path);
    return kind == looked.end() ? std::nullopt : std::optional(kind->second);
  };
  EXPECT_EQ(named(to_models({}, files, kind_in), "chat").id.str(), "notes");
  looked = {{"/m/notes.gguf", ModelKind::kEmbedding}};
  auto models = to_models({}, files, kind_in);
  EXPECT_EQ(named(models, "notes").kind, ModelKind::kEmbedding);
  EXPECT_EQ(named(models, "chat").id.str(), "talk") << "roles follow";
  EXPECT_EQ(named(models, "embedding").id.str(), "notes");

  // A file that is silent says nothing against a name.
  looked = {{"/m/my-rerank.gguf", ModelKind::kEmbedding}, {"/m/my-embed.gguf", ModelKind::kGeneration}};
  models = to_models({}, files, kind_in);
  EXPECT_EQ(named(models, "my-rerank").kind, ModelKind::kRerank);
  EXPECT_EQ(named(models, "my-embed").kind, ModelKind::kEmbedding);

  Config config;
  config.models["said"].model_path = "/m/notes.gguf";
  config.models["said"].kind = ModelKind::kGeneration;
  config.models["unsaid"].model_path = "/m/notes.gguf";
  config.models["elsewhere"].model_path = "/else/where.gguf";
  config.models["llm"].model_path = "/m/talk.gguf";
  looked = {{"/m/notes.gguf", ModelKind::kEmbedding},
            {"/else/where.gguf", ModelKind::kRerank},
            {"/m/talk.gguf", ModelKind::kEmbedding}};
  models = to_models(config, files, kind_in);
  EXPECT_EQ(named(models, "said").kind, ModelKind::kGeneration);
  EXPECT_EQ(named(models, "unsaid").kind, ModelKind::kEmbedding);
  EXPECT_EQ(named(models, "elsewhere").kind, ModelKind::kRerank);
  EXPECT_EQ(named(models, "llm").kind, ModelKind::kGeneration) << "its name is the configuration's word";
}

TEST(Models, ABrokenFileIsNoDefault) {
  std::vector<Model> files = {found("a", "/m/a.gguf"), found("b", "/m/b.gguf")};
  files[0].problem = Error{.code = ErrorCode::kFailedPrecondition, .message = "parts are not there"};
  EXPECT_EQ(named(to_models({}, files), "chat").id.str(), "b");
}

TEST(Models, AModelPathMayBeTheNameOfAFoundModel) {
  std::vector<Model> files = {found("tinyllama", "/cache/tinyllama.gguf")};
  files[0].artifact.projector = "/cache/mmproj.gguf";
  files[0].aliases = {"tiny"};
  Config config;
  config.models["llm"].folder = "/etc/lm";
  for (const char* name : {"tinyllama", "TinyLlama", "tinyllama.gguf", "tiny"}) {
    config.models["llm"].model_path = name;
    const auto models = to_models(config, files);
    ASSERT_THAT(models, SizeIs(1)) << name;
    EXPECT_EQ(models[0].artifact.path, "/cache/tinyllama.gguf");
    EXPECT_EQ(models[0].artifact.size, mib(300));
    EXPECT_EQ(models[0].artifact.projector, "/cache/mmproj.gguf");
    EXPECT_EQ(named(models, "tinyllama").id.str(), "llm");
    EXPECT_EQ(named(models, "tiny").id.str(), "llm");
  }
  config.models["llm"].model_path = "Qwen/Qwen3-8B";
  const auto models = to_models(config, files);
  EXPECT_EQ(named(models, "llm").artifact.path, "/etc/lm/Qwen/Qwen3-8B");
  EXPECT_EQ(named(models, "tinyllama").artifact.path, "/cache/tinyllama.gguf");
}

TEST(Models, AFoundFileThatIsConfiguredByPathIsThatModel) {
  Config config;
  config.models["llm"].model_path = "models/../models/a.gguf";
  config.models["llm"].folder = "/srv";
  config.models["long"].model_path = "/srv/models/a.gguf";
  config.models["long"].load.context = 32768;
  const auto models = to_models(
      config, std::vector<Model>{found("a", "/srv/models/a.gguf"), found("b", "/srv/models/b.gguf")});
  ASSERT_THAT(models, SizeIs(3));
  EXPECT_EQ(named(models, "llm").artifact.size, mib(300));
  EXPECT_EQ(named(models, "long").artifact.path, "/srv/models/a.gguf");
  EXPECT_EQ(named(models, "a").id.str(), "llm");
  EXPECT_EQ(named(models, "b").artifact.path, "/srv/models/b.gguf");
}

TEST(Models, NoNameStandsTwice) {
  Config config;
  config.models["llm"].model_path = "/x.gguf";
  config.models["tiny"].model_path = "/y.gguf";
  config.models["tiny"].aliases = {"chat", "b"};
  std::vector<Model> files = {found("llm", "/m/llm.gguf"), found("b", "/m/b.gguf"), found("c", "/m/c.gguf"),
                              found("knowledge", "/m/k.gguf")};
  files[2].aliases = {"b", "tiny", "local_default"};
  const auto models = to_models(config, files);
  ASSERT_THAT(models, SizeIs(6));
  std::multiset<std::string> names;
  for (const Model& model : models) {
    names.insert(model.id.str());
    names.insert(model.aliases.begin(), model.aliases.end());
  }
  for (const std::string& name : names) EXPECT_EQ(names.count(name), 1U) << name;
  EXPECT_EQ(named(models, "chat").id.str(), "tiny") << "the owner's word before our defaults";
  EXPECT_EQ(named(models, "llm-2").artifact.path, "/m/llm.gguf");
  EXPECT_EQ(named(models, "b-2").artifact.path, "/m/b.gguf");
}

TEST(Models, AnEntryWithoutAPathSaysSo) {
  Config config;
  config.models["llm"].sampling.temperature = 0.5;
  const auto models = to_models(config);
  ASSERT_TRUE(models.at(0).problem);
  EXPECT_EQ(models.at(0).problem->reason, "no_model_path");
}

TEST(Models, KindsByNameWhereNothingIsSaid) {
  Config config;
  config.models["search"].model_path = "/m/bge-reranker-v2.gguf";
  config.models["vectors"].model_path = "/m/nomic-embed-text.gguf";
  config.models["talk"].model_path = "/m/qwen.gguf";
  config.models["llm"].model_path = "/m/my-embedding-chat.gguf";
  config.models["said"].model_path = "/m/all-minilm.gguf";
  config.models["said"].kind = ModelKind::kRerank;
  const auto models = to_models(config);
  EXPECT_EQ(named(models, "search").kind, ModelKind::kRerank);
  EXPECT_EQ(named(models, "vectors").kind, ModelKind::kEmbedding);
  EXPECT_EQ(named(models, "talk").kind, ModelKind::kGeneration);
  EXPECT_EQ(named(models, "llm").kind, ModelKind::kGeneration);
  EXPECT_EQ(named(models, "said").kind, ModelKind::kRerank);
}

}  // namespace
}  // namespace lm::config

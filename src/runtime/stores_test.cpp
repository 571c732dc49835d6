#include "runtime/stores.h"

#include <fstream>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using os::testing::run_until;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kHash(64, 'a'), kOther(64, 'b');

class StoresTest : public ::testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& text) {
    const fs::path path = folder.path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  fs::path link(const std::string& name, const fs::path& to) {
    fs::create_directories((folder.path() / name).parent_path());
    fs::create_symlink(to, folder.path() / name);
    return folder.path() / name;
  }
  static Model model(const std::string& id, const fs::path& path) {
    Model made;
    made.id = ModelId(id);
    made.artifact.path = path;
    made.artifact.size = Bytes(static_cast<std::int64_t>(fs::file_size(path)));
    made.origin = "LM Studio";
    return made;
  }
  static std::vector<std::string> ids(const std::vector<Model>& models) {
    std::vector<std::string> names;
    for (const Model& each : models) {
      names.push_back(each.id.str());
      for (const std::string& alias : each.aliases) names.back() += " " + alias;
    }
    return names;
  }
  static std::vector<std::string> ids(const std::vector<Stored>& stored) {
    std::vector<Model> models;
    for (const Stored& each : stored) models.push_back(each.model);
    return ids(models);
  }

  os::testing::TemporaryFolder folder;
};

TEST_F(StoresTest, WhereTheyAreIsKnownNamedOrOff) {
  fs::create_directories(folder.path() / ".ollama/models");
  fs::create_directories(folder.path() / ".cache/lm-studio/models");
  fs::create_directories(folder.path() / "hf/hub");
  std::map<std::string, std::string> variables = {{"HOME", folder.path().string()}};
  const auto lookup = [&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
  EXPECT_EQ(StoreFolders::of({}, lookup),
            (StoreFolders{.ollama = folder.path() / ".ollama/models",
                          .lm_studio = folder.path() / ".cache/lm-studio/models",
                          .huggingface = {}}));
  variables["HF_HOME"] = (folder.path() / "hf").string();
  variables["OLLAMA_MODELS"] = "/nowhere";
  EXPECT_EQ(StoreFolders::of({.ollama = "auto", .lm_studio = "off", .huggingface = "auto"}, lookup),
            (StoreFolders{.ollama = {}, .lm_studio = {}, .huggingface = folder.path() / "hf/hub"}));
  EXPECT_EQ(StoreFolders::of({.ollama = "/mine", .lm_studio = "off", .huggingface = "off"}, lookup).ollama,
            "/mine");
}

TEST_F(StoresTest, TheCachesMainRevisionIsLookedInto) {
  const std::string commit(40, '1'), older(40, '2');
  link("hub/models--owner--tiny-GGUF/snapshots/" + commit + "/tiny-Q8_0.gguf",
       file("hub/models--owner--tiny-GGUF/blobs/" + kHash, "model"));
  link("hub/models--owner--tiny-GGUF/snapshots/" + older + "/old.gguf",
       file("hub/models--owner--tiny-GGUF/blobs/" + kOther, "other"));
  file("hub/models--owner--tiny-GGUF/refs/main", commit);
  file("hub/models--owner--checkpoint/snapshots/" + commit + "/config.json", "{}");
  file("hub/models--owner--hostile/refs/main", "../../../../etc");
  const auto found = named_stores({.ollama = {}, .lm_studio = {}, .huggingface = folder.path() / "hub"});
  EXPECT_THAT(ids(found), ElementsAre("tiny-q8_0 tiny"));
  EXPECT_EQ(found[0].sha256, kHash);
  EXPECT_EQ(cached_snapshot(folder.path() / "hub", "owner/checkpoint"),
            folder.path() / "hub/models--owner--checkpoint/snapshots" / commit);
  EXPECT_FALSE(cached_snapshot(folder.path() / "hub", "owner/hostile"));
  EXPECT_FALSE(cached_snapshot(folder.path() / "hub", "owner/none"));
  EXPECT_FALSE(cached_snapshot({}, "owner/checkpoint"));
  EXPECT_THAT(cached_checkpoints(folder.path() / "hub"), IsEmpty()) << "without weights";
  file("hub/models--owner--checkpoint/snapshots/" + commit + "/model.safetensors", "");
  const auto whole = cached_checkpoints(folder.path() / "hub");
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_EQ(whole[0].name, "checkpoint");
  EXPECT_EQ(whole[0].folder, folder.path() / "hub/models--owner--checkpoint/snapshots" / commit);
}

TEST_F(StoresTest, ADoubleIsShownOnceWithAllItsNames) {
  const std::string text(100'000, 'x');
  std::string changed = text;
  changed.back() = 'y';
  const Model mine = model("mine", file("mine.gguf", text));
  const Model same = model("same", file("lm/same.gguf", text));
  const Model other = model("other", file("lm/other.gguf", changed));
  const Model blob = model("blob-7b", file("ollama/blob", text));
  Doubles doubles;
  EXPECT_THAT(ids(doubles.merge({mine}, {{blob, kHash}, {same, ""}, {other, ""}})),
              ElementsAre("mine blob-7b same", "other"));
  // What two hashes say counts for more than what was read of the files.
  EXPECT_THAT(ids(doubles.merge({}, {{blob, kHash}, {same, kHash}, {mine, kOther}})),
              ElementsAre("blob-7b same", "mine"));
  // One's own files are listed as they are.
  EXPECT_THAT(ids(doubles.merge({mine, same}, {})), ElementsAre("mine", "same"));
  const Model hidden = model("mine", file("lm/mine.gguf", "another"));
  EXPECT_THAT(ids(doubles.merge({mine}, {{hidden, ""}, {hidden, kOther}})),
              ElementsAre("mine", "lm-studio-mine"));
}

// The importer played by a shell script.
class StoreReaderTest : public StoresTest {
 protected:
  void importer(const std::string& script, Duration limit = std::chrono::minutes(1)) {
    const fs::path program = file("importer", "#!/bin/sh\n" + script + "\n");
    fs::permissions(program, fs::perms::owner_all);
    store.emplace(StoreReader::Seams{.executor = io.get_executor(),
                                     .program = program,
                                     .looked =
                                         [this](bool changed) {
                                           ++looks;
                                           changes += changed ? 1 : 0;
                                         },
                                     .limit = limit});
  }

  boost::asio::io_context io;
  std::optional<StoreReader> store;
  int looks = 0, changes = 0;
};

TEST_F(StoreReaderTest, WhatTheManifestsNameAndTheDiskHas) {
  file("ollama/blobs/sha256-" + kHash, "model");
  const auto line = [](const std::string& name, const std::string& hash) {
    return R"(echo '{"name": ")" + name + R"(", "sha256": ")" + hash + R"(", "projector_sha256": ""}')" +
           "\n";
  };
  importer("[ \"$1\" = --look ] || exit 1\n" + line("llama3.2:1b", kHash) + line("x/tiny:latest", kHash) +
           line("not-there:1b", kOther) + "echo nonsense");
  store->look(folder.path() / "ollama", {}, true);
  ASSERT_TRUE(run_until(io, [&] { return changes == 1; }));
  EXPECT_THAT(ids(store->models()), ElementsAre("llama3.2-1b", "x-tiny"));
  EXPECT_EQ(store->models()[0].model.artifact.path, folder.path() / "ollama/blobs" / ("sha256-" + kHash));
  EXPECT_EQ(store->models()[0].model.artifact.size, Bytes(5));
  // The same again is no news; a child that dies takes nothing away; switched off, there are none.
  store->look(folder.path() / "ollama", {}, true);
  EXPECT_FALSE(run_until(io, [&] { return changes == 2; }));
  file("importer", "#!/bin/sh\nkill -SEGV $$\n");
  store->look(folder.path() / "ollama", {}, true);
  EXPECT_FALSE(run_until(io, [&] { return changes == 2; }));
  EXPECT_EQ(store->models().size(), 2u);
  store->look({}, {}, false);
  EXPECT_TRUE(run_until(io, [&] { return changes == 2; }));
  EXPECT_THAT(store->models(), IsEmpty());
}

TEST_F(StoreReaderTest, WhichCheckpointsCouldBeImported) {
  const std::vector<Checkpoint> all = {{.name = "a", .folder = "/a", .origin = "/"},
                                       {.name = "whisper", .folder = "/w", .origin = "/"},
                                       {.name = "bge", .folder = "/b", .origin = "/"}};
  importer(R"([ "$2 $3 $4 $5" = " /a /w /b" ] || exit 1
echo '{"checkpoint": 0, "kind": "generation"}'
echo '{"checkpoint": 2, "kind": "embedding"}'
echo '{"checkpoint": 2, "kind": "embedding"}'
echo '{"checkpoint": 3, "kind": "generation"}')");
  store->look({}, all, false);
  ASSERT_TRUE(run_until(io, [&] { return changes == 1; }));
  ASSERT_EQ(store->checkpoints().size(), 2u);
  EXPECT_EQ(store->checkpoints()[0], all[0]);
  EXPECT_EQ(store->checkpoints()[1].folder, "/b");
  EXPECT_EQ(store->checkpoints()[1].kind, ModelKind::kEmbedding);
  // The same are not looked into again.
  file("importer", "#!/bin/sh\n");
  store->look({}, all, false);
  EXPECT_FALSE(run_until(io, [&] { return changes == 2; }));
  store->look({}, all, true);
  EXPECT_TRUE(run_until(io, [&] { return changes == 2; }));
  EXPECT_THAT(store->checkpoints(), IsEmpty());
}

TEST_F(StoreReaderTest, ADiskThatDoesNotAnswerIsGivenUp) {
  importer("exec sleep 600", std::chrono::milliseconds(50));
  store->look(folder.path() / "ollama", {}, true);
  ASSERT_TRUE(run_until(io, [&] { return looks == 1; }));
  EXPECT_EQ(changes, 0);
}

}  // namespace
}  // namespace lm::runtime

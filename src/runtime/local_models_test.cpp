#include "runtime/local_models.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/gate.h"
#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using os::testing::run_until;
using ::testing::HasSubstr;

// The importer played by a shell script, which has the folder in $1, the file in $2, and in $4 the type where
// one is asked for.
class LocalModelsTest : public ::testing::Test {
 protected:
  LocalModelsTest() {
    write("models/checkpoint/config.json", "{}");
    write("models/checkpoint/model.safetensors", "{}");
    config.sources = {.ollama = "off", .lm_studio = "off", .huggingface = "off"};
  }
  ~LocalModelsTest() override {
    stopping = true;
    if (local) local->stop();
    hub.publish(Pull());
    io.restart();
    io.run();
  }
  fs::path write(const std::string& name, const std::string& text) {
    fs::create_directories((folder.path() / name).parent_path());
    std::ofstream(folder.path() / name) << text;
    return folder.path() / name;
  }
  void importer(const std::string& script) {
    const fs::path program = write("importer", "#!/bin/sh\n" + script + "\n");
    fs::permissions(program, fs::perms::owner_all);
    local.emplace(
        LocalModels::Seams{.executor = io.get_executor(),
                           .clock = clock,
                           .hub = hub,
                           .importer = program,
                           .imports = folder.path() / "imported",
                           .run = [this](Task<> task) { gate.start(std::move(task)); },
                           .is_stopping = [this] { return stopping; },
                           .model = [this](const ModelId& id) { return find(id); },
                           .model_of = [this](InstanceId) { return &llm; },
                           .pulled_checkpoints = [] { return std::vector<fs::path>(); },
                           .pull = [](const std::string&, const std::string&) -> Result<std::uint64_t> {
                             return fail(ErrorCode::kUnavailable, "nothing is pulled here");
                           },
                           .find_pull = [](std::uint64_t) { return nullptr; },
                           .open_import_job = [this](const ModelId&) { return JobId(++jobs); },
                           .finish_job = [this](JobId, std::optional<Error>) { ++ended; },
                           .discard = [](const Aside&) {},
                           .look_again = [this] { look(); },
                           .found_others = [this] { look(); }});
    look();
  }
  void look() {
    inventory = local->look(config, folders, {});
    local->begin_imports();
  }
  const Model* find(const ModelId& id) const {
    const auto found = std::ranges::find(inventory.models, id, &Model::id);
    return found == inventory.models.end() ? nullptr : &*found;
  }
  std::string problem(const std::string& id) const {
    const Model* model = find(ModelId(id));
    if (model == nullptr) return "not there";
    return model->problem ? model->problem->reason : "none";
  }
  // Of the file that would be loaded.
  std::string content() const {
    std::ifstream file(find(llm)->artifact.path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  bool comes_to(const std::string& expected) {
    return run_until(io, [&] { return problem("llm") == "none" && content() == expected; });
  }
  // What is said of a load that failed so.
  std::string refuse(const std::string& reason) {
    Event event = LoadFailed{.instance = InstanceId(1),
                             .generation = Generation(1),
                             .error = {.code = ErrorCode::kInvalidArgument,
                                       .message = "no",
                                       .reason = reason,
                                       .fields = {},
                                       .retry_after = {}}};
    local->look_for_refusal(event);
    return std::get<LoadFailed>(event).error.message;
  }

  boost::asio::io_context io;
  ManualClock clock;
  EventHub hub{io.get_executor()};
  Gate gate{io.get_executor()};
  os::testing::TemporaryFolder folder;
  config::Config config;
  std::vector<fs::path> folders;
  Inventory inventory;
  std::optional<LocalModels> local;
  const ModelId llm{"llm"};
  std::uint64_t jobs = 0;
  int ended = 0;
  bool stopping = false;
};

TEST_F(LocalModelsTest, WhatIsRefusedIsMadeOfTheNextQuantisation) {
  config.models["llm"].model_path = (folder.path() / "models/checkpoint").string();
  importer(R"(printf "$4" > "$2")");
  EXPECT_EQ(problem("llm"), "importing");
  ASSERT_TRUE(comes_to(""));
  EXPECT_EQ(refuse("insufficient_memory"), "no") << "it is not the file's fault";
  EXPECT_THAT(refuse("unsupported_model"), HasSubstr("llm is imported again, as 8bit"));
  ASSERT_TRUE(comes_to("8bit"));
  EXPECT_THAT(refuse("invalid_artifact"), HasSubstr("as none"));
  ASSERT_TRUE(comes_to("none"));
  EXPECT_EQ(refuse("invalid_artifact"), "no") << "there is no other";
  EXPECT_EQ(inventory.warnings.size(), 1u);
  EXPECT_EQ(ended, 3);
}

TEST_F(LocalModelsTest, WhatFailedForTheMachinesStateIsTriedAgainByWhoeverInsists) {
  config.models["llm"].model_path = (folder.path() / "models/checkpoint").string();
  importer(R"([ -e "$1/../room" ] && exec touch "$2"
echo '{"kind": "failed", "code": "resource_exhausted", "reason": "disk_full", "message": "no room"}'
exit 1)");
  ASSERT_TRUE(run_until(io, [&] { return problem("llm") == "disk_full"; }));
  write("models/room", "");
  look();
  EXPECT_EQ(problem("llm"), "disk_full") << "not by itself";
  bool loadable = false;
  local->provide(
      llm, "ada", [] { return false; },
      [&](const std::optional<Error>& why) {
        EXPECT_FALSE(why);
        loadable = true;
      });
  EXPECT_TRUE(run_until(io, [&] { return loadable; }));
}

TEST_F(LocalModelsTest, ACheckpointInAFolderIsImportedOnceItIsAskedFor) {
  folders = {folder.path() / "models"};
  const fs::path asked = folder.path() / "asked";
  importer(
      "if [ \"$1\" = --look ]; then echo '{\"checkpoint\": 0, \"kind\": \"embedding\"}'; exit; fi\n"
      "touch " +
      asked.string() + " \"$2\"");
  EXPECT_EQ(problem("checkpoint"), "not there") << "whether it can be imported is not known yet";
  ASSERT_TRUE(run_until(io, [&] { return problem("checkpoint") == "not_imported"; }));
  EXPECT_EQ(find(ModelId("checkpoint"))->kind, ModelKind::kEmbedding);
  look();
  EXPECT_FALSE(fs::exists(asked));
  local->asked(ModelId("checkpoint"));
  EXPECT_EQ(problem("checkpoint"), "importing");
  EXPECT_TRUE(run_until(io, [&] { return problem("checkpoint") == "none"; }));
  EXPECT_TRUE(fs::exists(asked));
  // A file of its name is taken for what was made of it.
  write("models/checkpoint.gguf", "made by hand");
  look();
  EXPECT_EQ(inventory.models.size(), 1u);
  EXPECT_EQ(find(ModelId("checkpoint"))->artifact.path, folder.path() / "models/checkpoint.gguf");
}

TEST_F(LocalModelsTest, OneThatIsNotHereSaysWhereItComesFromAndNotItsKey) {
  config.models["llm"].model_path = "https://example.org/m.gguf?token=SECRET";
  importer("exit 1");
  EXPECT_EQ(problem("llm"), "not_fetched");
  const Model& model = *find(llm);
  EXPECT_THAT(model.problem->message, HasSubstr("https://example.org/m.gguf"));
  EXPECT_EQ(model.problem->message.find("SECRET"), std::string::npos);
  EXPECT_EQ(model.artifact.path, "");
}

}  // namespace
}  // namespace lm::runtime

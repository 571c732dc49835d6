#include "runtime/removal.h"

#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class RemovalTest : public ::testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& text = "12345") {
    const fs::path path = folder_.path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  static Model model(const std::string& id, const fs::path& path, const fs::path& projector = {}) {
    Model made;
    made.id = ModelId(id);
    made.artifact.path = path;
    made.artifact.projector = projector;
    made.origin = path.parent_path().string();
    return made;
  }
  Result<RemovedFiles> remove(const Model& model, const std::vector<Model>& all, bool force = false) {
    return put_aside(model, all, rules(force));
  }
  RemovalRules rules(bool force = false) const {
    return {.own_folder = folder_.path() / "own",
            .foreign_folders = {folder_.path() / "theirs"},
            .was_pulled = [this](const std::string& path) { return pulled_.contains(path); },
            .force = force};
  }
  std::string reason(const Result<RemovedFiles>& removed) {
    return removed ? "done" : removed.error().reason;
  }

  os::testing::TemporaryFolder folder_;
  std::set<std::string> pulled_;
};

TEST_F(RemovalTest, TakesAllPartsAndEmptyFolders) {
  const fs::path one = file("own/a/b/m-00001-of-00002.gguf"), two = file("own/a/b/m-00002-of-00002.gguf");
  const fs::path other = file("own/a/x.gguf");
  const auto removed = remove(model("m", one), {model("m", one), model("x", other)});
  ASSERT_TRUE(removed);
  EXPECT_THAT(removed->files, ElementsAre(one.string(), two.string()));
  EXPECT_EQ(removed->size, Bytes(10));
  EXPECT_THAT(removed->aside, ElementsAre(Aside{folder_.path() / "own", "removed.1"}));
  EXPECT_FALSE(fs::exists(folder_.path() / "own/a/b"));
  EXPECT_TRUE(fs::exists(other));
  EXPECT_TRUE(fs::exists(folder_.path() / "own/.pull/removed.1/m-00001-of-00002.gguf"));
}

TEST_F(RemovalTest, ACheckpointGoesWithWhatWasMadeOfIt) {
  const fs::path config = file("own/owner/repo/config.json"),
                 pooling = file("own/owner/repo/1_Pooling/config.json");
  const fs::path made = file("imported/repo-1-1.gguf"), other = file("imported/other-1-1.gguf");
  const auto removed = put_checkpoint_aside(config.parent_path(), made, rules());
  ASSERT_TRUE(removed);
  EXPECT_THAT(removed->files, ElementsAre(made.string(), pooling.string(), config.string()));
  EXPECT_EQ(removed->size, Bytes(15));
  EXPECT_EQ(removed->aside.size(), 2u);
  EXPECT_FALSE(fs::exists(config.parent_path()));
  EXPECT_FALSE(fs::exists(made));
  EXPECT_TRUE(fs::exists(other));
  EXPECT_TRUE(
      put_checkpoint_aside(folder_.path() / "none", folder_.path() / "none.gguf", rules())->files.empty());
}

TEST_F(RemovalTest, TheNextDoesNotShareAFolderWithOneThatIsStillEmptied) {
  const fs::path one = file("own/one.gguf"), two = file("own/two.gguf");
  const auto first = remove(model("one", one), {model("one", one)});
  const auto second = remove(model("two", two), {model("two", two)});
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->aside, second->aside);
  EXPECT_TRUE(is_aside(second->aside[0].key));
  EXPECT_TRUE(fs::exists(folder_.path() / "own/.pull" / second->aside[0].key / "two.gguf"));
}

TEST_F(RemovalTest, NeverTouchesWhatAnotherToolKeeps) {
  const fs::path blob = file("theirs/blobs/sha256-0");
  EXPECT_EQ(reason(remove(model("m", blob), {}, true)), "not_ours");
  fs::create_symlink(blob, folder_.path() / "theirs/link.gguf");
  EXPECT_EQ(reason(remove(model("m", folder_.path() / "theirs/link.gguf"), {}, true)), "not_ours");
  EXPECT_TRUE(fs::exists(blob));
}

TEST_F(RemovalTest, LeavesWhatOthersUse) {
  const fs::path a = file("own/a.gguf"), b = file("own/b.gguf"), eye = file("own/mmproj.gguf");
  const std::vector<Model> all = {model("a", a, eye), model("b", b, eye), model("b-long", b, eye)};
  const auto removed = remove(all[0], all);
  ASSERT_TRUE(removed);
  EXPECT_THAT(removed->files, ElementsAre(a.string()));
  EXPECT_THAT(removed->kept, ElementsAre(eye.string()));
  EXPECT_TRUE(fs::exists(eye));
  EXPECT_EQ(reason(remove(all[1], all)), "in_use");
  EXPECT_EQ(reason(remove(all[1], all, true)), "in_use");
  const std::vector<Model> last = {all[1]};
  EXPECT_THAT(remove(last[0], last)->files, ElementsAre(b.string(), eye.string()));
}

TEST_F(RemovalTest, TouchesNothingThatNobodyPulled) {
  const fs::path mine = file("elsewhere/mine.gguf");
  const Model found = model("mine", mine);
  EXPECT_EQ(reason(remove(found, {found})), "not_pulled");
  EXPECT_TRUE(fs::exists(mine));
  pulled_.insert(mine.string());
  Model configured = found;
  configured.origin = "models.llm";
  EXPECT_EQ(reason(remove(configured, {configured})), "configured");
  EXPECT_EQ(reason(remove(found, {found})), "done");
  EXPECT_TRUE(fs::exists(folder_.path() / "elsewhere"));
  EXPECT_EQ(reason(remove(found, {found})), "not_found");
  // A link out of our folder is not ours.
  const fs::path outside = file("outside/x.gguf");
  fs::create_directories(folder_.path() / "own");
  fs::create_directory_symlink(folder_.path() / "outside", folder_.path() / "own/link");
  const Model linked = model("x", folder_.path() / "own/link/x.gguf");
  EXPECT_EQ(reason(remove(linked, {linked})), "not_pulled");
  EXPECT_TRUE(fs::exists(outside));
}

}  // namespace
}  // namespace lm::runtime

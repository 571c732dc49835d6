#include "runtime/import_folder.h"

#include <fcntl.h>
#include <fstream>
#include <sys/file.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class ImportFolderTest : public ::testing::Test {
 protected:
  fs::path checkpoint(const std::string& name, const std::string& weights) {
    const fs::path place = folder.path() / name;
    fs::create_directories(place);
    std::ofstream(place / "config.json") << "{}";
    std::ofstream(place / "model.safetensors") << weights;
    return place;
  }
  fs::path made(const fs::path& from, const std::string& quantize = "") {
    const fs::path file = *imported_file(from, quantize, all());
    return put(file.filename().string());
  }
  fs::path put(const std::string& name) {
    fs::create_directories(all());
    std::ofstream(all() / name) << "x";
    return all() / name;
  }
  fs::path all() const { return folder.path() / "imported"; }
  std::vector<fs::path> useless(const std::set<fs::path>& named, std::chrono::hours later = {}) {
    return useless_imports(all(), named, fs::file_time_type::clock::now() + later);
  }

  os::testing::TemporaryFolder folder;
};

TEST_F(ImportFolderTest, AFilesNameFollowsTheContentOfTheFolder) {
  const fs::path place = folder.path() / "My Model";
  fs::create_directory(place);
  EXPECT_FALSE(imported_file(place, "", all())) << "no config.json";
  std::ofstream(place / "config.json") << "{}";
  const auto first = imported_file(place, "", all());
  ASSERT_TRUE(first);
  EXPECT_THAT(first->filename().string(), StartsWith("my-model-"));
  EXPECT_EQ(imported_file(place, "", all()), first);
  EXPECT_NE(imported_file(place, "4bit", all()), first);
  fs::create_symlink(place, folder.path() / "link");
  EXPECT_EQ(imported_file(folder.path() / "link", "", all()), first);
  std::ofstream(place / "model.safetensors") << "x";
  EXPECT_NE(imported_file(place, "", all()), first);
}

TEST_F(ImportFolderTest, WhatANewContentHasTakenThePlaceOfGoesAtOnce) {
  const fs::path place = checkpoint("a", "old");
  const fs::path old = made(place), other_kind = made(place, "4bit");
  std::ofstream(place / "model.safetensors") << "newer";
  const fs::path fresh = *imported_file(place, "", all());
  EXPECT_THAT(useless({fresh}), IsEmpty()) << "the new one is not there yet";
  put(fresh.filename().string());
  EXPECT_THAT(useless({fresh}), UnorderedElementsAre(old));
}

TEST_F(ImportFolderTest, WhatNobodyNamesGoesAfterAWeek) {
  const fs::path file = made(checkpoint("a", "1")), named = made(checkpoint("b", "2"));
  EXPECT_THAT(useless({named}), IsEmpty());
  EXPECT_THAT(useless({named}, std::chrono::hours(6 * 24)), IsEmpty());
  // Named in between, it begins anew.
  EXPECT_THAT(useless({file, named}, std::chrono::hours(30 * 24)), IsEmpty());
  EXPECT_THAT(useless({named}, std::chrono::hours(30 * 24)), IsEmpty());
  EXPECT_THAT(useless({named}, std::chrono::hours(30 * 24)), UnorderedElementsAre(file));
  fs::remove(file);
  EXPECT_THAT(useless({named}), IsEmpty());
  for (const auto& entry : fs::directory_iterator(all()))
    EXPECT_EQ(entry.path(), named) << "no mark is left behind";
}

TEST_F(ImportFolderTest, WhatImportersLeaveUnfinishedGoesOnceNobodyWritesIt) {
  const fs::path left = put(".a-1-1.gguf.partial"), written = put(".b-1-1.gguf.partial"),
                 next = put(".c-1-1.gguf.partial");
  const os::UniqueFd writer(::open(written.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(writer.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_THAT(useless({all() / "c-1-1.gguf"}), UnorderedElementsAre(left));
}

TEST_F(ImportFolderTest, AFolderThatIsNotThereIsFine) {
  EXPECT_THAT(useless({}), IsEmpty());
}

}  // namespace
}  // namespace lm::runtime

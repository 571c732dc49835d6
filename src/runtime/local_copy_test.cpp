#include "runtime/local_copy.h"

#include <fstream>

#include <gtest/gtest.h>

#include "config/arriving.h"
#include "config/model_folder.h"
#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

class LocalCopyTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& text = "x") {
    fs::create_directories((root() / name).parent_path());
    std::ofstream(root() / name) << text;
  }
  fs::path root() const { return folder.path() / "models"; }
  std::string copy(std::string_view text) const {
    const std::vector<fs::path> roots = {root()};
    const auto found = config::scan_model_folders(roots).models;
    const auto place = local_copy(*hub::named_source(text), roots, folder.path() / "hub", found);
    return place ? place->lexically_relative(folder.path()).string() : "none";
  }

  os::testing::TemporaryFolder folder;
};

TEST_F(LocalCopyTest, IsTheFileThatAPullWouldTake) {
  EXPECT_EQ(copy("owner/repo"), "none");
  put("owner/repo/m-Q8_0.gguf");
  put("owner/repo/m-Q4_K_M.gguf");
  put("owner/repo@other/m-Q2_K.gguf");
  put("ollama/tiny/tiny-1b.gguf");
  EXPECT_EQ(copy("owner/repo"), "models/owner/repo/m-Q4_K_M.gguf");
  EXPECT_EQ(copy("hf:owner/repo:Q8_0"), "models/owner/repo/m-Q8_0.gguf");
  EXPECT_EQ(copy("hf:owner/repo:Q6_K"), "none");
  EXPECT_EQ(copy("hf:owner/repo@other"), "models/owner/repo@other/m-Q2_K.gguf");
  EXPECT_EQ(copy("ollama:tiny:1b"), "models/ollama/tiny/tiny-1b.gguf");
  EXPECT_EQ(copy("ollama:tiny:7b"), "none");
}

TEST_F(LocalCopyTest, IsAWholeCheckpoint) {
  put("owner/repo/config.json");
  EXPECT_EQ(copy("owner/repo"), "none") << "without weights";
  put("owner/repo/model.safetensors");
  EXPECT_EQ(copy("owner/repo"), "models/owner/repo");
  put("owner/parts/config.json");
  put("owner/parts/model-00001-of-00002.safetensors");
  EXPECT_EQ(copy("owner/parts"), "none") << "half of it";
  put("owner/parts/model-00002-of-00002.safetensors");
  EXPECT_EQ(copy("owner/parts"), "models/owner/parts");
  put(".pull/key/arriving",
      config::arriving_text({{.from = "1", .to = "owner/repo/model.safetensors", .size = 1, .hash = ""}}));
  EXPECT_EQ(copy("owner/repo"), "none") << "it is just being put there";
}

TEST_F(LocalCopyTest, IsWhatHuggingFacesCacheHas) {
  const std::string snapshot = "../hub/models--owner--repo/snapshots/1/";
  fs::create_directories(root());
  put(snapshot + "config.json");
  put(snapshot + "model.safetensors");
  EXPECT_EQ(copy("owner/repo"), "hub/models--owner--repo/snapshots/1");
  EXPECT_EQ(copy("hf:owner/repo@other"), "none");
}

}  // namespace
}  // namespace lm::runtime

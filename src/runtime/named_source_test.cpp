#include "runtime/named_source.h"

#include <fstream>

#include <gtest/gtest.h>

#include "config/arriving.h"
#include "config/model_folder.h"
#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

std::string source(std::string_view text) {
  const auto found = named_source(text);
  return found ? found->text() : "a path";
}

TEST(NamedSource, IsNoPath) {
  EXPECT_EQ(source("Qwen/Qwen3-0.6B"), "hf:Qwen/Qwen3-0.6B@main");
  EXPECT_EQ(source("hf:Qwen/Qwen3-8B-GGUF:Q8_0"), "hf:Qwen/Qwen3-8B-GGUF:Q8_0@main");
  EXPECT_EQ(source("ollama:llama3.2:1b"), "ollama:library/llama3.2:1b");
  for (const std::string_view path : {"", "model.gguf", "models/a.gguf", "/models/a", "./a/b", "../b",
                                      "~/models", "a/b/c", "tinyllama", "a/b:c", "hf:nobody", "a /b"})
    EXPECT_EQ(source(path), "a path") << path;
}

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
    const auto place = local_copy(*named_source(text), roots, folder.path() / "hub", found);
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

#include "ollama_store.h"

#include <fstream>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::importer {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const std::string kModel(64, 'a'), kEye(64, 'b');

std::string layer(const std::string& type, const std::string& digest) {
  return R"({"mediaType": "application/vnd.ollama.image.)" + type + R"(", "digest": "sha256:)" + digest +
         R"(", "size": 5})";
}

std::string manifest(const std::string& layers) {
  return R"({"schemaVersion": 2, "layers": [)" + layers + "]}";
}

class OllamaStoreTest : public ::testing::Test {
 protected:
  OllamaStoreTest() {
    std::string pattern = (fs::temp_directory_path() / "lm-ollama-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~OllamaStoreTest() override { fs::remove_all(root_); }

  void write(const std::string& name, const std::string& text) {
    const fs::path path = root_ / "manifests" / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& one : collect_manifests(root_)) all.push_back(one.name);
    return all;
  }

  fs::path root_;
};

TEST_F(OllamaStoreTest, NamesAreThoseThatOllamaWrites) {
  EXPECT_THAT(names(), IsEmpty());
  write("registry.ollama.ai/library/llama3.2/1b", "{}");
  write("registry.ollama.ai/someone/model/latest", "{}");
  write("hf.co/owner/repo/Q4_K_M", "{}");
  write("registry.ollama.ai/stray", "{}");
  write("registry.ollama.ai/library/deep/er/tag", "{}");
  write("registry.ollama.ai/library/large/tag", std::string(100'000, ' '));
  fs::create_symlink("/dev/zero", root_ / "manifests/registry.ollama.ai/library/llama3.2/device");
  EXPECT_THAT(names(),
              UnorderedElementsAre("llama3.2:1b", "someone/model:latest", "hf.co/owner/repo:Q4_K_M"));
}

TEST_F(OllamaStoreTest, AModelIsItsFileAndItsProjector) {
  const std::vector<Manifest> manifests = {
      {.name = "a:1", .text = manifest(layer("license", kEye) + "," + layer("model", kModel))},
      {.name = "b:1", .text = manifest(layer("model", kModel) + "," + layer("projector", kEye))},
      {.name = "cloud:1", .text = manifest(layer("license", kEye))},
      {.name = "broken:1", .text = "{"},
      {.name = "deep:1", .text = std::string(10'000, '[')},
      {.name = "hostile:1", .text = manifest(layer("model", "../../../etc/passwd"))}};
  EXPECT_THAT(read_manifests(manifests),
              ElementsAre(wire::StoredModel{.name = "a:1", .sha256 = kModel, .projector_sha256 = {}},
                          wire::StoredModel{.name = "b:1", .sha256 = kModel, .projector_sha256 = kEye}));
}

}  // namespace
}  // namespace lm::importer

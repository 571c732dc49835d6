#include "hub/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::hub {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> chosen(const std::vector<std::string>& paths, std::string_view pick = "") {
  std::vector<wire::HubFile> files;
  std::int64_t size = 1000;
  for (const std::string& path : paths)
    files.push_back({.path = path, .size = Bytes(size += 10), .sha256 = {}, .git_sha1 = {}});
  const auto found = choose_files(files, pick);
  if (!found) return {"wrong: " + found.error().reason};
  std::vector<std::string> names;
  for (const wire::HubFile& file : *found) names.push_back(file.path);
  return names;
}

TEST(Listing, TakesTheUsualQuantisation) {
  EXPECT_THAT(chosen({"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "README.md"}),
              ElementsAre("m-Q4_K_M.gguf"));
  EXPECT_THAT(chosen({"m-Q2_K.gguf", "m.q5_k_m.gguf", "m-Q8_0.gguf"}), ElementsAre("m.q5_k_m.gguf"));
  EXPECT_THAT(chosen({"m-UD-Q4_K_XL.gguf", "m-Q8_0.gguf"}), ElementsAre("m-UD-Q4_K_XL.gguf"));
  EXPECT_THAT(chosen({"only-this.gguf"}), ElementsAre("only-this.gguf"));
  EXPECT_THAT(chosen({"large.gguf", "larger.gguf"}), ElementsAre("large.gguf"));
}

TEST(Listing, TakesTheNamedOne) {
  const std::vector<std::string> files = {"m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "sub/m-IQ4_XS.gguf"};
  EXPECT_THAT(chosen(files, "q4_k_s"), ElementsAre("m-Q4_K_S.gguf"));
  EXPECT_THAT(chosen(files, "sub/m-IQ4_XS.gguf"), ElementsAre("sub/m-IQ4_XS.gguf"));
  EXPECT_THAT(chosen(files, "m-iq4_xs.gguf"), ElementsAre("sub/m-IQ4_XS.gguf"));
  EXPECT_THAT(chosen(files, "Q4_K"), ElementsAre("wrong: not_found"));
  EXPECT_THAT(chosen(files, "Q8_0"), ElementsAre("wrong: not_found"));
}

TEST(Listing, TakesAllPartsAndOneProjector) {
  EXPECT_THAT(chosen({"Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf",
                      "mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"}),
              ElementsAre("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf",
                          "mmproj-F16.gguf"));
}

TEST(Listing, TakesACheckpointWhereThereIsNoGguf) {
  EXPECT_THAT(chosen({"config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin",
                      "onnx/model.onnx", "1_Pooling/config.json", "train.py"}),
              ElementsAre("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"));
  EXPECT_THAT(chosen({"config.json", "pytorch_model.bin"}), ElementsAre("wrong: not_found"));
}

TEST(Listing, LeavesHostilePathsOut) {
  EXPECT_THAT(chosen({"../m-Q4_K_M.gguf", "/m-Q4_K_M.gguf", "m-Q8_0.gguf"}), ElementsAre("m-Q8_0.gguf"));
}

}  // namespace
}  // namespace lm::hub

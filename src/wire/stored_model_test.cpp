#include "wire/stored_model.h"

#include <gtest/gtest.h>

namespace lm::wire {
namespace {

TEST(StoredModel, IsReadAsItWasWritten) {
  const StoredModel model{
      .name = "someone/模型:7b", .sha256 = std::string(64, 'a'), .projector_sha256 = std::string(64, '0')};
  EXPECT_EQ(decode_stored(encode(model)).value(), StoredLine(model));
  const StoredModel plain{.name = "x:latest", .sha256 = std::string(64, 'f'), .projector_sha256 = {}};
  EXPECT_EQ(decode_stored(encode(plain)).value(), StoredLine(plain));
  const StoredCheckpoint checkpoint{.index = 3, .kind = ModelKind::kEmbedding};
  EXPECT_EQ(decode_stored(encode(checkpoint)).value(), StoredLine(checkpoint));
}

TEST(StoredModel, RefusesWhatNamesNoFile) {
  const std::string good(64, 'a');
  for (const StoredModel& wrong : {StoredModel{.name = "", .sha256 = good, .projector_sha256 = {}},
                                   StoredModel{.name = "a\nb", .sha256 = good, .projector_sha256 = {}},
                                   StoredModel{.name = "x", .sha256 = "../../x", .projector_sha256 = {}},
                                   StoredModel{.name = "x", .sha256 = good, .projector_sha256 = "../x"}})
    EXPECT_FALSE(decode_stored(encode(wrong))) << wrong.name << wrong.sha256;
  for (const std::string_view line :
       {"", "[]", "{", R"({"name": 1})", R"({"checkpoint": -1, "kind": "generation"})",
        R"({"checkpoint": 1e30, "kind": "generation"})", R"({"checkpoint": 1, "kind": "rerank"})",
        R"({"checkpoint": 1})"})
    EXPECT_FALSE(decode_stored(line)) << line;
}

}  // namespace
}  // namespace lm::wire

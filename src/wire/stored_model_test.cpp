#include "wire/stored_model.h"

#include <gtest/gtest.h>

namespace lm::wire {
namespace {

TEST(StoredModel, IsReadAsItWasWritten) {
  const StoredModel model{
      .name = "someone/模型:7b", .sha256 = std::string(64, 'a'), .projector_sha256 = std::string(64, '0')};
  EXPECT_EQ(decode_stored_model(encode(model)).value(), model);
  const StoredModel plain{.name = "x:latest", .sha256 = std::string(64, 'f'), .projector_sha256 = {}};
  EXPECT_EQ(decode_stored_model(encode(plain)).value(), plain);
}

TEST(StoredModel, RefusesWhatNamesNoFile) {
  const std::string good(64, 'a');
  for (const StoredModel& wrong : {StoredModel{.name = "", .sha256 = good, .projector_sha256 = {}},
                                   StoredModel{.name = "a\nb", .sha256 = good, .projector_sha256 = {}},
                                   StoredModel{.name = "x", .sha256 = "../../x", .projector_sha256 = {}},
                                   StoredModel{.name = "x", .sha256 = good, .projector_sha256 = "../x"}})
    EXPECT_FALSE(decode_stored_model(encode(wrong))) << wrong.name << wrong.sha256;
  for (const std::string_view line : {"", "[]", "{", R"({"name": 1})"})
    EXPECT_FALSE(decode_stored_model(line)) << line;
}

}  // namespace
}  // namespace lm::wire

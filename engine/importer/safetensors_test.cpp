#include "safetensors.h"

#include <cstdint>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::importer {
namespace {

using testing::HasSubstr;

std::string file(const std::string& header, std::size_t data) {
  std::string bytes;
  for (unsigned i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + std::string(data, '\0');
}

Result<std::vector<SafetensorsEntry>> read(const std::string& bytes) {
  return read_safetensors(bytes, bytes.size());
}

std::string refusal(const std::string& bytes) {
  const auto read_ = read(bytes);
  if (read_) return "it was read";
  EXPECT_EQ(read_.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read_.error().reason, "invalid_checkpoint");
  return read_.error().message;
}

TEST(Safetensors, TellsEachTensorInTheOrderOfItsBytes) {
  const auto bytes = file(R"({"__metadata__":{"format":"pt"},
    "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
    "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
    "e":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]}})",
                          16);
  const auto entries = read(bytes);
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[0].type, WeightType::kF32);
  EXPECT_TRUE((*entries)[0].shape.empty());
  EXPECT_EQ((*entries)[1].name, "b");
  EXPECT_EQ((*entries)[1].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ((*entries)[1].begin, bytes.size() - 12);
  EXPECT_EQ((*entries)[2].type, WeightType::kOther);
}

TEST(Safetensors, RefusesWhatIsCutOff) {
  const auto bytes = file(R"({"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}})", 8);
  ASSERT_TRUE(read(bytes));
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_NE(refusal(bytes.substr(0, size)), "it was read") << size;
  EXPECT_THAT(refusal(bytes + "x"), HasSubstr("1 bytes follow"));
}

TEST(Safetensors, RefusesALengthThatItCannotHave) {
  EXPECT_THAT(refusal(std::string(8, '\xff') + "{}"), HasSubstr("no safetensors file"));
  EXPECT_THAT(refusal(std::string(8, '\0') + "{}"), HasSubstr("no safetensors file"));
  EXPECT_THAT(refusal("short"), HasSubstr("5 bytes"));
  // Nothing is read for a length that lies.
  EXPECT_EQ(safetensors_head_size(std::string(8, '\xff'), 1'000'000'000'000), 8u + (100u << 20));
  EXPECT_EQ(safetensors_head_size(std::string(8, '\xff'), 20), 20u);
}

TEST(Safetensors, RefusesPlacesThatContradict) {
  const auto two = [](const char* first, const char* second, std::size_t data) {
    return refusal(file(std::string(R"({"a":{"dtype":"F16","shape":[4],"data_offsets":)") + first +
                            R"(},"b":{"dtype":"F16","shape":[4],"data_offsets":)" + second + "}}",
                        data));
  };
  EXPECT_THAT(two("[0,8]", "[4,12]", 12), HasSubstr("overlaps"));
  EXPECT_THAT(two("[0,8]", "[0,8]", 8), HasSubstr("overlaps"));
  EXPECT_THAT(two("[0,8]", "[10,18]", 18), HasSubstr("gap"));
  EXPECT_THAT(two("[0,8]", "[16,8]", 16), HasSubstr("valid data_offsets"));
  EXPECT_THAT(two("[0,8]", "[-8,0]", 16), HasSubstr("valid data_offsets"));
  EXPECT_THAT(two("[0,8]", "[8,16,24]", 16), HasSubstr("valid data_offsets"));
  EXPECT_THAT(two("[0,8]", "[8,18446744073709551615]", 16), HasSubstr("valid data_offsets"));
  EXPECT_THAT(two("[0,8]", "[8,9223372036854775807]", 16), HasSubstr("truncated"));
  EXPECT_THAT(two("[0,8]", "[8,17]", 17), HasSubstr("contradict"));
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  const auto one = [](const char* shape, const char* type = "F16") {
    return refusal(file(
        std::string(R"({"a":{"dtype":")") + type + R"(","shape":)" + shape + R"(,"data_offsets":[0,8]}})",
        8));
  };
  EXPECT_THAT(one("[4294967296,4294967296]"), HasSubstr("contradict"));
  EXPECT_THAT(one("[9223372036854775807,2]"), HasSubstr("contradict"));
  EXPECT_THAT(one("[3037000500,3037000500,4]"), HasSubstr("contradict"));
  EXPECT_THAT(one("[-4]"), HasSubstr("no length"));
  EXPECT_THAT(one("[1,1,1,1,1,1,1,1,4]"), HasSubstr("9 dimensions"));
  EXPECT_THAT(one("[4.5]"), HasSubstr("no length"));
  EXPECT_THAT(one("\"4\""), HasSubstr("lacks"));
  EXPECT_THAT(one("[4]", "Q4"), HasSubstr("unknown type 'Q4'"));
  EXPECT_THAT(one("[15]", "F4"), HasSubstr("contradict"));
}

TEST(Safetensors, RefusesJsonThatIsNone) {
  EXPECT_THAT(refusal(file("{]", 0)), HasSubstr("no JSON"));
  EXPECT_THAT(refusal(file("[]", 0)), HasSubstr("no object"));
  EXPECT_THAT(refusal(file("12", 0)), HasSubstr("no object"));
  EXPECT_THAT(refusal(file(std::string(1'000'000, '['), 0)), HasSubstr("deeper than 4"));
  EXPECT_THAT(refusal(file(R"({"a":)" + std::string(100'000, '{'), 0)), HasSubstr("no JSON"));
  EXPECT_THAT(refusal(file("{\"\xff\":1}", 0)), HasSubstr("no JSON"));
  EXPECT_THAT(refusal(file(R"({"a":1})", 0)), HasSubstr("lacks"));
  EXPECT_THAT(refusal(file(R"({"":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}})", 0)),
              HasSubstr("length"));
}

}  // namespace
}  // namespace lm::importer

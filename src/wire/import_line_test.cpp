#include "wire/import_line.h"

#include <gtest/gtest.h>

namespace lm::wire {
namespace {

TEST(ImportLine, IsDecoded) {
  const auto progress = decode_import_line(R"({"kind":"progress","done":5,"total":10})");
  ASSERT_TRUE(progress && *progress);
  EXPECT_EQ(**progress, ImportLine(ImportProgress{.done = Bytes(5), .total = Bytes(10)}));
  const auto written = decode_import_line(
      R"({"kind":"written","architecture":"bert","quantization":"Q8_0","size":7,"tensors":3,"notices":["a"]})");
  ASSERT_TRUE(written && *written);
  EXPECT_EQ(**written,
            ImportLine(ImportWritten{
                .architecture = "bert", .quantization = "Q8_0", .size = Bytes(7), .notices = {"a"}}));
  const auto failed = decode_import_line(
      R"({"kind":"failed","code":"unimplemented","reason":"unsupported_model","message":"no"})");
  ASSERT_TRUE(failed && *failed);
  EXPECT_EQ(std::get<Error>(**failed).code, ErrorCode::kUnimplemented);
  EXPECT_EQ(std::get<Error>(**failed).reason, "unsupported_model");
}

TEST(ImportLine, OfALaterVersionIsNoError) {
  const auto later = decode_import_line(R"({"kind":"verified"})");
  ASSERT_TRUE(later);
  EXPECT_FALSE(*later);
}

TEST(ImportLine, IsRefusedWhereItIsNone) {
  for (const char* line :
       {"", "x", "[]", "{}", R"({"kind":1})", R"({"kind":"progress","done":-1,"total":1})",
        R"({"kind":"progress","done":1.5,"total":2})", R"({"kind":"written","architecture":"a"})",
        R"({"kind":"written","architecture":"a","quantization":"b","size":1,"notices":[1]})",
        R"({"kind":"failed","code":"nonsense","reason":"","message":""})", R"({"kind":[[[[[[]]]]]]})"}) {
    EXPECT_FALSE(decode_import_line(line)) << line;
  }
}

}  // namespace
}  // namespace lm::wire

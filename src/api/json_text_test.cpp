#include "api/json_text.h"

#include <cmath>
#include <limits>
#include <string>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

namespace json = boost::json;

TEST(JsonText, NumbersAreWrittenAsPeopleWriteThem) {
  EXPECT_EQ(json_text(json::array{1.0, 0.25, 0.0, 120.0, -1.5, 1234567.0}), "[1,0.25,0,120,-1.5,1234567]");
  EXPECT_EQ(json_text(json::array{1, -2, 18446744073709551615U}), "[1,-2,18446744073709551615]");
  EXPECT_EQ(json_text(std::numeric_limits<double>::infinity()), "null");
  EXPECT_EQ(json_text(std::nan("")), "null");
}

TEST(JsonText, ReadsBackAsTheSame) {
  const json::value value = {{"text", "a \"quoted\"\n\x01 line, 模型"},
                             {"empty", json::object()},
                             {"list", json::array{json::array(), json::object{{"x", nullptr}}, true, false}},
                             {"small", 1.0 / 3},
                             {"large", 1e300}};
  EXPECT_EQ(json::parse(json_text(value)), value) << json_text(value);
}

TEST(JsonText, BytesThatAreNoTextAreReplaced) {
  const std::string text = json_text({{"path\xff", "caf\xe9.gguf"}});
  EXPECT_EQ(text, "{\"path\xEF\xBF\xBD\":\"caf\xEF\xBF\xBD.gguf\"}");
  EXPECT_NO_THROW(json::parse(text));
}

}  // namespace
}  // namespace lm::api

// What config.json says, and what is stored in which type because of it.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "architecture.h"
#include "json_document.h"
#include "model_shape.h"
#include "quantization.h"

namespace lm::importer {
namespace {

using testing::HasSubstr;

constexpr const char* kQwen =
    R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","hidden_act":"silu",
  "hidden_size":1024,"intermediate_size":3072,"num_hidden_layers":28,"num_attention_heads":16,"num_key_value_heads":8,
  "head_dim":128,"vocab_size":151936,"max_position_embeddings":40960,"rms_norm_eps":1e-06,"rope_theta":1000000,
  "rope_scaling":null,"sliding_window":null,"use_sliding_window":false,"tie_word_embeddings":true,"pad_token_id":-1})";

Result<ModelShape> shape_with(const std::string& more) {
  auto config = json::parse(kQwen).as_object();
  for (const auto& [key, value] : json::parse(more).as_object()) config[key] = value;
  return read_shape(json::value(config));
}

TEST(ModelShape, ReadsAConfiguration) {
  const auto shape = shape_with("{}");
  ASSERT_TRUE(shape) << shape.error().message;
  EXPECT_EQ(shape->layers, 28);
  EXPECT_EQ(shape->head, 128);
  EXPECT_EQ(shape->kv_heads, 8);
  EXPECT_EQ(shape->rope_base, 1e6);
  EXPECT_EQ(shape->padding_token, 0);
  EXPECT_TRUE(shape->tied);
  EXPECT_FALSE(shape->sliding_window);
  const auto found = find_architecture(*shape);
  ASSERT_TRUE(found);
  EXPECT_EQ((*found)->gguf, "qwen3");
}

TEST(ModelShape, RefusesNumbersThatLeadOutOfRange) {
  for (const char* more :
       {R"({"num_hidden_layers":0})", R"({"num_hidden_layers":1000000})", R"({"hidden_size":-4})",
        R"({"hidden_size":1e300})", R"({"vocab_size":"many"})", R"({"vocab_size":9223372036854775807})",
        R"({"num_key_value_heads":0})", R"({"num_key_value_heads":3})", R"({"head_dim":0})",
        R"({"num_attention_heads":1000000,"num_key_value_heads":1,"head_dim":60000})",
        R"({"head_dim":null,"hidden_size":1001})", R"({"rms_norm_eps":-1})", R"({"rope_theta":0})",
        R"({"max_position_embeddings":null})", R"({"model_type":7})", R"({"rope_scaling":{"type":"linear"}})",
        R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4}})"}) {
    const auto shape = shape_with(more);
    ASSERT_FALSE(shape) << more;
    EXPECT_EQ(shape.error().reason, "invalid_checkpoint") << more;
  }
}

TEST(ModelShape, KnowsBothFormsOfRope) {
  const auto old =
      shape_with(R"({"rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":32768}})");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->rope.kind, RopeScaling::Kind::kYarn);
  EXPECT_EQ(old->rope.original_context, 32'768);
  const auto now = shape_with(
      R"({"rope_theta":null,"rope_parameters":{"rope_type":"linear","rope_theta":500000,"factor":2}})");
  ASSERT_TRUE(now);
  EXPECT_EQ(now->rope_base, 500'000);
  EXPECT_EQ(now->rope.kind, RopeScaling::Kind::kLinear);
  const auto unknown = shape_with(R"({"rope_scaling":{"rope_type":"longrope","factor":4}})");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().reason, "unsupported_model");
  EXPECT_THAT(unknown.error().message, HasSubstr("'longrope'"));
}

TEST(Architecture, RefusesByNameWithWhatIsImported) {
  for (const char* more : {R"({"model_type":"mamba2"})", R"({"architectures":["Qwen3MoeForCausalLM"]})",
                           R"({"hidden_act":"relu"})"}) {
    const auto found = find_architecture(shape_with(more).value());
    ASSERT_FALSE(found) << more;
    EXPECT_EQ(found.error().code, ErrorCode::kUnimplemented);
    EXPECT_EQ(found.error().reason, "unsupported_model");
  }
  const auto error = find_architecture(shape_with(R"({"model_type":"mamba2"})").value()).error();
  EXPECT_THAT(error.message, HasSubstr("'mamba2'"));
  EXPECT_THAT(error.message, HasSubstr("LlamaForCausalLM"));
}

TEST(Architecture, LacesTheHalvesOfARotation) {
  ModelShape shape;
  shape.head = 6;
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 6; row < 12; ++row) rows.push_back(source_row(Rows::kRotatedHalves, row, shape));
  EXPECT_EQ(rows, (std::vector<std::int64_t>{6, 9, 7, 10, 8, 11}));
  shape.padding_token = 1;
  EXPECT_EQ(source_row(Rows::kAfterPadding, 0, shape), 2);
}

class Types : public testing::Test {
 protected:
  ggml_type type(std::string_view name, std::int64_t layer, std::int64_t columns = 1024,
                 Quantization quantization = Quantization::k4Bit, bool tied = false) {
    choice_ = choose_type(name, {2048, columns}, WeightType::kBf16, quantization, layer, tied, shape_);
    return choice_.type;
  }
  ModelShape shape_ = shape_with("{}").value();
  TypeChoice choice_;
};

TEST_F(Types, FourBitGivesMoreToWhatMattersMost) {
  EXPECT_EQ(type("token_embd.weight", -1), GGML_TYPE_Q4_K);
  EXPECT_EQ(type("token_embd.weight", -1, 1024, Quantization::k4Bit, true), GGML_TYPE_Q6_K);
  EXPECT_EQ(type("output.weight", -1), GGML_TYPE_Q6_K);
  EXPECT_EQ(type("blk.0.attn_q.weight", 0), GGML_TYPE_Q4_K);
  // Of 28 layers the first three, the last four, and each third between.
  std::string more;
  for (std::int64_t i = 0; i < 28; ++i)
    more += type("blk.#.ffn_down.weight", i) == GGML_TYPE_Q6_K ? '6' : '4';
  EXPECT_EQ(more, "6664464464464464464464466666");
  EXPECT_EQ(type("blk.0.attn_norm.weight", 0), GGML_TYPE_F32);
  EXPECT_EQ(
      choose_type("blk.0.attn_q.bias", {2048}, WeightType::kBf16, Quantization::k4Bit, 0, false, shape_).type,
      GGML_TYPE_F32);
}

TEST_F(Types, FallsBackWhereRowsAreNoWholeBlocksAndSaysSo) {
  EXPECT_EQ(type("blk.0.attn_q.weight", 0, 384), GGML_TYPE_Q5_0);
  EXPECT_THAT(choice_.notice, HasSubstr("384"));
  EXPECT_EQ(type("output.weight", -1, 384), GGML_TYPE_Q8_0);
  EXPECT_EQ(type("blk.0.attn_q.weight", 0, 100), GGML_TYPE_F16);
  EXPECT_EQ(type("blk.0.attn_q.weight", 0, 100, Quantization::k8Bit), GGML_TYPE_F16);
  EXPECT_EQ(type("blk.0.attn_q.weight", 0, 100, Quantization::kNone), GGML_TYPE_BF16);
  EXPECT_EQ(choice_.notice, "");
}

TEST(Quantizations, HaveNames) {
  EXPECT_EQ(quantization_named("4bit"), Quantization::k4Bit);
  EXPECT_EQ(quantization_named("none"), Quantization::kNone);
  EXPECT_EQ(quantization_named("Q4_K_M"), Quantization::k4Bit);
  EXPECT_EQ(quantization_named("INT8"), Quantization::k8Bit);
  EXPECT_FALSE(quantization_named("3bit"));
  EXPECT_FALSE(quantization_named(""));
}

}  // namespace
}  // namespace lm::importer

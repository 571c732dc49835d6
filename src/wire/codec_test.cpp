#include "wire/codec.h"

#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::wire {
namespace {

using testing::HasSubstr;

Load full_load() {
  Load m;
  m.generation = Generation(7);
  m.kind = ModelKind::kEmbedding;
  m.path = "/models/a \"quoted\"\nname.gguf";
  m.projector = "/models/mmproj.gguf";
  m.options.context = 4096;
  m.options.parallel = 2;
  m.options.gpu_layers = -1;
  m.options.batch = 512;
  m.options.threads = 4;
  m.options.kv_type = "q8_0";
  m.options.device = "cuda0";
  m.options.pooling = "mean";
  m.options.mmap = false;
  m.alias = "模型";
  m.sampling.temperature = 0.7;
  m.sampling.top_p = 0.9;
  m.sampling.min_p = 0.05;
  m.sampling.repeat_penalty = 1.1;
  m.sampling.top_k = 40;
  m.sampling.max_tokens = 100;
  m.states = {{.file = "/dev/shm/a-0.slot",
               .tokens = 1024,
               .token_sum = 0xfedcba9876543210,
               .size = mib(112),
               .sum = 1}};
  return m;
}

Inspected full_inspected() {
  Inspected m;
  m.inspection = 3;
  m.fingerprint = "0123456789abcdef";
  m.name = "Tiny";
  m.architecture = "llama";
  m.quantization = "Q8_0";
  m.parameters = 1'100'048'384;
  m.size = mib(307);
  m.parts = 2;
  m.layers = 22;
  m.context_train = 2048;
  m.embedding_length = 2048;
  m.vocabulary = 32000;
  m.pooling = "cls";
  m.kind = ModelKind::kRerank;
  m.chat_template = "{% for m in messages %}\n{{ m.content }}\n{% endfor %}";
  m.predicted = {{DeviceId("host"), mib(1), mib(2), mib(3), mib(4)},
                 {DeviceId("cuda0"), mib(5), Bytes(0), mib(6), mib(7)}};
  m.exact = true;
  return m;
}

Inspecting full_inspecting() {
  return {.inspection = 3, .step = InspectionStep::kTemplate};
}

Ready full_ready() {
  Ready m;
  m.generation = Generation(9);
  m.kind = ModelKind::kGeneration;
  m.memory = {{DeviceId("host"), Bytes(0), mib(300), mib(88), mib(66)}};
  m.slots = 4;
  m.context = 4096;
  m.slot_context = 2048;
  m.context_train = 2048;
  m.capabilities = {
      .chat = true, .tools = true, .vision = false, .audio = false, .embeddings = false, .rerank = false};
  m.phases = {{"vocabulary", from_seconds(0.125)}, {"weights", from_seconds(0.5)}};
  m.keeps_states = true;
  return m;
}

StatesSaved full_saved() {
  StatesSaved m;
  m.id = 12;
  m.complete = true;
  m.slots = full_load().states;
  m.wrong = {"no room for \"that\""};
  m.resumptions = {{.restored = 1007, .shared = 1000, .reused = 999}};
  m.prompt_rate = 231.5;
  m.took = from_seconds(0.25);
  return m;
}

Restored full_restored() {
  Restored m;
  m.generation = Generation(9);
  m.slots = 2;
  m.tokens = 5111;
  m.refused = {"/dev/shm/b-1.slot"};
  m.wrong = {"b-1.slot is not what was saved"};
  m.took = from_seconds(0.125);
  return m;
}

Failed full_failed() {
  Failed m;
  m.generation = Generation(11);
  m.error = {.code = ErrorCode::kResourceExhausted,
             .message = "the card has too little memory",
             .reason = "insufficient_memory",
             .fields = {{"device", "cuda0"}, {"needed", std::int64_t{123}}, {"free", std::int64_t{45}}},
             .retry_after = from_seconds(1.5)};
  return m;
}

template <class Message>
void expect_round_trip_from(const Message& message) {
  const std::string line = encode(FromWorker(message));
  ASSERT_EQ(line.back(), '\n');
  ASSERT_EQ(line.find('\n'), line.size() - 1) << "one line, whatever the texts contain";
  const auto back = decode_from_worker(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_TRUE(back->has_value());
  ASSERT_TRUE(std::holds_alternative<Message>(**back));
  EXPECT_EQ(std::get<Message>(**back), message) << line;
}

template <class Message>
void expect_round_trip_to(const Message& message) {
  const std::string line = encode(ToWorker(message));
  ASSERT_EQ(line.find('\n'), line.size() - 1);
  const auto back = decode_to_worker(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_TRUE(back->has_value());
  ASSERT_TRUE(std::holds_alternative<Message>(**back));
  EXPECT_EQ(std::get<Message>(**back), message) << line;
}

TEST(Codec, MessagesAboutConversationsComeBackAsTheyWent) {
  expect_round_trip_from(full_saved());
  expect_round_trip_from(full_restored());
  expect_round_trip_to(CancelSave{.id = 3});
  expect_round_trip_to(SaveStates{
      .id = 3, .name = "s", .places = {{.folder = "/dev/shm/x", .limit = gib(1)}}, .least_tokens = 64});
  // A sum is all of its sixteen digits.
  std::string line = encode(FromWorker(full_saved()));
  line.pop_back();
  const auto at = line.find("fedcba9876543210");
  ASSERT_NE(at, std::string::npos);
  EXPECT_FALSE(decode_from_worker(line.erase(at, 1)));
}

TEST(Codec, RoundTripsOrders) {
  expect_round_trip_to(full_load());
  Load spread = full_load();
  spread.options.split = Split::kRow;
  spread.options.shares = {{DeviceId("rpc1"), 12}, {DeviceId("cuda0"), 11}};
  spread.rpc = {{.id = DeviceId("rpc1"), .server = "localhost:50052", .number = 2}};
  expect_round_trip_to(spread);
  expect_round_trip_to(Load{.generation = Generation(1),
                            .path = "x.gguf",
                            .projector = {},
                            .options = {},
                            .alias = {},
                            .sampling = {},
                            .states = {}});
  expect_round_trip_to(Inspect{
      .id = 5, .path = "m.gguf", .projector = "p.gguf", .options = full_load().options, .exact = true});
  expect_round_trip_to(ListDevices{});
  expect_round_trip_to(ListDevices{{"10.0.0.7:50052", "localhost:1"}});
  expect_round_trip_to(Shutdown{});
}

TEST(Codec, RoundTripsAnswers) {
  expect_round_trip_from(Hello{.engine = "0.5.0", .variant = "cpu", .build = "clang 19", .pid = 42});
  for (int i = 0; i <= static_cast<int>(LoadStage::kReady); ++i) {
    expect_round_trip_from(
        Progress{.generation = Generation(2), .stage = static_cast<LoadStage>(i), .fraction = 0.25});
  }
  expect_round_trip_from(full_ready());
  expect_round_trip_from(full_failed());
  expect_round_trip_from(
      Failed{.inspection = 8, .error = {.message = "x", .reason = {}, .fields = {}, .retry_after = {}}});
  expect_round_trip_from(full_inspecting());
  expect_round_trip_from(full_inspected());
  expect_round_trip_from(Inspected{});
  expect_round_trip_from(
      DevicesListed{{{DeviceId("cuda0"), DeviceKind::kCuda, "NVIDIA", gib(80), gib(79), "0000:01:00.0"}}});
  expect_round_trip_from(DevicesListed{});
  expect_round_trip_from(DevicesListed{
      .devices = {{.id = {}, .kind = DeviceKind::kRpc, .name = "x", .server = "localhost:1", .number = 1}},
      .missing = {{.server = "localhost:2", .why = "does not answer"}}});
  Inspected cut = full_inspected();
  cut.extent = Extent{.layers = {{mib(3), mib(1)}, {mib(4), Bytes()}},
                      .scratch = Bytes(1),
                      .inputs = Bytes(8),
                      .pipelined = Bytes(9),
                      .last_scratch = Bytes(11),
                      .output_scratch = Bytes(2),
                      .first = Bytes(3),
                      .device_context = Bytes(4),
                      .host = Bytes(5),
                      .host_with_cards = Bytes(6),
                      .host_scratch = Bytes(7),
                      .host_pipelined = Bytes(10),
                      .mapped = false};
  expect_round_trip_from(cut);
}

TEST(Codec, WritesTextThatIsNoUtf8AsReplacement) {
  const std::string line = encode(FromWorker(Hello{
      .engine = "a\xff\xc0\xafz", .variant = "\xed\xa0\x80", .build = "ok \xf0\x9f\x8c\x8d", .pid = 1}));
  const auto back = decode_from_worker(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(back);
  const auto& hello = std::get<Hello>(**back);
  EXPECT_EQ(hello.engine, "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
  EXPECT_EQ(hello.build, "ok \xf0\x9f\x8c\x8d");
}

TEST(Codec, DropsWhatALaterVersionSays) {
  const auto unknown_from = decode_from_worker(R"({"kind":"weather","temperature":21})");
  ASSERT_TRUE(unknown_from);
  EXPECT_FALSE(unknown_from->has_value());
  const auto unknown_to = decode_to_worker(R"({"kind":"ready"})");
  ASSERT_TRUE(unknown_to);
  EXPECT_FALSE(unknown_to->has_value());
  const auto extra = decode_from_worker(
      R"({"kind":"progress","generation":1,"stage":"weights","fraction":0.5,"tensors":[1,2,{"a":null}]})");
  ASSERT_TRUE(extra) << extra.error().message;
  EXPECT_EQ(std::get<Progress>(**extra).fraction, 0.5);
  const auto code = decode_from_worker(
      R"({"kind":"failed","generation":1,"inspection":0,"error":{"code":"brand_new","message":"m","reason":"r","fields":{}}})");
  ASSERT_TRUE(code) << code.error().message;
  EXPECT_EQ(std::get<Failed>(**code).error.code, ErrorCode::kInternal);
}

struct Refused {
  const char* line;
  const char* says;
};

class RefusedLine : public testing::TestWithParam<Refused> {};

TEST_P(RefusedLine, IsAnErrorThatSaysWhere) {
  const auto got = decode_from_worker(GetParam().line);
  ASSERT_FALSE(got) << GetParam().line;
  EXPECT_EQ(got.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(got.error().reason, "bad_message");
  EXPECT_THAT(got.error().message, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Codec, RefusedLine,
    testing::Values(
        Refused{"", "no JSON"}, Refused{"{", "no JSON"}, Refused{"[]", "no kind"},
        Refused{"\"hello\"", "no kind"}, Refused{R"({"kind":1})", "no kind"},
        Refused{R"({"kind":"hello"})", "hello.protocol is missing"},
        Refused{R"({"kind":"hello","protocol":"1"})", "hello.protocol is no whole number"},
        Refused{R"({"kind":"hello","protocol":1.5})", "hello.protocol"},
        Refused{R"({"kind":"hello","protocol":99999999999})", "hello.protocol is out of its range"},
        Refused{R"({"kind":"hello","protocol":18446744073709551615})", "hello.protocol is out of its range"},
        Refused{R"({"kind":"hello","protocol":1e400})", "hello.protocol"},
        Refused{R"({"kind":"hello","protocol":1,"engine":"e","variant":"v","build":"b","pid":-4})",
                "hello.pid is out of its range"},
        Refused{R"({"kind":"progress","generation":-1,"stage":"weights","fraction":0})",
                "progress.generation"},
        Refused{R"({"kind":"progress","generation":1,"stage":"gone fishing","fraction":0})",
                "progress.stage is none of"},
        Refused{R"({"kind":"progress","generation":1,"stage":"weights","fraction":1.01})",
                "progress.fraction is out of"},
        Refused{R"({"kind":"progress","generation":1,"stage":"weights","fraction":null})",
                "progress.fraction is no number"},
        Refused{R"({"kind":"failed","generation":1,"inspection":0,"error":[]})", "failed.error is no object"},
        Refused{
            R"({"kind":"failed","generation":1,"inspection":0,"error":{"code":"internal","message":"m","reason":"r","fields":{"a":[]}}})",
            "error.fields"},
        Refused{R"({"kind":"devices_listed","devices":[1]})", "no object"},
        Refused{
            R"({"kind":"devices_listed","devices":[{"id":"x","kind":"host","name":"n","capacity":-1,"free":0,"bus":""}]})",
            "devices.capacity is out of its range"},
        Refused{R"({"kind":"devices_listed","devices":{}})", "no array"}));

TEST(Codec, RefusesAPathWithAZeroByte) {
  auto line = encode(ToWorker(Load{.generation = Generation(1),
                                   .path = "a.gguf",
                                   .projector = {},
                                   .options = {},
                                   .alias = {},
                                   .sampling = {},
                                   .states = {}}));
  line.pop_back();
  line.replace(line.find("a.gguf"), 6, "a\\u0000b");
  const auto got = decode_to_worker(line);
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message, HasSubstr("zero byte"));
}

TEST(Codec, RefusesDeepNestingAndHugeArraysWithoutEffort) {
  const std::string deep = R"({"kind":"hello","x":)" + std::string(2'000'000, '[');
  EXPECT_FALSE(decode_from_worker(deep));
  std::string many = R"({"kind":"devices_listed","devices":[)";
  for (int i = 0; i < 5000; ++i) many += "{},";
  many.back() = ']';
  const auto got = decode_from_worker(many + "}");
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message, HasSubstr("too many elements"));
}

// Whatever comes in, decoding ends in a value or an error; the sanitizers watch.
TEST(Codec, SurvivesMutatedLines) {
  std::mt19937 random(20261120);
  const std::vector<std::string> lines = {encode(FromWorker(full_ready())), encode(FromWorker(full_failed())),
                                          encode(FromWorker(full_inspected())),
                                          encode(ToWorker(full_load()))};
  const std::string interesting = "{}[]\",:\\\n0123456789-+eE.tfn\xff\x00 u";
  int decoded = 0, refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string line = lines[random() % lines.size()];
    const auto changes = 1 + random() % 4;
    for (unsigned i = 0; i < changes && !line.empty(); ++i) {
      const auto at = random() % line.size();
      switch (random() % 4) {
        case 0:
          line[at] = static_cast<char>(random());
          break;
        case 1:
          line[at] = interesting[random() % interesting.size()];
          break;
        case 2:
          line.erase(at, 1 + random() % 8);
          break;
        default:
          line.resize(at);
          break;
      }
    }
    const auto from = decode_from_worker(line);
    const auto to = decode_to_worker(line);
    (from || to) ? ++decoded : ++refused;
    if (!from) EXPECT_EQ(from.error().reason, "bad_message");
  }
  EXPECT_GT(decoded, 100);
  EXPECT_GT(refused, 10'000);
}

TEST(Codec, SurvivesRandomBytes) {
  std::mt19937 random(7);
  for (int round = 0; round < 5'000; ++round) {
    std::string line(random() % 200, '\0');
    for (auto& c : line) c = static_cast<char>(random());
    EXPECT_FALSE(decode_from_worker(line));
    EXPECT_FALSE(decode_to_worker(line));
  }
}

TEST(Codec, TellsProtocolsApart) {
  EXPECT_TRUE(check_protocol(Hello{.engine = {}, .variant = {}, .build = {}}));
  const auto got = check_protocol(Hello{.protocol = kProtocol + 1, .engine = {}, .variant = {}, .build = {}});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(got.error().message, HasSubstr("scripts/bootstrap"));
}

}  // namespace
}  // namespace lm::wire

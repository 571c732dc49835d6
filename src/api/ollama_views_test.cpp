#include "api/ollama_views.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

using namespace std::chrono_literals;

Model local(std::string id) {
  Model model;
  model.id = ModelId(std::move(id));
  model.artifact = {
      .path = "/m/a.gguf", .projector = {}, .size = Bytes(7), .fingerprint = "f1", .modified_s = 60};
  model.origin = "models.llm";
  return model;
}

Model ollamas(std::string tag) {
  Model model;
  model.id = ModelId("ollama_" + tag);
  model.aliases = {tag};
  model.family = Family::kOllama;
  model.remote = Remote{.upstream = UpstreamId("ollama"), .name = std::move(tag)};
  return model;
}

TEST(OllamaViews, NumbersForPeople) {
  EXPECT_EQ(human_number(1'100'048'384), "1.1B");
  EXPECT_EQ(human_number(596'049'920), "596.05M");
  EXPECT_EQ(human_number(260'032), "260K");
  EXPECT_EQ(human_number(12), "12");
}

TEST(OllamaViews, AnOllamasModelHasItsOwnNameWhereThatMeansIt) {
  Model mine = local("shared");
  mine.aliases = {"qwen:7b"};
  const Model theirs = ollamas("llama:8b"), hidden = ollamas("x:1");
  const runtime::Catalog catalog({theirs, mine}, {{"x:1", mine.id}});
  EXPECT_EQ(ollama_name(theirs, catalog), "llama:8b");
  EXPECT_EQ(ollama_name(hidden, catalog), "ollama_x:1") << "that name means another one";
  EXPECT_EQ(ollama_name(mine, catalog), "shared");
}

TEST(OllamaViews, Tags) {
  const Model model = local("tiny");
  const runtime::Catalog catalog({model}, {});
  const auto tag = ollama_tag(model, catalog);
  EXPECT_EQ(tag.at("name"), "tiny");
  EXPECT_EQ(tag.at("modified_at"), "1970-01-01T00:01:00.000000000Z");
  EXPECT_EQ(tag.at("size"), 7);
  EXPECT_EQ(tag.at("digest").as_string().size(), 64U);
  EXPECT_EQ(tag.at("capabilities"), boost::json::parse(R"(["completion"])"));
  Model other = model;
  other.artifact.fingerprint = "f2";
  other.artifact.projector = "/m/p.gguf";
  EXPECT_NE(ollama_tag(other, catalog).at("digest"), tag.at("digest")) << "another file is another model";
  EXPECT_EQ(ollama_tag(other, catalog).at("capabilities"), boost::json::parse(R"(["completion", "vision"])"));
  EXPECT_EQ(ollama_tag(ollamas("q:1"), catalog).at("modified_at"), "0001-01-01T00:00:00Z");
}

TEST(OllamaViews, WhatIsInMemory) {
  Snapshot snapshot;
  snapshot.now = TimePoint(1h);
  ModelView ready{.model = local("tiny"), .state = PublishedState::kReady};
  ready.instance.emplace();
  ready.instance->held = {{DeviceId("host"), Bytes(5)}, {DeviceId("cuda0"), Bytes(30)}};
  ready.instance->context = 2048;
  ready.instance->expires_at = snapshot.now + 90s;
  ModelView busy{.model = local("busy"), .state = PublishedState::kReady};
  busy.instance.emplace();
  ModelView loading{.model = local("soon"), .state = PublishedState::kLoading};
  loading.instance.emplace();
  ModelView theirs{.model = ollamas("q:1"), .state = PublishedState::kReady};
  snapshot.models = {ready, busy, loading, theirs};
  UpstreamView upstream;
  upstream.upstream.id = UpstreamId("ollama");
  upstream.residents = {{"q:1", ModelKind::kGeneration, Bytes(100), Bytes(90)}};
  snapshot.upstreams = {upstream};
  const runtime::Catalog catalog({ready.model, busy.model, loading.model, theirs.model}, {});
  const auto ps = ollama_ps(snapshot, catalog, std::chrono::system_clock::time_point(1000s));
  const auto& models = ps.at("models").as_array();
  ASSERT_EQ(models.size(), 3U) << "what only loads is not in memory";
  EXPECT_EQ(models[0].at("size"), 35);
  EXPECT_EQ(models[0].at("size_vram"), 30);
  EXPECT_EQ(models[0].at("context_length"), 2048);
  EXPECT_EQ(models[0].at("expires_at"), "1970-01-01T00:18:10.000000000Z");
  EXPECT_EQ(models[1].at("expires_at"), "2318-01-01T00:00:00Z");
  EXPECT_EQ(models[2].at("name"), "q:1");
  EXPECT_EQ(models[2].at("size"), 100);
  EXPECT_EQ(models[2].at("size_vram"), 90);
}

TEST(OllamaViews, Show) {
  Model model = local("tiny");
  model.sampling.temperature = 0.5;
  model.load.context = 4096;
  backend::Inspection file;
  file.name = "Tiny";
  file.architecture = "llama";
  file.quantization = "Q4_K_M";
  file.parameters = 1'100'048'384;
  file.context_train = 2048;
  file.layers = 22;
  file.chat_template = "{% if tools %}{% endif %}<think>";
  const auto shown = ollama_show(model, file);
  EXPECT_EQ(shown.at("details").at("parameter_size"), "1.1B");
  EXPECT_EQ(shown.at("details").at("families"), boost::json::parse(R"(["llama"])"));
  EXPECT_EQ(shown.at("model_info").at("llama.context_length"), 2048);
  EXPECT_EQ(shown.at("model_info").at("llama.block_count"), 22);
  EXPECT_EQ(shown.at("capabilities"), boost::json::parse(R"(["completion", "tools", "thinking"])"));
  EXPECT_EQ(shown.at("parameters"),
            "num_ctx                        4096\ntemperature                    0.5\n");
  EXPECT_EQ(shown.at("modelfile"), "# tiny is configured in models.llm\nFROM /m/a.gguf\n");
}

}  // namespace
}  // namespace lm::api

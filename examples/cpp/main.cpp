// Asks a model, in every form that the library has: whole, streamed, cancelled, asynchronous, in several
// threads.
//   ask CONFIGURATION.yaml [QUESTION]      a daemon of its own, or LLM_MANAGER_URL's
#include <chrono>
#include <cstdio>
#include <future>
#include <llm_manager/client.h>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace {

int fail(const char* what, const llm_manager::Error& error) {
  std::fprintf(stderr, "%s: %s (%s)\n", what, error.message.c_str(), error.reason.c_str());
  return 1;
}

llm_manager::Question question(std::string prompt, int max_tokens) {
  llm_manager::Question asked;
  asked.prompt = std::move(prompt);
  asked.sampling.max_tokens = max_tokens;
  asked.sampling.temperature = 0;
  return asked;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace llm_manager;
  if (argc < 2) {
    std::fprintf(stderr, "usage: ask CONFIGURATION.yaml [QUESTION]\n");
    return 2;
  }
  Options options;
  options.configuration_file = argv[1];
  auto client = Client::open(options);
  if (!client) return fail("opening", client.error());
  std::printf("daemon: %s, process %d\n", client->address().c_str(), client->private_daemon());

  // Whole, and in pieces.
  const std::string prompt = argc > 2 ? argv[2] : "What is the capital of France?";
  std::string pieces;
  const auto answer =
      client->generate(question(prompt, 40), [&](std::string_view piece) { pieces += piece; });
  if (!answer) return fail("generating", answer.error());
  std::printf("answer: %s\n", answer->text.c_str());
  if (pieces != answer->text) return std::fprintf(stderr, "the pieces are another answer\n"), 1;

  // Cancelled after its first piece.
  std::stop_source stop;
  const auto cut = client->generate(
      question("Count from one to a thousand.", 1000), [&](std::string_view) { stop.request_stop(); },
      stop.get_token());
  if (cut) return std::fprintf(stderr, "a cancelled answer came to its end\n"), 1;
  if (cut.error().code != ErrorCode::kCancelled) return fail("cancelling", cut.error());
  std::printf("cancelled: yes\n");

  // Asynchronous, and from several threads.
  std::promise<Result<Embeddings>> promised;
  client->embed_async({"hello", "world"}, 32, "embedding",
                      [&](Result<Embeddings> rows) { promised.set_value(std::move(rows)); });
  std::vector<int> answered(3);
  {
    std::vector<std::jthread> threads;
    for (int& done : answered) {
      threads.emplace_back(
          [&client, &done] { done = client->generate(question("Say hello.", 4)).has_value() ? 1 : 0; });
    }
  }
  for (const int done : answered)
    if (done == 0) return std::fprintf(stderr, "a thread got no answer\n"), 1;
  const auto rows = promised.get_future().get();
  if (!rows) return fail("embedding", rows.error());
  std::printf("embeddings: %zu of %zu numbers\n", rows->rows, rows->columns);

  // The model and the machine.
  const auto model = client->model();
  if (!model) return fail("asking for the model", model.error());
  std::printf("model: %s is %s with a context of %d tokens\n", model->id.c_str(), model->state.c_str(),
              model->context);
  const auto gpus = client->gpu_status();
  if (!gpus) return fail("asking for the devices", gpus.error());
  std::printf("gpus: %zu with %lld bytes\n", gpus->count, static_cast<long long>(gpus->total));
  const auto checks = client->diagnose();
  if (!checks) return fail("diagnosing", checks.error());
  for (const Check& check : *checks)
    if (check.status == "problem") std::printf("problem: %s\n", check.message.c_str());

  // Unloaded and loaded again.
  const auto unloaded = client->unload();
  if (!unloaded) return fail("unloading", unloaded.error());
  std::printf("unloaded: %lld bytes freed, proved: %s\n",
              static_cast<long long>(unloaded->release ? unloaded->release->freed : 0),
              unloaded->release && unloaded->release->proved ? "yes" : "no");
  const auto loaded = client->load();
  if (!loaded) return fail("loading", loaded.error());
  std::printf("loaded again: %s\n", loaded->changed ? "yes" : "it was loaded already");

  client->close();
  client->close();
  const auto late = client->generate(question("Hello?", 4));
  std::printf("closed: %s\n", !late && late.error().reason == "closed" ? "yes" : "no");
}

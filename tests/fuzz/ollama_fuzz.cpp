// Ollama's requests and the answers to them: whatever comes, what is passed on is a request that the scan
// takes, and an answer is told the same however it was cut.
#include <cstdint>
#include <string>
#include <string_view>

#include <boost/json/parse.hpp>

#include "api/ollama_answer.h"
#include "api/ollama_request.h"
#include "api/request_scan.h"
#include "base/assert.h"

namespace {

using namespace lm::api;

void ask(std::string_view input) {
  boost::system::error_code broken;
  const auto value = boost::json::parse(input, broken);
  if (broken || !value.is_object()) return;
  for (const OllamaCall call :
       {OllamaCall::kChat, OllamaCall::kGenerate, OllamaCall::kEmbed, OllamaCall::kEmbeddings}) {
    const auto read = read_ollama(value.as_object(), call);
    if (!read) continue;
    LM_ASSERT(!read->model.empty(), "a model is named");
    for (const Answerer answerer : {Answerer::kWorker, Answerer::kProvider}) {
      const auto request = to_openai(value.as_object(), call, read->model, answerer);
      if (!request) continue;
      const auto scan = scan_request(request->body);
      // One that is nested too deeply is refused by the scan, with a reason.
      LM_ASSERT(!scan || scan->model == read->model, "the same model is asked for");
      LM_ASSERT(!scan || scan->stream == request->path.ends_with("completions"), "and in a stream");
    }
  }
}

std::string told(std::string_view input, std::size_t cut) {
  OllamaAnswer answer(OllamaAnswer::Form::kChat, "m", true,
                      {.now = [] { return lm::TimePoint(); },
                       .date = [] { return std::chrono::system_clock::time_point(); }});
  answer.begin("text/event-stream");
  std::string all;
  for (const std::string_view part : {input.substr(0, cut), input.substr(cut)}) {
    const auto lines = answer.piece(part);
    // What was told before an error depends on where it was cut; the error does not.
    if (!lines) return "error: " + lines.error().message;
    all += *lines;
  }
  const auto last = answer.last();
  return last ? all + *last : "error: " + last.error().message;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  ask(input);
  const std::string whole = told(input, 0);
  LM_ASSERT(whole == told(input, size / 2) && whole == told(input, size / 3), "wherever it is cut");
  return 0;
}

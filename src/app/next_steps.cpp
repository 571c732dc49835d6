#include "app/next_steps.h"

#include <fmt/format.h>

#include "config/config.h"

namespace lm::app {

std::string next_steps(std::string_view url, const runtime::Catalog& catalog) {
  std::string text = "Where to go next, in another terminal:\n";
  // The command line looks at the usual address by itself.
  if (url != "http://" + config::Server().listen) text += fmt::format("  export LLM_MANAGER_URL={}\n", url);
  const bool chats = catalog.resolve("chat").has_value();
  const bool embeds = catalog.resolve("embedding", ModelKind::kEmbedding).has_value();
  if (!chats && !embeds) text += "  llm-manager pull hf:Qwen/Qwen3-4B-GGUF\n";
  if (chats) text += "  llm-manager chat \"What is the capital of France?\"\n";
  text += "  llm-manager ps\n";
  if (chats) {
    text += fmt::format(
        "  curl {}/v1/chat/completions -d "
        R"('{{"model": "chat", "messages": [{{"role": "user", "content": "Hello"}}]}}')"
        "\n",
        url);
  }
  if (embeds) {
    text += fmt::format(
        "  curl {}/v1/embeddings -d "
        R"('{{"model": "embedding", "input": "Hello"}}')"
        "\n",
        url);
  }
  return text;
}

}  // namespace lm::app

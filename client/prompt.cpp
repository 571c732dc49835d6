#include "client/prompt.h"

#include <fmt/format.h>

namespace lm::client {
namespace {

// What a chat template puts around a message, generously.
constexpr std::size_t kTemplate = 64;

void add_part(std::string& text, std::string_view part) {
  if (part.empty()) return;
  if (!text.empty()) text += "\n\n";
  text += part;
}

std::string system_of(const llm_manager::Question& question) {
  std::string text = question.system;
  if (!question.context.empty()) add_part(text, "Context:\n" + question.context);
  if (!question.passages.empty()) {
    std::string list = "Passages that were found for the question; name their numbers where you use them:";
    std::size_t number = 0;
    for (const llm_manager::Passage& passage : question.passages) {
      list += passage.source.empty() ? fmt::format("\n[{}] {}", ++number, passage.text)
                                     : fmt::format("\n[{}] ({}) {}", ++number, passage.source, passage.text);
    }
    add_part(text, list);
  }
  return text;
}

}  // namespace

std::vector<llm_manager::Message> messages_of(const llm_manager::Question& question, std::size_t first) {
  std::vector<llm_manager::Message> messages;
  if (std::string text = system_of(question); !text.empty())
    messages.push_back({.role = "system", .text = std::move(text)});
  for (std::size_t i = first; i < question.history.size(); ++i) {
    messages.push_back({.role = "user", .text = question.history[i].user});
    messages.push_back({.role = "assistant", .text = question.history[i].assistant});
  }
  messages.push_back({.role = "user", .text = question.prompt});
  return messages;
}

std::size_t most_tokens(const std::vector<llm_manager::Message>& messages) {
  std::size_t most = kTemplate;
  for (const llm_manager::Message& message : messages) most += message.text.size() + kTemplate;
  return most;
}

}  // namespace lm::client

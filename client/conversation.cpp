#include "client/conversation.h"

#include "chat/sentiment.h"

namespace lm::client {

void Conversation::answered(std::string_view prompt, const llm_manager::Answer& answer, Duration took,
                            TimePoint now) {
  const double users = chat::sentiment(prompt);
  mood_ = chat::next_mood(chat::usual_moods(), mood_, chat::tone_of(users, chat::sentiment(answer.text)));
  intimacy_.exchanged(users, silence(now));
  last_ = now;
  spent_ += took;
  ++stats_.conversation_count;
  stats_.prompt_tokens += answer.prompt_tokens;
  stats_.answer_tokens += answer.answer_tokens;
}

llm_manager::ConversationStats Conversation::stats(TimePoint now) const {
  llm_manager::ConversationStats stats = stats_;
  stats.current_mood = chat::to_string(mood_);
  stats.intimacy_level = intimacy_.level(silence(now));
  if (stats.conversation_count > 0) stats.average_answer_s = seconds(spent_) / stats.conversation_count;
  return stats;
}

}  // namespace lm::client

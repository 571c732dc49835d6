// What a model is asked, and what it has answered. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llm_manager {

struct Message {
  std::string role;  // "system", "user", "assistant"
  std::string text;
  bool operator==(const Message&) const = default;
};

// One turn of a conversation.
struct Turn {
  std::string user, assistant;
  bool operator==(const Turn&) const = default;
};

// A piece of a document that was found for the question.
struct Passage {
  std::string text;
  std::string source;     // for the reader; may be empty
  double similarity = 0;  // 0…1; 0: unknown
  bool operator==(const Passage&) const = default;
};

// Empty: as the configuration or the model says.
struct Sampling {
  std::optional<int> max_tokens;
  std::optional<double> temperature, top_p;
  std::optional<int> top_k;
  std::optional<std::int64_t> seed;
  bool operator==(const Sampling&) const = default;
};

struct Question {
  std::string prompt;
  std::string system;         // instructions that go before everything; may be empty
  std::string context;        // what the model is to know for this answer; may be empty
  std::vector<Turn> history;  // oldest first; what does not fit the model's context is left out, oldest first
  std::vector<Passage> passages;  // numbered in the prompt, in this order
  // Whether the client's retriever, if it has one, is asked for passages as well.
  bool retrieve = true;
  std::string model = "chat";  // a model's name, a role, an upstream's model
  Sampling sampling;
};

struct Answer {
  std::string text;
  std::string reasoning;      // what a thinking model thought; no part of `text`
  std::string finish_reason;  // "stop", "length", …
  std::string model;          // who answered
  int prompt_tokens = 0;
  int answer_tokens = 0;
  int turns_left_out = 0;         // of the history, since they did not fit
  std::vector<Passage> passages;  // what the answer was given to read
  bool operator==(const Answer&) const = default;
};

// A vector for each text, in their order, row after row, each of length 1.
struct Embeddings {
  std::size_t rows = 0, columns = 0;
  std::vector<float> values;  // rows * columns
  bool operator==(const Embeddings&) const = default;
};

}  // namespace llm_manager

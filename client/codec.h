// The daemon's JSON (docs/api.md) as the library's values, and back. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "llm_manager/error.h"
#include "llm_manager/question.h"
#include "llm_manager/status.h"

namespace lm::client {

llm_manager::Error to_public(const Error& error);
// Of an answer with a status of 400 and above, or of an event with an error (status 0).
llm_manager::Error error_of(int status, std::string_view body);

template <class T>
using Read = llm_manager::Result<T>;

// Everything below: kInternal "bad_answer" where the text is not what docs/api.md says.
Read<std::vector<llm_manager::ModelInfo>> read_models(std::string_view body);
Read<std::vector<llm_manager::DeviceInfo>> read_devices(std::string_view body);
Read<llm_manager::SystemInfo> read_system(std::string_view body);
Read<std::vector<llm_manager::Check>> read_checks(std::string_view body);
Read<llm_manager::Change> read_change(std::string_view body);
// Rows in the order of their texts, each of length 1.
Read<llm_manager::Embeddings> read_embeddings(std::string_view body);
Read<std::vector<int>> read_tokens(std::string_view body);
Read<std::string> read_member(std::string_view body, std::string_view name);  // a text
Read<int> read_number(std::string_view body, std::string_view name);

// One event of a chat's stream: what it says, and the rest of it, but the text, taken into `answer`. An error
// event is an error.
Read<std::string> take_chat_event(std::string_view datum, llm_manager::Answer& answer);

boost::json::array messages_json(const std::vector<llm_manager::Message>& messages);

}  // namespace lm::client

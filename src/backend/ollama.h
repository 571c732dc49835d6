// Ollama: its tags are the models it offers, /api/ps is what it has in memory, and keep_alive: 0 is how it is
// told to give that up.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "backend/openai.h"
#include "backend/upstream.h"
#include "base/result.h"

namespace lm::backend {

struct OllamaOptions {
  std::string name = "ollama";
  std::string url = "http://127.0.0.1:11434";
  Place place = Place::kByHost;
  std::string ca_file;  // PEM roots beside the system's
  Duration look_limit = std::chrono::seconds(10);
};

// kInvalidArgument "bad_url". A tag NAME is the model ollama_NAME, also known as NAME, and as both without a
// ":latest". Its processes are those that the server at that port has started: each is there for one model,
// the server itself holds none.
Result<std::shared_ptr<UpstreamServer>> make_ollama(boost::asio::any_io_executor executor,
                                                    OllamaOptions options);

}  // namespace lm::backend

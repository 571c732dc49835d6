// The servers that are not ours, made of the configuration: Ollama, the providers, those that a command
// starts.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/upstream.h"
#include "config/config.h"

namespace lm::runtime {

struct UpstreamList {
  std::vector<std::shared_ptr<backend::UpstreamServer>> servers;
  std::vector<std::string> warnings;  // of those that could not be made: the others are there all the same
};

// `run_folder`: for the sockets and records of what commands start. `log`: a line for people.
// `changed`: one has ended by itself, look at it.
UpstreamList make_upstreams(boost::asio::any_io_executor executor, const config::Config& config,
                            const std::filesystem::path& run_folder,
                            const std::function<void(std::string_view)>& log,
                            const std::function<void(UpstreamId)>& changed);

}  // namespace lm::runtime

// A server that we start by a command and that speaks OpenAI's API: vLLM, llama-server, a container. Loading
// one of its models is starting it, giving up its memory is ending it.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/upstream.h"
#include "base/result.h"

namespace lm::backend {

struct CommandOptions {
  std::string name;  // its models are NAME/MODEL
  // Program and arguments, no shell. Here and in the values of the environment ${port} stands for base_url's
  // port, or for a free one of loopback, chosen anew at each start, where base_url is empty; ${socket} for
  // the path of a Unix socket in run_folder.
  std::vector<std::string> command;
  std::string
      base_url;  // empty: unix:${socket} where the command uses that, else http://127.0.0.1:${port}/v1
  std::filesystem::path working_folder;            // empty: ours
  std::map<std::string, std::string> environment;  // beside the few variables that are passed on
  std::vector<std::string> models;  // what it serves; empty: what it lists, which it can only while it runs
  std::string health;               // path that answers 200 when it is ready; empty: /health, else /v1/models
  int stop_signal = 15;
  Duration start_limit = std::chrono::minutes(10);  // from its start to ready
  Duration stop_grace = std::chrono::seconds(10);   // from stop_signal to SIGKILL
  std::filesystem::path run_folder;                 // for its record and its socket
  std::function<void(std::string_view)> log;        // a line for people: its output, its start and its end
  std::function<void()> changed;                    // it has ended: look() again
};

// On the main thread only, since it starts processes. The child leads a process group of its own, dies with
// the daemon, and is recorded in the run folder; what leaves its group (a container, for which the command is
// only the client) has to be ended by the command itself, on its stop signal. Destruction kills it.
//
// load(): starts it where it does not run and waits until it is ready, within `limit` and start_limit.
// kUnavailable "command_not_started", kUnavailable "command_died" with its last words, kDeadlineExceeded
// "load_timeout" (it is ended then). yield(): ends it. client() is null while it does not run.
// kInvalidArgument: no command, a base_url that is none, a socket's path that is too long.
Result<std::shared_ptr<UpstreamServer>> make_command(boost::asio::any_io_executor executor,
                                                     CommandOptions options);

}  // namespace lm::backend

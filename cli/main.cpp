// The program: its arguments and its streams, and the daemon that `serve` starts.
#include <cstdlib>
#include <string>
#include <vector>

#include "app/serve.h"
#include "cli/program.h"

namespace {

int serve(const lm::cli::ServeOptions& options) {
  return lm::app::serve({.config = options.config,
                         .listen = options.listen,
                         .models = options.models,
                         .data = options.data,
                         .log_level = options.log_level});
}

}  // namespace

int main(int argc, char** argv) {
  return lm::cli::run_program(std::vector<std::string>(argv + 1, argv + argc), lm::cli::process_host(serve));
}

#include "runtime/upstream_list.h"

#include <fmt/format.h>

#include "backend/command.h"
#include "backend/ollama.h"
#include "backend/openai.h"

namespace lm::runtime {
namespace {

backend::Place place_of(config::Location location) {
  switch (location) {
    case config::Location::kLocal:
      return backend::Place::kHere;
    case config::Location::kRemote:
      return backend::Place::kElsewhere;
    case config::Location::kAuto:
      break;
  }
  return backend::Place::kByHost;
}

}  // namespace

UpstreamList make_upstreams(boost::asio::any_io_executor executor, const config::Config& config,
                            const std::filesystem::path& run_folder,
                            const std::function<void(std::string_view)>& log,
                            const std::function<void(UpstreamId)>& changed) {
  UpstreamList list;
  const auto add = [&](const std::string& name, Result<std::shared_ptr<backend::UpstreamServer>> made) {
    if (made) {
      list.servers.push_back(*std::move(made));
    } else {
      list.warnings.push_back(fmt::format("{}: {}", name, made.error().message));
    }
  };
  if (!config.ollama.url.empty())
    add("ollama", backend::make_ollama(
                      executor, {.url = config.ollama.url, .place = place_of(config.ollama.location)}));
  for (const auto& [name, provider] : config.providers) {
    backend::OpenAiOptions options;
    options.name = name;
    options.base_url = provider.base_url;
    options.key = provider.api_key.value.empty() ? std::string() : provider.api_key.value.reveal();
    options.models = provider.models;
    options.place = place_of(provider.location);
    add("providers." + name, backend::make_openai(executor, std::move(options)));
  }
  for (const auto& [name, command] : config.commands) {
    backend::CommandOptions options;
    options.name = name;
    options.command = command.command;
    options.base_url = command.base_url;
    options.working_folder = command.working_folder;
    options.environment = command.environment;
    options.models = command.models;
    options.health = command.health;
    options.stop_signal = command.stop_signal;
    options.start_limit = command.start_timeout;
    options.run_folder = run_folder;
    options.log = log;
    options.changed = [changed, id = UpstreamId(name)] { changed(id); };
    add("commands." + name, backend::make_command(executor, std::move(options)));
  }
  return list;
}

}  // namespace lm::runtime

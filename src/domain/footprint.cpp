#include "domain/footprint.h"

#include <fmt/format.h>

namespace lm {

std::string footprint_key(const Artifact& artifact, const LoadOptions& o, std::string_view engine) {
  const auto number = [](std::optional<int> n) { return n ? std::to_string(*n) : std::string("auto"); };
  std::string cut;
  for (const LayerShare& share : o.shares) {
    if (o.shares.size() > 1) cut += fmt::format("+{}:{}", share.device.str(), share.layers);
  }
  if (!cut.empty()) cut = fmt::format("|split={}{}", to_string(o.split), cut);
  return fmt::format(
      "{}|projector={}|context={}|parallel={}|kv={}|layers={}|batch={}|device={}|mmap={}|engine={}{}",
      artifact.fingerprint, artifact.projector.filename().string(), number(o.context), number(o.parallel),
      o.kv_type.empty() ? "auto" : o.kv_type, number(o.gpu_layers), number(o.batch), o.device, o.mmap, engine,
      cut);
}

std::string experience_key(const Artifact& artifact, const LoadOptions& options, std::string_view engine) {
  LoadOptions anywhere = options;
  anywhere.shares.clear();
  anywhere.device = "any";
  return fmt::format("{}|split={}|layers=", footprint_key(artifact, anywhere, engine),
                     to_string(options.split));
}

Experience experience_of(const std::vector<LayerShare>& shares, const DeviceBytes& bytes) {
  Experience found{.layers = {}, .bytes = {}, .host = bytes.on(host_device())};
  for (const LayerShare& share : shares) {
    found.layers.push_back(share.layers);
    found.bytes.push_back(bytes.on(share.device));
  }
  return found;
}

}  // namespace lm

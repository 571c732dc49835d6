// A server of models that is no worker of ours: Ollama, an OpenAI-compatible server, or one that we start by
// a command. It decides itself which of its models is in memory; what concerns us is whether it holds our
// devices.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "domain/ids.h"
#include "domain/model.h"

namespace lm {

struct Upstream {
  UpstreamId id;
  Family family = Family::kOpenai;
  bool shares_devices =
      false;        // its models live on this machine's devices; else it is remote and waits for nothing
  std::string url;  // for people
  bool operator==(const Upstream&) const = default;
};

// A model that an upstream says it has in memory. Its word only: the measurement is UpstreamSeen::held.
struct Resident {
  std::string name;
  ModelKind kind = ModelKind::kGeneration;
  Bytes bytes;        // 0: it does not say
  Bytes accelerated;  // the part of them that is not the host's
  bool operator==(const Resident&) const = default;
};

}  // namespace lm

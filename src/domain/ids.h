// The names of things that cross rooms.
#pragma once

#include "base/strong_id.h"

namespace lm {

using ModelId = StrongName<struct ModelTag>;    // canonical name of a model ("tinyllama", "ollama_qwen:7b")
using DeviceId = StrongName<struct DeviceTag>;  // "host", "cuda0", "vulkan1"
using UpstreamId =
    StrongName<struct UpstreamTag>;  // a server that is not a worker of ours: "ollama", "openai", "vllm-a"

using InstanceId = StrongId<struct InstanceTag>;  // one life of a model in memory; never used twice
using RequestId = StrongId<struct RequestTag>;    // one client request; also names its lease
using JobId = StrongId<struct JobTag>;  // one explicit wish of an administrator (load, unload, switch)

// One attempt to load within an instance's life. Every event about a worker carries it, so that an answer of
// an earlier attempt is recognised and dropped.
using Generation = StrongId<struct GenerationTag>;

}  // namespace lm

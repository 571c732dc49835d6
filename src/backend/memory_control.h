// What some OpenAI-compatible servers offer beside OpenAI's API: to say what they have in memory, to load it
// and to give it up. One file for each that we know; a server that has none of them is plain.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/caller.h"
#include "base/result.h"
#include "base/task.h"
#include "domain/upstream.h"
#include "wire/openai.h"

namespace lm::backend {

// Owned by its OpenAi, which stays alive while one of these runs. Errors are those of UpstreamServer.
class MemoryControl {
 public:
  virtual ~MemoryControl() = default;
  // What it says it has in memory; `listed` is what it has just answered to GET …/models.
  virtual Task<Result<std::vector<Resident>>> residents(std::vector<wire::ListedModel> listed,
                                                        TimePoint by) = 0;
  virtual Task<Result<void>> load(std::string model, TimePoint by) = 0;
  virtual Task<Result<void>> yield(TimePoint by) = 0;
};

using MemoryControlPtr = std::unique_ptr<MemoryControl>;

// Each looks whether the server is of its kind; null where it is not. An error is the server's silence, not
// its answer. `root` calls the server without the "/v1" of its API, `api` is that prefix.
Task<Result<MemoryControlPtr>> find_vllm(Caller root, std::vector<wire::ListedModel> listed, TimePoint by);
Task<Result<MemoryControlPtr>> find_llama_router(Caller root, std::string api,
                                                 std::vector<wire::ListedModel> listed, TimePoint by);
Task<Result<MemoryControlPtr>> find_lm_studio(Caller root, TimePoint by);

// What the server says, else by the name: the last resort, since a model that is named "embedding" and is
// none does not exist, and one that is called otherwise can be configured.
ModelKind kind_of(const wire::ListedModel& model);

}  // namespace lm::backend

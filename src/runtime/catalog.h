// Which model a name means. Built anew when the configuration or a model folder changes; never asks the disk
// or an upstream.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/model.h"
#include "domain/upstream.h"

namespace lm::runtime {

class Catalog {
 public:
  Catalog() = default;
  // An upstream whose models are not known, since it was never reached.
  struct Unseen {
    Upstream upstream;
    std::string why;
  };
  // `roles`: role name ("chat", "knowledge", "translation", "embedding", and "local_default") to the model id
  // it stands for; a role without a model is left out. `lost`: why a role has no model though it is to have
  // one; whoever asks for the role is told so.
  Catalog(std::vector<Model> models, std::map<std::string, ModelId> roles, std::vector<Unseen> unseen = {},
          std::map<std::string, Error> lost = {});

  const std::vector<Model>& models() const { return models_; }
  const Model* find(const ModelId& id) const;
  std::vector<std::string> roles_of(const ModelId& id) const;

  // A name in a request: a role, "local_default" (models.llm), "local/NAME", an id, an alias; then the
  // same without regard to case. Empty: the embedding role where `kind` is kEmbedding, else the chat role.
  // kNotFound "model_not_found" names the nearest; kUnavailable "upstream_unreachable" where the name is one
  // of an upstream that was never reached.
  Result<ModelId> resolve(std::string_view name, ModelKind kind = ModelKind::kGeneration) const;

 private:
  const ModelId* lookup(std::string_view name) const;
  const Unseen* unseen_behind(std::string_view name) const;

  std::vector<Model> models_;
  std::vector<Unseen> unseen_;
  std::map<std::string, ModelId> roles_;
  std::map<std::string, Error> lost_;
  std::map<std::string, ModelId, std::less<>> names_;   // ids and aliases
  std::map<std::string, ModelId, std::less<>> folded_;  // the same in lower case
  std::map<std::string, ModelId, std::less<>> local_;   // of local models only, in lower case
};

}  // namespace lm::runtime

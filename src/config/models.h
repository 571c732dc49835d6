// The local models of a configuration as domain values, with those of the model folders beside them. Pure.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/config.h"
#include "domain/model.h"

namespace lm::config {

// The configured models by name, then the found ones that none of them names. A configured model whose
// model_path is the name of a found one is that file; a found file that a configured model names by its path
// is an alias of it. Roles and "local_default" are aliases of whichever model has them: models.llm and
// models.embedding, and where those are not configured the first found model of that kind. No id or alias
// stands twice. Whether a path is there is not looked at: only an entry without any path has a problem.
// `kind_in`: what was found in a file, where somebody has looked into it; it counts where the configuration
// does not say the kind.
using KindIn = std::function<std::optional<ModelKind>(const std::filesystem::path&)>;
std::vector<Model> to_models(const Config& config, std::span<const Model> found = {},
                             const KindIn& kind_in = {});

// Whether the configuration says of which kind models.NAME is. Of all other models their names and files
// tell.
bool says_kind(const std::string& name, const ModelEntry& entry);

// The kind of a model, by its name and its file. A name that tells is believed where the file is silent:
// not all embedding models say that they are, nor all rerankers.
ModelKind kind_by(ModelKind name, ModelKind file);

}  // namespace lm::config

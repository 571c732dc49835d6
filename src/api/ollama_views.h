// What there is and what is in memory, as Ollama lists it. Pure: snapshots in, JSON out.
#pragma once

#include <chrono>
#include <string>

#include <boost/json/object.hpp>

#include "backend/workers.h"
#include "domain/snapshot.h"
#include "runtime/catalog.h"

namespace lm::api {

// The name by which Ollama's clients know a model: the upstream's own, where that means this one; else its
// id.
std::string ollama_name(const Model& model, const runtime::Catalog& catalog);
// "1.1B", "596.05M", "260K"
std::string human_number(std::int64_t number);

// An entry of /api/tags.
boost::json::object ollama_tag(const Model& model, const runtime::Catalog& catalog);
// /api/ps: {"models": […]}. `date` is the moment of the snapshot.
boost::json::object ollama_ps(const Snapshot& snapshot, const runtime::Catalog& catalog,
                              std::chrono::system_clock::time_point date);
// /api/show of a model of ours, by what its file says of itself.
boost::json::object ollama_show(const Model& model, const backend::Inspection& file);

}  // namespace lm::api

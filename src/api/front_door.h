// What stands at "/": the dashboard for people, a word for programs that look whether an Ollama is there.
#pragma once

#include <span>

#include "http/router.h"
#include "http/static_file.h"

namespace lm::api {

// `page`: the dashboard's files, of which "/" is the page itself; empty where the program was built without.
// They must outlive the router.
void add_front_door(http::Router& router, std::span<const http::StaticFile> page);

}  // namespace lm::api

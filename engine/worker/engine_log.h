// What the engine says, listened to: its warnings go to the log, its errors tell why a load failed, and some
// of its lines tell how far a load is, since it has no other way to say so.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "domain/instance.h"

namespace lm::worker {

// Takes over the engine's log. Once, before anything of the engine is used.
void open_engine_log();

// Called for each stage that the engine's lines show to have begun, on the thread that loads. Replaces the
// one before.
void watch_stages(std::function<void(LoadStage)> watcher);

// From the errors that the engine logged since the last call: out of memory (with device, needed and free
// where they are told), an unknown architecture, a file that cannot be opened, or else a file that is wrong.
// `otherwise` is said where nothing was logged.
Error why_it_failed(std::string_view otherwise);

// The same from one message, that of an abort.
Error classify(std::string_view message);

// From now on the engine's device of that name has this one with the manager.
void call_device(std::string_view engine_name, std::string_view name);

// "CUDA0" as the manager names it: "cuda0"; the processor's memory: "host".
std::string device_name(std::string_view engine_name);

}  // namespace lm::worker

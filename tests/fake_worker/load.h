// The load of a fake model: memory, time, and whatever its file says goes wrong.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "base/task.h"
#include "behaviour.h"
#include "held_memory.h"
#include "wire/messages.h"

namespace lm::fake {

// Sleeps; a fake's time is what it fakes.
Task<> pause(Duration time);
// Ends this process in the way the file asks for.
[[noreturn]] void crash(const Behaviour& behaviour);
// Never returns.
Task<> hang();
// Tells the stand-in driver of `folder` (FAKE_NVML.d) that this process holds so much of a card.
void hold_on_card(const std::filesystem::path& folder, const std::string& card, Bytes bytes);

wire::Inspected inspected(const wire::Inspect& order, const Behaviour& behaviour);
// What Failed says for a reason word.
Error failure(const std::string& reason);

using Say = std::function<void(const wire::FromWorker&)>;
// Stages with progress, memory taken during the weights. What it returns is not said yet: the socket comes
// first.
Task<wire::Ready> load(wire::Load order, Behaviour behaviour, HeldMemory& memory, Say say);

}  // namespace lm::fake

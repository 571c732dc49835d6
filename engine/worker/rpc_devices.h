// Devices behind RPC servers, made known to the engine under the manager's names.
#pragma once

#include <ggml-backend.h>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/messages.h"

namespace lm::worker {

// Registers the servers of these devices. Asks each first whether it serves, for at most some seconds: the
// engine aborts where one does not, and waits without end where one is busy with another client. Error:
// kUnavailable, reason device_lost, with the `device`.
Result<void> add_rpc_devices(const std::vector<wire::RpcDevice>& devices);

// One that was added; null where it was not.
ggml_backend_dev_t rpc_device(const DeviceId& id);

// What is behind these servers now. Those that do not serve are told as missing.
void list_rpc_devices(const std::vector<std::string>& servers, wire::DevicesListed& out);

// After an abort of the engine's: the first of the added ones whose server is not there any more. Blocks for
// a second at most.
std::optional<wire::RpcDevice> lost_rpc_device();

}  // namespace lm::worker

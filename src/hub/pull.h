// A pull from beginning to end, as the child process of the daemon runs it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "hub/source.h"
#include "hub/surroundings.h"
#include "wire/pull.h"

namespace lm::hub {

struct PullOrder {
  std::string source;            // as parse_source reads it, with an address's query
  std::filesystem::path folder;  // that models lie in
  std::string key;               // names what is unfinished of this source, in letters and digits
};

// Lists, checks that there is room, fetches into FOLDER/.pull/KEY, and moves what is whole and checked to its
// place: before that nothing of it is visible, and while it is being moved config/arriving.h names what is
// not to be looked at. SIGTERM is not heeded any more from then on; after kill -9 the next pull with that key
// moves the rest. What an earlier pull with the same key has left behind is gone on with; what is there
// already and as promised is not fetched. Blocks on the disk.
//
// Errors: those of list_source and download; kResourceExhausted "disk_full" with "needed" and "free";
// kAlreadyExists "locked": another process pulls the same.
Task<Result<std::vector<wire::PulledFile>>> pull(boost::asio::any_io_executor executor, PullOrder order,
                                                 const Surroundings& surroundings,
                                                 std::function<void(const wire::PullMessage&)> tell);

// Removes what is unfinished of that source, with what of it was moved to its place already; and what was put
// aside to be removed (runtime/removal.h).
Result<void> discard(const PullOrder& order);

// In the folder of what is unfinished: the source that it is of, without an address's query.
inline constexpr std::string_view kSourceFile = "source";

// The child's whole life: writes lines (wire/pull.h) on standard output and returns its exit code.
int pull_child(const PullOrder& order);
int discard_child(const PullOrder& order);

// FOLDER/.pull/KEY
std::filesystem::path unfinished_folder(const std::filesystem::path& folder, const std::string& key);

}  // namespace lm::hub

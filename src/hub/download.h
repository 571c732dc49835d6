// One file from the web to the disk: in parallel ranges, resumed where an earlier attempt ended, checked
// against what was promised.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "hub/fetcher.h"
#include "hub/listing.h"
#include "hub/surroundings.h"

namespace lm::hub {

struct DownloadSeams {
  boost::asio::any_io_executor executor;
  Fetcher& fetcher;
  const Tuning& tuning;
  // How many bytes of the file are there (or, while it is checked, are checked), now and then.
  std::function<void(std::string_view stage, Bytes done)> progress;
  std::function<void(std::string text)> note;
};

// Fetches `file` into `part`, with the map of its chunks in `part`.chunks. On return every byte is on the
// disk (fsync) and as promised. Blocks on the disk: for a process of its own.
//
// Nothing is fetched twice but for the chunk that each stream was at when the process was killed; a cut
// connection goes on in the middle of its chunk. A server without ranges is read in one go, from the
// beginning again where it is cut. A content that is not as promised is thrown away; where a part of it was
// from an earlier attempt it is fetched anew, once.
//
// Errors: the fetcher's; kUnavailable "wrong_hash", "changed_meanwhile"; kResourceExhausted "disk_full"; the
// disk's.
Task<Result<void>> download(RemoteFile file, std::filesystem::path part, DownloadSeams seams);

// What a resumed download must have in common with the one before. One line.
std::string identity_of(const RemoteFile& file);
// How much of it an earlier attempt has left behind.
Bytes already_there(const RemoteFile& file, const std::filesystem::path& part, Bytes chunk);

// Whether the file's content is as promised; true where nothing was. Calls `progress` now and then.
Task<Result<bool>> is_as_promised(std::filesystem::path path, Promise promise, DownloadSeams seams);

}  // namespace lm::hub

#include "os/lifeline.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <utility>

#include "os/system_error.h"

namespace lm::os {

namespace asio = boost::asio;

Result<Lifeline> Lifeline::hold(asio::any_io_executor executor, UniqueFd end, std::function<void()> on_cut) {
  // The daemon's own children must not hold it as well.
  if (::fcntl(end.get(), F_SETFD, FD_CLOEXEC) != 0)
    return fail(system_error(errno, "holding on to the lifeline"));
  // A file never ends, and the reactor takes it for one that is always ready.
  struct stat found{};
  const bool has_another_end =
      ::fstat(end.get(), &found) == 0 && (S_ISFIFO(found.st_mode) || S_ISSOCK(found.st_mode));
  asio::posix::stream_descriptor descriptor(executor);
  boost::system::error_code error;
  if (has_another_end) descriptor.assign(end.get(), error);
  if (!has_another_end || error) {
    return fail(ErrorCode::kInvalidArgument, "the lifeline is no descriptor that can be waited for",
                "bad_lifeline");
  }
  end.release();
  descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                        [on_cut = std::move(on_cut)](const boost::system::error_code& failed) {
                          if (failed != asio::error::operation_aborted) on_cut();
                        });
  return Lifeline(std::move(descriptor));
}

}  // namespace lm::os

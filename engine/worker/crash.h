// What a worker still says when the engine aborts or crashes under it.
#pragma once

#include <string>

namespace lm::worker {

// From now on SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT and SIGSYS write `line` to `fd`, then kill the process
// as they would have. Called again to replace the line; an empty one says nothing. The handlers run on a
// stack of their own.
void answer_crashes(int fd, std::string line);

// The line was sent by somebody who knew more: the crash to come is silent.
void silence_crashes();

// SIGTERM and SIGINT: the socket file goes, and the process ends at once; open streams end with it.
void end_on_signals(std::string socket_path);

}  // namespace lm::worker

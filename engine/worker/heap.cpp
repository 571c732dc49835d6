#include "heap.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <malloc.h>
#include <mutex>
#include <thread>

namespace lm::worker {
namespace {

// The body itself is freed behind its answer, and others like it come in bursts.
constexpr std::chrono::seconds kQuiet{1};

class Keeper {
 public:
  // Its thread lives as long as the process.
  Keeper() {
    std::thread([this] { keep(); }).detach();
  }

  void note() {
    {
      const std::scoped_lock lock(mutex_);
      ++answered_;
    }
    came_.notify_one();
  }

 private:
  [[noreturn]] void keep() {
    std::unique_lock lock(mutex_);
    std::uint64_t seen = 0;
    while (true) {
      const auto more = [&] { return answered_ != seen; };
      came_.wait(lock, more);
      do {
        seen = answered_;
      } while (came_.wait_for(lock, kQuiet, more));
      lock.unlock();
      ::malloc_trim(0);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable came_;
  std::uint64_t answered_ = 0;
};

}  // namespace

void large_body_answered() {
  static auto* keeper = new Keeper;  // never destroyed: its thread has no end
  keeper->note();
}

}  // namespace lm::worker

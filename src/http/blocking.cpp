#include "http/blocking.h"

#include <exception>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

namespace lm::http {

void run_blocking_void(std::function<Task<void>(boost::asio::any_io_executor)> make_task) {
  boost::asio::io_context context(1);
  std::exception_ptr thrown;
  boost::asio::co_spawn(context, make_task(context.get_executor()), [&](std::exception_ptr error) {
    thrown = error;
    context.stop();
  });
  context.run();
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace lm::http

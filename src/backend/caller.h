// Small questions to an upstream's own interface, each with its whole answer and a deadline. What people's
// requests ask goes another way (http::relay).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "http/client.h"

namespace lm::backend {

struct Answer {
  int status = 0;
  std::string body;

  bool good() const { return status >= 200 && status < 300; }
  // There is no such thing to ask for.
  bool unknown() const { return status == 404 || status == 405 || status == 501; }
};

// A value; copies share the connections. One thread.
class Caller {
 public:
  // `key` is sent as a bearer token and taken out of everything that ends in an error. Empty: none.
  Caller(boost::asio::any_io_executor executor, std::shared_ptr<http::Client> client, std::string key);

  // `target` begins with a slash, behind the client's base path. Ends within `by` and an eighth of what was
  // left then. An answer of more than 16 MiB is kResourceExhausted "answer_too_large"; every status is an
  // answer. Errors: http::Client's.
  Task<Result<Answer>> get(std::string target, TimePoint by) const;
  // `interruption` may be null.
  Task<Result<Answer>> post(std::string target, std::string json, TimePoint by,
                            std::shared_ptr<http::Interruption> interruption = nullptr) const;

  // kUnavailable "bad_upstream": it answered that, and should not have. With the upstream's own words.
  Error unexpected(std::string_view method, std::string_view target, const Answer& answer) const;

  // Waits for `pause`, at most until `by`. False once `by` has come.
  Task<bool> pause(Duration pause, TimePoint by) const;

  const std::shared_ptr<http::Client>& client() const { return client_; }
  http::Headers headers() const;
  // "http://127.0.0.1:8000": for people.
  std::string where() const { return client_->endpoint().text(); }

 private:
  Task<Result<Answer>> ask(http::ClientRequest request, TimePoint by) const;

  boost::asio::any_io_executor executor_;
  std::shared_ptr<http::Client> client_;
  std::string key_;
};

TimePoint now();

// kDeadlineExceeded "still_resident": what `where` still shows after it was asked to give all up.
Error still_resident(std::string_view where, const std::vector<std::string>& models);
// kFailedPrecondition "cannot_yield".
Error cannot_yield(std::string_view where, std::string_view why);

}  // namespace lm::backend

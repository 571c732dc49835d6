// An answer told to its client in another API's words: the form that the routes of one API give to the
// answers of another. Pure: bytes in, bytes out.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::api {

// Owned by the exchange that it tells for. In this order: begin() once, piece() for all that comes, last()
// once. After an error nothing more is asked of it.
class Retelling {
 public:
  virtual ~Retelling() = default;

  // What the client is told that the answer is: "application/x-ndjson".
  virtual std::string_view content_type() const = 0;
  // Pieces are told as they come; else all of it is told by last().
  virtual bool streams() const = 0;

  // `content_type`: of the answer that is retold.
  virtual void begin(std::string_view content_type) = 0;
  // The next bytes of the answer, cut anywhere. Returns what of it can be told, whole lines. The error is the
  // answer's own, where it says that it broke off, or "bad_upstream".
  virtual Result<std::string> piece(std::string_view bytes) = 0;
  // The answer has come to its end.
  virtual Result<std::string> last() = 0;
  // Something that says nothing, for whoever takes silence for death; empty where there is no such thing.
  virtual std::string sign_of_life() const { return {}; }
};

}  // namespace lm::api

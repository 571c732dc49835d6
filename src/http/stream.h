// A byte stream to an upstream: a plain socket, or TLS over one. Inside of the room.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "http/socket.h"

namespace lm::http {

// Owned by the connection that uses it; destroying it closes. Errors as Socket's.
class Stream {
 public:
  virtual ~Stream() = default;
  // Bytes as soon as there are some; 0 is the peer's orderly end.
  virtual Task<Result<std::size_t>> read(std::span<char> into, Deadline deadline) = 0;
  virtual Task<Result<void>> write(Pieces pieces, Duration silence) = 0;
  virtual Socket& socket() = 0;
};

std::unique_ptr<Stream> make_plain_stream(std::shared_ptr<Socket> socket);

// The roots that a server's certificate is checked against. Shared by a process's clients; made on first use,
// since loading the system's roots takes milliseconds and megabytes.
class TlsContext {
 public:
  // `ca_file`: PEM roots beside the system's; empty for none.
  static Result<std::shared_ptr<TlsContext>> make(const std::string& ca_file);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // Shakes hands as a client of `host`, whose certificate must be valid and in that name. TLS 1.2 or later.
  // kUnavailable "tls_failed" where it is not.
  Task<Result<std::unique_ptr<Stream>>> connect(std::shared_ptr<Socket> socket, std::string host,
                                                Deadline deadline);

 private:
  struct Impl;
  explicit TlsContext(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lm::http

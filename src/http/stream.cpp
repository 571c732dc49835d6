#include "http/stream.h"

#include <utility>

#include <boost/asio/ip/address.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace lm::http {
namespace {

class PlainStream final : public Stream {
 public:
  explicit PlainStream(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}
  ~PlainStream() override { socket_->close(); }
  Task<Result<std::size_t>> read(std::span<char> into, Deadline deadline) override {
    return socket_->read(into, deadline);
  }
  Task<Result<void>> write(Pieces pieces, Duration silence) override {
    return socket_->write(pieces, silence);
  }
  Socket& socket() override { return *socket_; }

 private:
  std::shared_ptr<Socket> socket_;
};

template <auto kFree>
struct Free {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using SslContextPointer = std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>>;
using SslPointer = std::unique_ptr<SSL, Free<SSL_free>>;

std::unexpected<Error> tls_failed(std::string what) {
  if (const unsigned long code = ERR_get_error(); code != 0) {
    char text[160];
    ERR_error_string_n(code, text, sizeof text);
    what += std::string(" (") + text + ")";
  }
  ERR_clear_error();
  return fail(ErrorCode::kUnavailable, std::move(what), "tls_failed");
}

// OpenSSL's own socket BIO writes with write(), which raises SIGPIPE; ours goes through Socket.
int bio_read(BIO* bio, char* into, int size) {
  auto* socket = static_cast<Socket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const auto got = socket->try_read({into, static_cast<std::size_t>(size)});
  if (!got) return -1;
  if (*got) return static_cast<int>(**got);
  BIO_set_retry_read(bio);
  return -1;
}

int bio_write(BIO* bio, const char* from, int size) {
  auto* socket = static_cast<Socket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const auto sent = socket->try_write({std::string_view(from, static_cast<std::size_t>(size))});
  if (!sent) return -1;
  if (*sent) return static_cast<int>(**sent);
  BIO_set_retry_write(bio);
  return -1;
}

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int bio_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

BIO_METHOD* bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lm::http::Socket");
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, bio_create);
    return made;
  }();
  return method;
}

class TlsStream final : public Stream {
 public:
  TlsStream(std::shared_ptr<Socket> socket, SslPointer ssl)
      : socket_(std::move(socket)), ssl_(std::move(ssl)) {}
  ~TlsStream() override {
    if (SSL_is_init_finished(ssl_.get())) SSL_shutdown(ssl_.get());  // one try to say goodbye, never waiting
    ERR_clear_error();
    ssl_.reset();
    socket_->close();
  }

  Task<Result<void>> handshake(Deadline deadline) {
    for (;;) {
      ERR_clear_error();
      const int done = SSL_connect(ssl_.get());
      if (done == 1) co_return Result<void>{};
      const int why = SSL_get_error(ssl_.get(), done);
      if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        LM_CO_TRY_VOID(co_await wait(why, deadline));
        continue;
      }
      const long verdict = SSL_get_verify_result(ssl_.get());
      if (verdict != X509_V_OK) {
        co_return tls_failed(std::string("the server's certificate is not trusted: ") +
                             X509_verify_cert_error_string(verdict));
      }
      co_return tls_failed("the TLS handshake failed");
    }
  }

  Task<Result<std::size_t>> read(std::span<char> into, Deadline deadline) override {
    co_await socket_->be_fair();
    for (;;) {
      ERR_clear_error();
      std::size_t got = 0;
      const int done = SSL_read_ex(ssl_.get(), into.data(), into.size(), &got);
      if (done == 1) co_return got;
      const int why = SSL_get_error(ssl_.get(), done);
      if (why == SSL_ERROR_ZERO_RETURN) co_return std::size_t{0};
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) co_return lost();
      LM_CO_TRY_VOID(co_await wait(why, deadline));
    }
  }

  Task<Result<void>> write(Pieces pieces, Duration silence) override {
    // One record for a head and its body.
    std::string all;
    for (const std::string_view piece : pieces) all += piece;
    std::string_view rest = all;
    co_await socket_->be_fair();
    while (!rest.empty()) {
      ERR_clear_error();
      std::size_t sent = 0;
      const int done = SSL_write_ex(ssl_.get(), rest.data(), rest.size(), &sent);
      if (done == 1) {
        rest.remove_prefix(sent);
        continue;
      }
      const int why = SSL_get_error(ssl_.get(), done);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) co_return lost();
      LM_CO_TRY_VOID(co_await wait(why, deadline_in(silence)));
    }
    co_return Result<void>{};
  }

  Socket& socket() override { return *socket_; }

 private:
  Task<Result<void>> wait(int why, Deadline deadline) {
    return why == SSL_ERROR_WANT_READ ? socket_->readable(deadline) : socket_->writable(deadline);
  }
  static std::unexpected<Error> lost() {
    ERR_clear_error();
    return fail(ErrorCode::kUnavailable, "the TLS connection was cut", "connection_lost");
  }

  std::shared_ptr<Socket> socket_;
  SslPointer ssl_;
};

}  // namespace

std::unique_ptr<Stream> make_plain_stream(std::shared_ptr<Socket> socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

struct TlsContext::Impl {
  SslContextPointer context;
};

TlsContext::TlsContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsContext::~TlsContext() = default;

Result<std::shared_ptr<TlsContext>> TlsContext::make(const std::string& ca_file) {
  SslContextPointer context(SSL_CTX_new(TLS_client_method()));
  if (!context) return tls_failed("OpenSSL does not start");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_default_verify_paths(context.get());
  if (!ca_file.empty() && SSL_CTX_load_verify_locations(context.get(), ca_file.c_str(), nullptr) != 1) {
    return tls_failed("the certificate file " + ca_file + " cannot be read");
  }
  auto impl = std::make_unique<Impl>();
  impl->context = std::move(context);
  return std::shared_ptr<TlsContext>(new TlsContext(std::move(impl)));
}

Task<Result<std::unique_ptr<Stream>>> TlsContext::connect(std::shared_ptr<Socket> socket, std::string host,
                                                          Deadline deadline) {
  SslPointer ssl(SSL_new(impl_->context.get()));
  BIO* bio = ssl ? BIO_new(bio_method()) : nullptr;
  if (bio == nullptr) co_return tls_failed("OpenSSL has no memory");
  BIO_set_data(bio, socket.get());
  SSL_set_bio(ssl.get(), bio, bio);  // takes the BIO
  boost::system::error_code not_an_address;
  boost::asio::ip::make_address(host, not_an_address);
  if (not_an_address) {
    SSL_set_tlsext_host_name(ssl.get(), host.c_str());
    SSL_set1_host(ssl.get(), host.c_str());
  } else {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host.c_str());
  }
  auto stream = std::make_unique<TlsStream>(std::move(socket), std::move(ssl));
  LM_CO_TRY_VOID(co_await stream->handshake(deadline));
  co_return std::unique_ptr<Stream>(std::move(stream));
}

}  // namespace lm::http

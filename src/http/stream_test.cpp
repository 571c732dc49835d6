// TLS against a server with a certificate made on the spot: taken when it is right, refused when it is not.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "http/blocking.h"
#include "http/client.h"
#include "http/test_peers.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;
using testing::RawListener;
using testing::RawSocket;

// A self-signed certificate for one name or address.
struct Identity {
  explicit Identity(const std::string& alternative_name, long valid_from = 0, long valid_to = 3600)
      : key(EVP_EC_gen("P-256")), certificate(X509_new()) {
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), valid_from);
    X509_gmtime_adj(X509_getm_notAfter(certificate), valid_to);
    X509_set_pubkey(certificate, key);
    X509_NAME* name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1,
                               -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_EXTENSION* extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, alternative_name.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    X509_sign(certificate, key, EVP_sha256());
  }
  ~Identity() {
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;

  void save(const std::string& path) const {
    std::FILE* file = std::fopen(path.c_str(), "w");
    ASSERT_NE(file, nullptr);
    PEM_write_X509(file, certificate);
    std::fclose(file);
  }

  EVP_PKEY* key;
  X509* certificate;
};

// Answers one connection, or gives up when the handshake fails. `polite`: says goodbye as TLS asks.
struct TlsServer {
  TlsServer(const Identity& identity, std::string answer, bool polite = true, int max_version = 0) {
    thread = std::thread([this, &identity, answer = std::move(answer), polite, max_version] {
      SSL_CTX* context = SSL_CTX_new(TLS_server_method());
      if (max_version != 0) {
        SSL_CTX_set_security_level(context, 0);
        SSL_CTX_set_max_proto_version(context, max_version);
      }
      SSL_CTX_use_certificate(context, identity.certificate);
      SSL_CTX_use_PrivateKey(context, identity.key);
      RawSocket socket = listener.accept();
      SSL* ssl = SSL_new(context);
      SSL_set_fd(ssl, socket.descriptor());
      if (SSL_accept(ssl) == 1) {
        if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) asked_name = name;
        char buffer[4096];
        const int n = SSL_read(ssl, buffer, sizeof buffer);
        if (n > 0) request.assign(buffer, static_cast<std::size_t>(n));
        SSL_write(ssl, answer.data(), static_cast<int>(answer.size()));
        if (polite) SSL_shutdown(ssl);
      }
      SSL_free(ssl);
      SSL_CTX_free(context);
    });
  }
  ~TlsServer() { thread.join(); }

  RawListener listener;
  std::string request;
  std::string asked_name;
  std::thread thread;
};

struct Outcome {
  std::string body;
  std::optional<Error> error;
};

Task<Outcome> get(asio::any_io_executor executor, Endpoint endpoint, ClientOptions options) {
  Outcome outcome;
  Client client(executor, std::move(endpoint), std::move(options));
  auto response = co_await client.send({});
  if (!response) {
    outcome.error = response.error();
    co_return outcome;
  }
  auto body = co_await response->read_all(8u << 20);
  if (body)
    outcome.body = *body;
  else
    outcome.error = body.error();
  co_return outcome;
}

class Tls : public ::testing::Test {
 protected:
  Outcome ask(const std::string& host, std::uint16_t port, const Identity* trusted) {
    Endpoint endpoint;
    endpoint.kind = Endpoint::Kind::kHttps;
    endpoint.host = host;
    endpoint.port = port;
    ClientOptions options;
    if (trusted != nullptr) {
      trusted->save(roots);
      options.ca_file = roots;
    }
    Outcome outcome = run_blocking<Outcome>(
        [&](asio::any_io_executor executor) { return get(executor, endpoint, options); });
    std::filesystem::remove(roots);
    return outcome;
  }

  const std::string roots = "/tmp/lm_http_tls_test." + std::to_string(::getpid()) + ".pem";
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
};

TEST_F(Tls, RightCertificateIsTaken) {
  const Identity identity("DNS:localhost,IP:127.0.0.1");
  {
    TlsServer server(identity, answer);
    const Outcome got = ask("localhost", server.listener.port, &identity);
    EXPECT_FALSE(got.error) << got.error->message;
    EXPECT_EQ(got.body, "secret");
    server.thread.join();
    EXPECT_EQ(server.asked_name, "localhost");
    EXPECT_THAT(server.request, ::testing::StartsWith("GET / HTTP/1.1\r\nHost: localhost:"));
    server.thread = std::thread([] {});
  }
  TlsServer server(identity, answer);
  EXPECT_EQ(ask("127.0.0.1", server.listener.port, &identity).body, "secret");
}

TEST_F(Tls, LargeAnswersComeWhole) {
  const Identity identity("DNS:localhost");
  std::string body(3u << 20, 'x');
  TlsServer server(identity,
                   "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  EXPECT_TRUE(ask("localhost", server.listener.port, &identity).body == body);
}

TEST_F(Tls, UnknownRootIsRefused) {
  const Identity identity("DNS:localhost");
  TlsServer server(identity, answer);
  const Outcome got = ask("localhost", server.listener.port, nullptr);
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->code, ErrorCode::kUnavailable);
  EXPECT_EQ(got.error->reason, "tls_failed");
  EXPECT_THAT(got.error->message, ::testing::HasSubstr("not trusted"));
}

TEST_F(Tls, OtherNameIsRefused) {
  const Identity identity("DNS:somebody.example");
  TlsServer server(identity, answer);
  const Outcome got = ask("localhost", server.listener.port, &identity);
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->reason, "tls_failed");
  const Identity other_address("IP:127.0.0.2");
  TlsServer second(other_address, answer);
  const Outcome address = ask("127.0.0.1", second.listener.port, &other_address);
  ASSERT_TRUE(address.error);
  EXPECT_EQ(address.error->reason, "tls_failed");
}

TEST_F(Tls, ExpiredIsRefused) {
  const Identity identity("DNS:localhost", -7200, -3600);
  TlsServer server(identity, answer);
  const Outcome got = ask("localhost", server.listener.port, &identity);
  ASSERT_TRUE(got.error);
  EXPECT_THAT(got.error->message, ::testing::HasSubstr("expired"));
}

TEST_F(Tls, OldVersionsAreRefused) {
  const Identity identity("DNS:localhost");
  TlsServer server(identity, answer, true, TLS1_1_VERSION);
  const Outcome got = ask("localhost", server.listener.port, &identity);
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->reason, "tls_failed");
}

// Without TLS's own goodbye an attacker could cut an answer that ends with its connection.
TEST_F(Tls, TruncatedAnswerIsNoAnswer) {
  const Identity identity("DNS:localhost");
  {
    TlsServer polite(identity, "HTTP/1.1 200 OK\r\n\r\nwhole");
    EXPECT_EQ(ask("localhost", polite.listener.port, &identity).body, "whole");
  }
  TlsServer rude(identity, "HTTP/1.1 200 OK\r\n\r\nhalf", false);
  const Outcome got = ask("localhost", rude.listener.port, &identity);
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lm::http

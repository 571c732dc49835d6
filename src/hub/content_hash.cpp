#include "hub/content_hash.h"

#include <array>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/assert.h"

namespace lm::hub {

struct ContentHash::Impl {
  EVP_MD_CTX* context = nullptr;
};

std::string Promise::text() const {
  switch (kind) {
    case Kind::kNothing:
      break;
    case Kind::kSha256:
      return "sha256:" + hex;
    case Kind::kSha512:
      return "sha512:" + hex;
    case Kind::kGitSha1:
      return "git-sha1:" + hex;
  }
  return {};
}

ContentHash::ContentHash(Promise::Kind kind, Bytes size) : impl_(std::make_unique<Impl>()) {
  const EVP_MD* algorithm = nullptr;
  if (kind == Promise::Kind::kSha256) algorithm = EVP_sha256();
  if (kind == Promise::Kind::kSha512) algorithm = EVP_sha512();
  if (kind == Promise::Kind::kGitSha1) algorithm = EVP_sha1();
  if (algorithm == nullptr) return;
  impl_->context = EVP_MD_CTX_new();
  LM_ASSERT(impl_->context != nullptr && EVP_DigestInit_ex(impl_->context, algorithm, nullptr) == 1,
            "OpenSSL has the usual hashes");
  if (kind == Promise::Kind::kGitSha1) add(fmt::format("blob {}", size.count()) + '\0');
}

ContentHash::~ContentHash() {
  EVP_MD_CTX_free(impl_->context);
}

void ContentHash::add(std::string_view piece) {
  if (impl_->context != nullptr) EVP_DigestUpdate(impl_->context, piece.data(), piece.size());
}

std::string ContentHash::finish() {
  if (impl_->context == nullptr) return {};
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_DigestFinal_ex(impl_->context, digest.data(), &size);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest.at(i));
  return hex;
}

}  // namespace lm::hub

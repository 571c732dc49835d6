#include "wire/hub.h"

#include <gtest/gtest.h>

#include "wire/pull.h"

namespace lm::wire {
namespace {

TEST(HubRepository, ReadsFilesAndHashes) {
  const std::string sha(64, 'A');
  const auto found =
      decode_hub_repository(R"({"sha": "0123456789012345678901234567890123456789", "siblings": [
    {"rfilename": "a.gguf", "size": 1, "blobId": "1111111111111111111111111111111111111111",
     "lfs": {"sha256": ")" + sha +
                            R"(", "size": 77}},
    {"rfilename": "config.json", "size": 5, "blobId": "2222222222222222222222222222222222222222"},
    {"rfilename": 7}, "nonsense", {"rfilename": "b", "size": -4, "blobId": "xyz"}]})");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->files.size(), 3U);
  EXPECT_EQ(found->files[0].sha256, std::string(64, 'a'));
  EXPECT_EQ(found->files[0].size, Bytes(77));
  EXPECT_EQ(found->files[0].git_sha1, "");
  EXPECT_EQ(found->files[1].git_sha1, "2222222222222222222222222222222222222222");
  EXPECT_EQ(found->files[2].size, Bytes());
  EXPECT_EQ(found->files[2].git_sha1, "");
}

TEST(HubRepository, RefusesSomethingElse) {
  for (const std::string& bad : {std::string("[]"), std::string("{}"), std::string("<html>"), std::string(),
                                 std::string(R"({"siblings": 3})"), std::string(100, '[')})
    EXPECT_EQ(decode_hub_repository(bad).error().reason, "bad_upstream") << bad;
}

TEST(OllamaManifest, ReadsLayers) {
  const std::string digest = "sha256:" + std::string(64, 'b');
  const auto layers = decode_ollama_manifest(R"({"layers": [
    {"mediaType": "application/vnd.ollama.image.model", "digest": ")" +
                                             digest + R"(", "size": 9},
    {"mediaType": "x", "digest": "sha256:../../etc", "size": 9}, {"digest": 4}]})");
  ASSERT_TRUE(layers);
  ASSERT_EQ(layers->size(), 1U);
  EXPECT_EQ(layers->front().sha256, std::string(64, 'b'));
  EXPECT_EQ(layers->front().size, Bytes(9));
  EXPECT_FALSE(decode_ollama_manifest("{}"));
}

TEST(NpmVersion, ReadsIntegrityAsHex) {
  // Of 64 zero bytes.
  const auto tarball = decode_npm_version(R"({"dist": {"tarball": "http://r/x.tgz", "integrity": "sha512-)" +
                                          std::string(86, 'A') + R"(=="}})");
  ASSERT_TRUE(tarball);
  EXPECT_EQ(tarball->url, "http://r/x.tgz");
  EXPECT_EQ(tarball->sha512, std::string(128, '0'));
  EXPECT_EQ(decode_npm_version(R"({"dist": {"tarball": "x", "integrity": "sha1-AAAA"}})")->sha512, "");
  EXPECT_FALSE(decode_npm_version(R"({"dist": {}})"));
}

template <class T>
T round_trip(const T& message) {
  const auto read = decode_pull(encode(PullMessage(message)));
  EXPECT_TRUE(read && std::holds_alternative<T>(*read));
  return std::get<T>(*read);
}

TEST(PullMessages, SurviveTheirLine) {
  EXPECT_EQ(round_trip(PullListed{.files = {"a", "b\n\xff"}, .total = Bytes(7)}).files.size(), 2U);
  const auto progress = round_trip(PullProgressed{.stage = "verifying", .done = Bytes(3), .total = Bytes(5)});
  EXPECT_EQ(progress.stage, "verifying");
  EXPECT_EQ(progress.done, Bytes(3));
  const std::vector<PulledFile> files = {{.path = "/x", .size = Bytes(4), .hash = "sha256:1"}};
  EXPECT_EQ(round_trip(PullSucceeded{files}).files, files);
  Error error{.code = ErrorCode::kResourceExhausted,
              .message = "full",
              .reason = "disk_full",
              .fields = {{"needed", std::int64_t{5}}, {"what", std::string("x")}},
              .retry_after = {}};
  EXPECT_EQ(round_trip(PullFailed{error}).error, error);
  EXPECT_EQ(encode(PullNoted{"a\nb"}).find('\n'), std::string::npos);
  for (const std::string_view bad : {"", "x", "[]", "{}", R"({"kind": "later"})"})
    EXPECT_FALSE(decode_pull(bad)) << bad;
}

}  // namespace
}  // namespace lm::wire

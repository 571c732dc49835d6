#include "hub/chunk_map.h"

#include <fstream>

#include <gtest/gtest.h>

#include "hub/content_hash.h"
#include "os/testing/run.h"

namespace lm::hub {
namespace {

class ChunkMapTest : public ::testing::Test {
 protected:
  ChunkMap open(std::string_view identity = "sha256:a", std::int64_t size = 250, std::int64_t chunk = 100) {
    auto map = ChunkMap::open(folder_.path() / "map", identity, Bytes(size), Bytes(chunk));
    EXPECT_TRUE(map);
    return *std::move(map);
  }
  os::testing::TemporaryFolder folder_;
};

TEST_F(ChunkMapTest, RemembersWhatCame) {
  {
    ChunkMap map = open();
    EXPECT_EQ(map.count(), 3U);
    EXPECT_FALSE(map.resumed());
    EXPECT_EQ(map.length(2), Bytes(50));
    ASSERT_TRUE(map.mark(0));
    ASSERT_TRUE(map.mark(2));
  }
  ChunkMap map = open();
  EXPECT_TRUE(map.resumed());
  EXPECT_TRUE(map.has(0) && !map.has(1) && map.has(2));
  EXPECT_EQ(map.present(), Bytes(150));
  ASSERT_TRUE(map.mark(1));
  EXPECT_TRUE(map.complete());
  ASSERT_TRUE(map.clear());
  EXPECT_EQ(open().present(), Bytes());
}

TEST_F(ChunkMapTest, BeginsAnewForAnotherContent) {
  const auto marked = [&](std::string_view identity, std::int64_t size, std::int64_t chunk) {
    ASSERT_TRUE(open().mark(1));
    EXPECT_FALSE(open(identity, size, chunk).resumed());
  };
  marked("sha256:b", 250, 100);
  marked("sha256:a", 251, 100);
  marked("sha256:a", 250, 50);
}

TEST_F(ChunkMapTest, BelievesNoDamagedMap) {
  ASSERT_TRUE(open().mark(1));
  std::ofstream(folder_.path() / "map", std::ios::app) << "1";
  EXPECT_FALSE(open().resumed());
}

TEST(ContentHash, KnowsTheUsualHashes) {
  const auto hash = [](Promise::Kind kind) {
    ContentHash hash(kind, Bytes(6));
    hash.add("hel");
    hash.add("lo\n");
    return hash.finish();
  };
  EXPECT_EQ(hash(Promise::Kind::kSha256), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
  // As `git hash-object` says.
  EXPECT_EQ(hash(Promise::Kind::kGitSha1), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(hash(Promise::Kind::kSha512).size(), 128U);
  EXPECT_EQ(hash(Promise::Kind::kNothing), "");
}

}  // namespace
}  // namespace lm::hub

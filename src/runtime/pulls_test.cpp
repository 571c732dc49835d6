#include "runtime/pulls.h"

#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

TEST(Pulls, AnAddressIsShownWithoutWhatMayBeAKey) {
  EXPECT_EQ(shown_source("https://host/a/model.gguf?X-Amz-Signature=SECRET"), "https://host/a/model.gguf?…");
  EXPECT_EQ(shown_source("https://host/model.gguf#SECRET"), "https://host/model.gguf?…");
  EXPECT_EQ(shown_source("https://host/model.gguf"), "https://host/model.gguf");
  EXPECT_EQ(shown_source("hf:OWNER/REPO:Q4_K_M@main"), "hf:OWNER/REPO:Q4_K_M@main");
}

}  // namespace
}  // namespace lm::runtime

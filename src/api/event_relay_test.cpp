#include "api/event_relay.h"

#include <gtest/gtest.h>

namespace lm::api {
namespace {

bool ends(std::string_view stream, std::size_t piece) {
  LastEvent last;
  for (std::size_t at = 0; at < stream.size(); at += piece) last.look(stream.substr(at, piece));
  return last.seen();
}

TEST(LastEvent, IsSeenHoweverTheStreamIsCut) {
  for (const std::string_view stream :
       {"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"length\"}]}\n\n",
        "data: {\"choices\":[{\"finish_reason\":null}]}\n\ndata: [DONE]\n\n", "data: [DONE]\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{}}\n\n",
        "data: {\"type\":\"response.incomplete\"}\n\n", "data: {\"error\":{\"message\":\"no\"}}\n\n"}) {
    for (std::size_t piece = 1; piece <= stream.size(); ++piece)
      EXPECT_TRUE(ends(stream, piece)) << stream << " in pieces of " << piece;
  }
}

TEST(LastEvent, IsNoOtherEvent) {
  for (const std::string_view stream :
       {"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n",
        // The Responses API's first event, and what a model writes of such streams.
        "data: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n",
        "data: {\"content\":\"it ends with \\ndata: [DONE] or \\\"finish_reason\\\":\\\"stop\\\"\"}\n\n"}) {
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, stream.size()})
      EXPECT_FALSE(ends(stream, piece)) << stream << " in pieces of " << piece;
  }
}

}  // namespace
}  // namespace lm::api

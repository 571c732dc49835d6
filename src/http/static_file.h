// Files that are a part of the program: served as they lie in it, packed and never copied.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/task.h"
#include "http/exchange.h"
#include "http/router.h"

namespace lm::http {

// A view of bytes that live as long as the program.
struct StaticFile {
  std::string_view path;          // what is asked for: "/assets/app-1a2b3c.js"
  std::string_view content_type;  // "text/html; charset=utf-8"
  std::string_view hash;          // of its content; whoever has it is not sent it again
  bool is_forever = false;        // another content would have another path: nobody need ask again
  std::span<const char> packed;   // by gzip
};

// Whether whoever asks takes an answer packed by gzip.
bool takes_gzip(const Headers& headers);
// kInternal "not_gzip" where it is none, or comes to more than `limit` bytes.
Result<std::string> unpack_gzip(std::span<const char> packed, std::size_t limit);

// Answers with the file: packed to who takes that, without a body (304) to who has it, unpacked to all
// others. A page may load what comes from here and nothing else, and no other page may put it into a frame.
Task<void> answer_file(Exchange& exchange, StaticFile file);

// GET of each, open to everybody who may connect: there is nothing in them that is secret.
void add_files(Router& router, std::span<const StaticFile> files);

}  // namespace lm::http

// How a fake model behaves: what its file says. The file is called NAME.gguf and has lines of key=value, `#`
// begins a comment; an unknown key or a value that is none is an invalid artifact, so that tests notice.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "domain/model.h"

namespace lm::fake {

// Where something goes wrong. Of a request: before its first token, or after `after_tokens`.
enum class Moment : std::uint8_t { kNever, kInspection, kLoading, kPrefill, kDecode, kStop };

struct Behaviour {
  // What it is.
  ModelKind kind = ModelKind::kGeneration;
  int context = 4096;
  std::string architecture = "fake";

  // What it takes. Memory is allocated and touched, in steps, while the weights "load".
  Bytes memory = mib(8);
  std::optional<Bytes> predict;       // what an inspection says; `memory` where it is not given
  std::optional<Bytes> claim;         // what Ready says; `memory` where it is not given
  Bytes card_memory;                  // of a card, where the order names one ("cuda0"): nothing real is taken
  std::optional<Bytes> card_predict;  // what an inspection says of the card; `card_memory` by default
  std::string card_folder;            // FAKE_NVML.d of the stand-in driver, which is told so
  int slots = 4;                      // an order that names a number of slots wins

  // How fast.
  Duration stage_time{};       // of each stage of the load
  Duration inspect_time{};     // of an inspection
  Duration first_byte_time{};  // of a request, before its first token ("prefill")
  Duration token_time{};       // between two tokens
  int tokens = 8;              // of an answer; the request's max_tokens makes it shorter
  std::string say;             // the answer's words, again and again; empty: "w0 w1 w2 …"
  bool echo = false;           // say what the last user message said

  // What goes wrong.
  std::string fail;             // the load is answered with Failed and this reason
  std::string fail_inspection;  // the same for an inspection
  Moment crash_at = Moment::kNever;
  int after_tokens = 1;           // for a crash or hang in the decode
  std::string crash_by = "kill";  // kill, abort, exit
  Moment hang_at = Moment::kNever;
  bool silent = false;            // says nothing at all from the order on
  bool garbage = false;           // answers the order with something that is no JSON
  bool endless_line = false;      // and this with a line that has no end
  bool unknown_kind = false;      // sends a message of an unknown kind first, then behaves
  bool wrong_generation = false;  // says that somebody else's load is ready, then hangs
  bool ready_twice = false;
  bool ready_before_socket = false;  // lies: nothing listens on the socket
  bool ignore_sigterm = false;
  int times = 0;  // goes wrong so many times only, counted in NAME.gguf.seen beside the file; 0: each time

  // kInvalidArgument "invalid_artifact" (or "io_error") with the line that is wrong.
  static Result<Behaviour> read(const std::filesystem::path& file);
};

// The same for a load, which counts where something is to go wrong only once.
Result<Behaviour> read_for_load(const std::filesystem::path& file);

}  // namespace lm::fake

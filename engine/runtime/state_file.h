// A session's state on disk.
//
//   0  8  "TERNSTAT"      8  4  version 1      12  4  header bytes (JSON)      16  8  XXH3-64 of all that follows
//   24 .. header: {"model": digest, "config": ..., "batch", "tokens_seen", "segment_begin", "state_bytes", "extra"}, zeros up to a multiple of 64, then the state region.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/json.h"
#include "engine/base/status.h"

namespace tern {

struct SavedState {
  Json header;                     // an object
  int64_t tokens_seen = 0;
  std::span<const uint8_t> state;  // inside `data`
};

// kMalformed (kDigest if only the sum differs) for anything that is not a whole saved state. Whether it fits a session is the session's question.
Result<SavedState> ParseState(std::span<const uint8_t> data);

}  // namespace tern

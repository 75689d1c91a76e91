// `tern tokenize --jsonl`: one JSON request in, one JSON answer out, both on one line.
//
//   {"text": T} or {"bytes_hex": H}   -> ids, pieces, offsets (flat), type ids, decoded, decoded_raw (no clean-up),
//   decoded_special (special tokens kept)
//   {"op": "pair", "text_a", "text_b"}
//   {"op": "truncate", "text" | "text_a" and "text_b", "max_length", "strategy"}
//   {"op": "batch", "texts", "padding": "longest" | "max_length", "padding_side", "max_length", "truncation",
//   "pad_to_multiple_of"}
//   {"op": "windows", "question", "context", "max_length", "stride", "padding"}
//   {"op": "decode", "ids"}           -> decoded, decoded_raw (special tokens kept, no clean-up), pieces
//   {"op": "detokenize", "pieces"}    -> decoded
// A request that cannot be served is answered with {"error": message}.
#pragma once

#include <string>
#include <string_view>

#include "formats/tokenizer.h"

namespace tern {

// The answer without a line break, ASCII only (other characters as \u escapes). Thread-safe.
std::string AnswerTokenizerRequest(const Tokenizer& tokenizer, std::string_view line);

}  // namespace tern

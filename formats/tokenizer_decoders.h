// The decoders of tokenizer.json: tokens to text, one token after another. A chain of decoders is a chain of streams;
// what a token's text needs to know of later tokens (bytes of a character, the last token of all) is held back until it
// is known.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/json.h"
#include "engine/base/status.h"

namespace tern {

// One decoder at work on one sequence. Not thread-safe.
class DecoderStream {
 public:
  using Emit = std::function<void(std::string_view token)>;
  virtual ~DecoderStream() = default;
  virtual void Push(std::string_view token, const Emit& emit) = 0;
  virtual void Finish(const Emit& emit) = 0;
};

// Immutable.
class TextDecoder {
 public:
  virtual ~TextDecoder() = default;
  virtual std::unique_ptr<DecoderStream> NewStream() const = 0;
};

// Errors: kMalformed.
Result<std::unique_ptr<TextDecoder>> MakeTextDecoder(const Json& config);
// Without a decoder tokens are joined by spaces.
std::unique_ptr<TextDecoder> MakeSpaceJoiner();

}  // namespace tern

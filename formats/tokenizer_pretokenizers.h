// The pre-tokenizers of tokenizer.json: each cuts the parts of a text into smaller parts, and may rewrite them. Added
// tokens are left alone.
#pragma once

#include <memory>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/tokenizer_normalized.h"

namespace tern {

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Appends what `part` is cut into; empty parts need not be given.
  virtual Status Split(NormalizedText part, std::vector<NormalizedText>* out) const = 0;
  // True if "a b", with a and b solid on both sides of one space, is cut into what a and " b" are cut into on their
  // own, whatever the model does.
  virtual bool separable() const { return false; }
  // Runs over all parts.
  Status Run(std::vector<NormalizedText>* parts) const;
};

// Errors: kMalformed.
Result<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const Json& config);

}  // namespace tern

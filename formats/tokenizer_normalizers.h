// The normalizers of tokenizer.json: each rewrites a NormalizedText.
#pragma once

#include <memory>
#include <string_view>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/tokenizer_normalized.h"

namespace tern {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual Status Run(NormalizedText* text) const = 0;
  // True if "a b", with a and b solid on both sides of one space, becomes what a and " b" become on their own, one
  // behind the other.
  virtual bool separable() const { return true; }
};

// `config`: an object with "type". Errors: kMalformed (unknown type, wrong field, a table that does not check).
Result<std::unique_ptr<Normalizer>> MakeNormalizer(const Json& config);
// Precompiled, from a model's own table.
Result<std::unique_ptr<Normalizer>> MakePrecompiled(std::string_view charsmap);
std::unique_ptr<Normalizer> MakeNormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts);

// Standard base64 with padding. kMalformed.
Result<std::string> DecodeBase64(std::string_view text);

}  // namespace tern

// The post-processors of tokenizer.json: special tokens around a text or pair, type ids, offsets without white space.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/tokenizer.h"

namespace tern {

class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  // How many special tokens it adds.
  virtual int64_t added(bool pair) const = 0;
  // `parts`: the texts in order, later perhaps special tokens as parts of their own; joined in order they are the
  // result. Every part has ids, type_ids and sequence of one length, and where options ask for offsets, offsets and
  // pieces too (white space is looked for in the pieces).
  virtual void Run(const EncodeOptions& options, std::vector<Encoding>* parts) const = 0;
};

// Errors: kMalformed.
Result<std::unique_ptr<PostProcessor>> MakePostProcessor(const Json& config);

}  // namespace tern

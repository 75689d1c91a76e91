// Sentence vectors: texts through an encoder, pooled as its folder says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/encoder_session.h"

namespace tern {

// Used by one thread at a time.
class Embedder {
 public:
  // kUsage if the model is no bare encoder, kMalformed if it has no tokenizer.
  static Result<std::unique_ptr<Embedder>> Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel);
  int64_t width() const;
  // Appends one vector [width] per text, in order. A text longer than the model takes is cut. A vector does not depend on the other texts.
  Status Embed(const std::vector<std::string>& texts, std::vector<float>* vectors);

 private:
  std::unique_ptr<EncoderSession> session_;
  const Tokenizer* tokenizer_ = nullptr;
};

// Splits requests into batches of at most `rows` tokens (one request alone may have more): calls run(begin, end).
Status ForBatches(const std::vector<Encoding>& requests, int64_t rows, const std::function<Status(size_t begin, size_t end)>& run);
constexpr int64_t kBatchRows = 2048;  // enough rows for the products to reach their speed, and the arena stays small

EncoderInput InputOf(const Encoding& encoding);

}  // namespace tern

// Masked language models: what stands behind the mask.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/encoder_session.h"
#include "engine/runtime/named_run.h"

namespace tern {

struct Filling {
  int32_t id = -1;
  std::string piece;       // as the vocabulary has it
  std::string text;        // the whole text with this token in the mask's place
  double probability = 0;  // over the whole vocabulary
};

class MaskFiller {
 public:
  // kUsage if the model has no masked-LM head; kMalformed without a tokenizer or a mask token.
  static Result<std::unique_ptr<MaskFiller>> Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel);
  const std::string& mask() const { return mask_; }  // "[MASK]", "<mask>"
  // For every mask of the text, the `top` likeliest tokens, best first (lower id on ties). kUsage if there is no mask, or the text is too long.
  Result<std::vector<std::vector<Filling>>> Fill(const std::string& text, int64_t top);

 private:
  Result<const Operand*> RunEncoder(const Encoding& e, const std::vector<int64_t>& places);
  Result<const Operand*> RunWhole(const Encoding& e);
  int64_t longest() const;

  std::shared_ptr<const Model> model_;
  int threads_ = 0;
  const CancelToken* cancel_ = nullptr;
  std::unique_ptr<EncoderSession> session_;
  std::unique_ptr<NamedRun> whole_;  // a Performer's, which has no encoder session
  const Tokenizer* tokenizer_ = nullptr;
  std::string mask_;
};

}  // namespace tern

// Classification: of whole texts (or pairs), of their tokens, and the choice among several continuations.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/encoder_session.h"

namespace tern {

struct LabelScore {
  int64_t label = 0;
  double probability = 0;
};

struct TokenLabel {
  std::string text;  // of the original
  int64_t begin = 0, end = 0;  // bytes of the original
  LabelScore score;
};

class Classifier {
 public:
  // kUsage if the model has no sequence, token or multiple-choice head; kMalformed without a tokenizer.
  static Result<std::unique_ptr<Classifier>> Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel);
  bool per_token() const;
  bool chooses() const;  // a multiple-choice head: Choose alone
  std::string LabelName(int64_t label) const;  // from the config, else LABEL_n

  struct Request {
    std::string text, pair;
    bool has_pair = false;
  };
  // Sequence heads: for every request all labels, likeliest first. Texts longer than the model takes are cut.
  Result<std::vector<std::vector<LabelScore>>> Classify(const std::vector<Request>& requests);
  // Multiple-choice heads (Hugging Face ForMultipleChoice): every choice as the pair (text, choice), a softmax over all of them; likeliest first, labels count
  // the choices. kUsage without choices.
  Result<std::vector<LabelScore>> Choose(const std::string& text, const std::vector<std::string>& choices);
  // Token heads: the likeliest label of every token of one text.
  Result<std::vector<TokenLabel>> ClassifyTokens(const std::string& text);

 private:
  std::unique_ptr<EncoderSession> session_;
  const Tokenizer* tokenizer_ = nullptr;
};

// Byte offsets of the code points of `text`: out[i] is where code point i begins, out.back() is the length. Invalid bytes count one each, as U+FFFD.
std::vector<int64_t> CodePointOffsets(std::string_view text);

}  // namespace tern

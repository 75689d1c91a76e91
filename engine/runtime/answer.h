// Extractive question answering over a context of any length (the modern convention of Hugging Face's run_qa): windows that overlap by `stride` tokens, the best
// spans of all windows, and the no-answer score of SQuAD 2.0. Answers are exact substrings of the context.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/encoder_session.h"

namespace tern {

struct AnswerOptions {
  int64_t max_length = 384;        // of a window in tokens; at most what the model takes
  int64_t stride = 128;            // tokens that consecutive windows share
  int64_t max_answer_tokens = 30;
  int64_t n_best = 20;
  double null_threshold = 0;       // "no answer" if null score - best span's score > threshold
  bool may_be_empty = false;       // SQuAD 2.0: no answer is an answer
};

struct Answer {
  std::string text;                // empty: no answer
  int64_t begin = 0, end = 0;      // bytes of the context
  double score = 0;                // start logit + end logit
  double probability = 0;          // softmax over the n best
};

struct Answers {
  std::vector<Answer> best;        // best first; equal scores by the earlier window, then the earlier start, then the earlier end
  double null_score = 0;           // smallest over the windows of start[0] + end[0]
  double best_score = 0;           // of the best non-empty span; -infinity if there is none
};

class QuestionAnswerer {
 public:
  // kUsage if the model has no question head; kMalformed without a tokenizer.
  static Result<std::unique_ptr<QuestionAnswerer>> Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel);
  // kUsage if the question leaves no room for the context.
  Result<Answers> Ask(const std::string& question, const std::string& context, const AnswerOptions& options);

 private:
  std::unique_ptr<EncoderSession> session_;
  const Tokenizer* tokenizer_ = nullptr;
};

// The part that needs no model: candidates of windows -> answers. start and end: logits per token of each window. For tests with hand-made logits.
struct WindowLogits {
  std::vector<float> start, end;                       // per token of the window
  int64_t first_context_token = 0, last_context_token = -1;
  std::vector<std::pair<int64_t, int64_t>> offsets;    // per token: code points of the context
};
Answers ChooseAnswers(const std::vector<WindowLogits>& windows, const std::string& context, const AnswerOptions& options);

}  // namespace tern

// Text to text with an encoder-decoder: what `tern run` and `tern fill` share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/seq2seq.h"
#include "tools/model_options.h"

namespace tern {

struct BeamFlags {
  int64_t beams = 1, no_repeat_ngram = 0;
  double length_penalty = 1;
  std::string early_stopping = "false";
  void Declare(Arguments& args);
  bool given() const { return beams != 1 || no_repeat_ngram != 0 || length_penalty != 1 || early_stopping != "false"; }
  void Into(Seq2seqOptions* options) const;
  BeamOptions Options() const;
};

// What stands in place of a sentinel.
struct Blank {
  std::string sentinel, text;
};

class TextToText {
 public:
  // kUsage if the model is no encoder-decoder with a head. `options.sampler` counts with one beam only.
  static Result<std::unique_ptr<TextToText>> Create(const std::shared_ptr<const Model>& model, int threads, int64_t beams, const Seq2seqOptions& options, const CancelToken* cancel,
                                                    OpObserver* observer = nullptr);

  struct Answer {
    std::string text;          // with sentinels, without the start, end and padding symbols
    std::vector<int32_t> ids;  // generated ones
    int64_t source_tokens = 0;
    float score = 0;
    bool ended = false, cancelled = false;
    double seconds = 0;
  };
  // One source. `on_text` (may be empty; one beam) gets whole characters as they come and returns false to stop.
  Result<Answer> Run(const std::string& source, const std::function<bool(std::string_view)>& on_text);
  // The blanks of a source with sentinels, in its order; the text with all of them filled. kUsage if it has none.
  Result<std::vector<Blank>> Fill(const std::string& source, std::string* filled);

  const EncoderDecoderSession& session() const { return *session_; }

 private:
  // "<extra_id_7>": 7, else -1.
  int64_t SentinelOf(int32_t id) const;
  const Tokenizer* tokenizer_ = nullptr;
  Seq2seqOptions options_;
  std::unique_ptr<EncoderDecoderSession> session_;
};

// "12 of 96 experts touched, ..." for --stats; empty without experts.
std::string ExpertSummary(const Model& model);
Json ExpertJson(const Model& model);

}  // namespace tern

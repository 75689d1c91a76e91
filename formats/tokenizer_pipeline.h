// PipelineTokenizer: normalizer, added tokens, pre-tokenizer, model, post-processor and decoder, as the tokenizers
// library chains them. Every Hugging Face tokenizer is one: read from its tokenizer.json, or built from older files the
// way their classes are converted.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/tokenizer.h"
#include "formats/tokenizer_decoders.h"
#include "formats/tokenizer_normalizers.h"
#include "formats/tokenizer_postprocessors.h"
#include "formats/tokenizer_pretokenizers.h"
#include "formats/tokenizer_vocab_models.h"

namespace tern {

struct AddedToken {
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = true;
};

struct PipelineParts {
  std::unique_ptr<Normalizer> normalizer;  // may be null, as the next
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<VocabModel> model;
  std::unique_ptr<PostProcessor> post_processor;  // may be null
  std::unique_ptr<TextDecoder> decoder;           // null: tokens joined by spaces
  std::vector<AddedToken> added;                  // in order; those that the model does not know get the next ids
  bool clean_up = false;                          // English clean-up of decoded text, unless a call says otherwise
  bool needs_offsets = false;  // pre-tokenizing depends on where in the original a part began (Metaspace "first")

  // What the file says about every call.
  int64_t max_length = 0;
  Truncation truncation = Truncation::kLongestFirst;
  bool truncate_left = false;
  struct Padding {
    int64_t length = 0, multiple = 0;  // length 0: the longest
    int32_t id = 0, type_id = 0;
    bool left = false;
  };
  std::optional<Padding> padding;

  // Names of the special tokens; ids are looked up.
  std::string bos, eos, unk, pad, cls, sep, mask;
};

Result<std::unique_ptr<Tokenizer>> MakePipelineTokenizer(TokenizerFiles files, PipelineParts parts);

}  // namespace tern

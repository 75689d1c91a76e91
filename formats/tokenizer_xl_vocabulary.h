// XlVocabulary: the symbols of a Transformer-XL vocabulary, read from whatever holds them, without executing anything:
// vocab.pkl (a pickled dict, or the whole tokenizer as Hugging Face re-saves it), vocab.bin (the same by torch.save),
// cache.pt (the original code's pickled Corpus), vocab.txt / 1b_word_vocab.txt (the first word of each line).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"

namespace tern {

struct XlVocabulary {
  static constexpr size_t kMaxSymbols = 4 << 20;
  static constexpr size_t kMaxSymbolBytes = 1024;

  std::vector<std::string> symbols;  // index = id; UTF-8
  int32_t unk_id = -1;               // what an unknown word becomes; -1: nothing, it is an error
  bool lower_case = false;           // of a cache.pt
  std::string dataset;               // of a cache.pt: "wt103", "enwik8" ...

  // `bytes` must be a pickle or a torch.save file. Errors: kMalformed.
  static Result<XlVocabulary> FromPickle(std::span<const uint8_t> bytes);
  // One symbol a line; a line that repeats one is skipped. <UNK> or <unk> must be among them.
  static Result<XlVocabulary> FromText(std::string_view text);

  // Our own layout for a .tern file: u32 count, i32 unk, u32 flags, then each symbol behind its u32 length.
  std::string Serialize() const;
  static Result<XlVocabulary> Deserialize(std::string_view bytes);
};

}  // namespace tern

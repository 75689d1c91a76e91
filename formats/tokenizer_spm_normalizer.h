// SpmNormalizer: text as SentencePiece normalizes it before it is cut into pieces. At each position the longest match
// counts: a user-defined symbol (copied), else the charsmap, else one character (an invalid byte becomes U+FFFD). Then
// white space: dummy prefix, runs collapsed, ends removed, spaces written as U+2581, each as the model's options say.
// Immutable; its Stream takes the text in any pieces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer_spm_model.h"
#include "formats/tokenizer_trie.h"

namespace tern {

class SpmNormalizer {
 public:
  // `user_defined` (may be null) and `spec` must outlive it.
  SpmNormalizer(const SpmNormalizerSpec& spec, bool whitespace_as_suffix, const Trie* user_defined);

  class Stream {
   public:
    explicit Stream(const SpmNormalizer& normalizer)
        : n_(&normalizer), previous_space_(normalizer.spec_->remove_extra_whitespaces) {}
    // Appends what `text` gives to *out, and for each appended byte the offset of its source to *map (if given).
    // Returns how many bytes of text were consumed: all if `last`, else all but what could be the beginning of a longer
    // match; the caller passes the rest again, before what follows.
    size_t Push(std::string_view text, bool last, std::string* out, std::vector<int64_t>* map);
    // After the last Push: removes white space at the end, adds the suffix; *map gets one more entry, the end of the
    // source.
    void Finish(std::string* out, std::vector<int64_t>* map);
    // Bytes of everything appended so far that Finish will not remove. The caller may drop bytes from the front of *out
    // and says so with Dropped.
    size_t certain_bytes() const { return certain_; }
    void Dropped(size_t bytes) { certain_ -= bytes; }

   private:
    void AddSpace(std::string* out, std::vector<int64_t>* map);
    void Add(std::string_view replacement, std::string* out, std::vector<int64_t>* map);
    const SpmNormalizer* n_;
    bool previous_space_;
    bool started_ = false;  // the first text that is not leading white space has come
    bool any_input_ = false;
    int64_t consumed_ = 0;  // source bytes
    size_t certain_ = 0;
  };

  std::string Normalize(std::string_view text, std::vector<int64_t>* map = nullptr) const;

 private:
  struct Prefix {
    std::string_view replacement;
    size_t length;
  };
  Prefix Next(std::string_view text) const;
  bool KeepsAscii(uint8_t byte) const { return byte < 128 && plain_[byte]; }

  const SpmNormalizerSpec* spec_;
  bool whitespace_as_suffix_;
  const Trie* user_defined_;
  std::string_view space_;  // what a space is written as
  size_t lookahead_;        // bytes that a match can need
  bool plain_[128];         // ASCII bytes, not the space, that stand for themselves when ASCII follows
};

}  // namespace tern

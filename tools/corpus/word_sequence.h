// WordSequence: the normalised words of a text (words.h), and the hashes of all windows over them: N words in a row, or N code points of the words joined
// by nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/corpus/mix_hash.h"
#include "tools/corpus/text_units.h"
#include "tools/corpus/words.h"

namespace tern::corpus {

class WordSequence {
 public:
  // `text` is valid UTF-8 of less than 2 GiB. Buffers are reused.
  void Read(std::string_view text, uint64_t seed);

  int64_t words() const { return static_cast<int64_t>(begins_.size()) - 1; }
  std::string_view joined() const { return {joined_.data(), begins_.back()}; }  // the words, nothing between them
  uint32_t begin_of(int64_t word) const { return begins_[static_cast<size_t>(word)]; }  // in joined(); of words(): its size
  uint32_t raw_begin(int64_t word) const { return raw_begins_[static_cast<size_t>(word)]; }
  uint32_t raw_end(int64_t word) const { return raw_ends_[static_cast<size_t>(word)]; }
  int64_t chars() const { return chars_; }   // code points of joined()
  uint64_t hash() const { return hash_; }    // of the whole sequence

  // Calls f(first word, hash) for each window of n words. n >= 1.
  template <class F>
  void ForEachWordWindow(int64_t n, F&& f) const;
  // Calls f(first byte, behind the last byte, hash) for each window of n code points of joined(). n >= 1.
  template <class F>
  void ForEachCharWindow(int64_t n, F&& f) const;

 private:
  template <class Next, class F>
  void RollChars(int64_t n, Next&& next, F&& f) const;

  WordReader reader_;
  std::string joined_;
  std::vector<uint32_t> begins_, raw_begins_, raw_ends_;
  std::vector<uint64_t> hashes_;   // by word
  uint64_t seed_ = 0, base_ = 1, hash_ = 0;
  uint64_t char_hash_[128] = {};   // of ASCII
  int64_t chars_ = 0;
};

// A polynomial in base_ over the hashes, modulo 2^64: h(i + 1) = (h(i) - hash(i) base^(n-1)) base + hash(i + n). Equal windows have equal hashes; the other
// way round must be confirmed.
template <class F>
void WordSequence::ForEachWordWindow(int64_t n, F&& f) const {
  if (words() < n) return;
  uint64_t power = 1, h = 0;
  for (int64_t i = 0; i < n; ++i) power *= base_;
  for (int64_t i = 0; i < words(); ++i) {
    h = h * base_ + hashes_[static_cast<size_t>(i)];
    if (i >= n) h -= hashes_[static_cast<size_t>(i - n)] * power;
    if (i + 1 >= n) f(i + 1 - n, h);
  }
}

template <class Next, class F>
void WordSequence::RollChars(int64_t n, Next&& next, F&& f) const {
  uint64_t power = 1, h = 0;
  for (int64_t i = 0; i < n; ++i) power *= base_;
  size_t head = 0, tail = 0;
  for (int64_t i = 0; i < n; ++i) h = h * base_ + next(&head);
  for (;;) {
    f(tail, head, h);
    if (head >= begins_.back()) return;
    h = h * base_ + next(&head);
    h -= next(&tail) * power;
  }
}

template <class F>
void WordSequence::ForEachCharWindow(int64_t n, F&& f) const {
  if (chars_ < n) return;
  std::string_view text = joined();
  if (chars_ == static_cast<int64_t>(text.size())) {
    RollChars(n, [&](size_t* at) { return char_hash_[static_cast<unsigned char>(text[(*at)++])]; }, f);
    return;
  }
  RollChars(n,
            [&](size_t* at) {
              char32_t c = NextChar(text, at);
              return c < 128 ? char_hash_[c] : HashPair(c, 0, seed_);
            },
            f);
}

}  // namespace tern::corpus

// Words: the units of near-duplicate, word-window and leakage detection (specification 12.2).
//
// A word is a maximal run of code points of category L, M or N that holds an L or N; it is normalised on its own: NFC, then simple lower case per code
// point. Everything else separates. "Joined" is the words with one space between them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tern::corpus {

struct Word {
  std::string_view text;  // normalised; at least kWordPadding bytes may be read behind its end; valid until the next Next or Reset
  size_t begin, end;      // in the raw text, bytes
};
inline constexpr size_t kWordPadding = 16;

// Gives the words of one text after another; buffers are reused. One thread.
//   for (words.Reset(text); words.Next(&word);) ...
class WordReader {
 public:
  // `text` is valid UTF-8 and stays alive until the next Reset.
  void Reset(std::string_view text);
  bool has_high() const { return has_high_; }  // whether the text holds anything but ASCII
  bool Next(Word* word) {
    if (slow_at_ < slow_end_ && NextSlow(word)) return true;
    return NextFast(word);
  }

 private:
  bool NextFast(Word* word);
  bool NextSlow(Word* word);  // inside [slow_at_, slow_end_), a stretch without ASCII separators that holds other characters

  std::string_view text_;
  std::string lowered_;          // ASCII letters in lower case, other bytes as they are; padded
  std::vector<uint64_t> word_, high_;  // one bit a byte: ASCII letter or digit; not ASCII
  bool has_high_ = false;
  size_t at_ = 0, slow_at_ = 0, slow_end_ = 0;
  std::string scratch_, raw_;
};

// The words of `text` with one space between them. Appends to *out.
void AppendJoined(std::string_view text, WordReader& words, std::string* out);

// A 64-bit hash of a normalised word. REQUIRES: kWordPadding readable bytes behind it.
uint64_t HashWord(std::string_view word, uint64_t seed);

}  // namespace tern::corpus

// Words: the units of near-duplicate, word-window and leakage detection (specification 12.2).
//
// A word is a maximal run of code points of category L, M or N that holds an L or N; it is normalised on its own: NFC, then simple lower case per code
// point. Everything else separates. "Joined" is the words with one space between them.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace tern::corpus {

struct Word {
  std::string_view text;  // normalised; at least kWordPadding bytes may be read behind its end; valid until the next Next or Reset
  size_t begin, end;      // in the raw text, bytes
  bool ascii;             // nothing but ASCII letters and digits
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

namespace internal {
uint64_t HashLongWord(std::string_view word, uint64_t seed);
// kWordMasks[8 + n] keeps the first n bytes (in memory) of eight; below 8 none, above 16 all.
struct WordMasks {
  uint64_t mask[25];
  uint64_t operator[](size_t i) const { return mask[i]; }
};
inline constexpr WordMasks kWordMasks = [] {
  WordMasks m{};
  for (size_t i = 0; i < 25; ++i)
    for (size_t byte = 0; byte < 8; ++byte)
      if (byte + 8 < i) m.mask[i] |= uint64_t{0xff} << (std::endian::native == std::endian::little ? 8 * byte : 56 - 8 * byte);
  return m;
}();
}  // namespace internal

// A 64-bit hash of a normalised word. REQUIRES: kWordPadding readable bytes behind it.
inline uint64_t HashWord(std::string_view word, uint64_t seed) {
  constexpr uint64_t kA = 0x9e3779b97f4a7c15u, kB = 0xd6e8feb86659fd93u;
  const size_t n = word.size();
  if (n > 16) return internal::HashLongWord(word, seed);
  // Sixteen bytes, those behind the end masked away: words of all lengths take the same path.
  uint64_t low, high;
  std::memcpy(&low, word.data(), 8);
  std::memcpy(&high, word.data() + 8, 8);
  low &= internal::kWordMasks[n + 8];
  high &= internal::kWordMasks[n];
  unsigned __int128 m = static_cast<unsigned __int128>(low ^ seed ^ kA) * (high ^ (kB + n * kA) ^ (seed >> 32));
  return static_cast<uint64_t>(m) ^ static_cast<uint64_t>(m >> 64);
}

}  // namespace tern::corpus

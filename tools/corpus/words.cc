#include "tools/corpus/words.h"

#include <bit>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "engine/base/hash.h"
#include "engine/base/utf8.h"
#include "tools/corpus/chars.h"

namespace tern::corpus {
namespace {

// 64 bytes: lower case to `out`, the masks of ASCII letters and digits, and of other-than-ASCII bytes.
inline void Classify64(const char* in, char* out, uint64_t* word, uint64_t* high) {
  uint64_t w = 0, h = 0;
#if defined(__SSE2__)
  // Signed comparisons: byte + (127 - last) is above 126 - count exactly for [first, last].
  const __m128i upper_add = _mm_set1_epi8(static_cast<char>(127 - 'Z')), digit_add = _mm_set1_epi8(static_cast<char>(127 - '9')),
                alpha_add = _mm_set1_epi8(static_cast<char>(127 - 'z')), above26 = _mm_set1_epi8(127 - 26), above10 = _mm_set1_epi8(127 - 10),
                bit5 = _mm_set1_epi8(0x20);
  for (int i = 0; i < 4; ++i) {
    __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in) + i);
    __m128i upper = _mm_cmpgt_epi8(_mm_add_epi8(c, upper_add), above26);
    __m128i lower = _mm_or_si128(c, _mm_and_si128(upper, bit5));
    __m128i alpha = _mm_cmpgt_epi8(_mm_add_epi8(lower, alpha_add), above26);
    __m128i digit = _mm_cmpgt_epi8(_mm_add_epi8(c, digit_add), above10);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + i, lower);
    w |= static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(alpha, digit)))) << (16 * i);
    h |= static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(c))) << (16 * i);
  }
#else
  for (int i = 0; i < 64; ++i) {
    unsigned char c = static_cast<unsigned char>(in[i]);
    unsigned char lower = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
    out[i] = static_cast<char>(lower);
    w |= static_cast<uint64_t>((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9')) << i;
    h |= static_cast<uint64_t>(c >> 7) << i;
  }
#endif
  *word = w & ~h;
  *high = h;
}

inline uint64_t Fold128(uint64_t a, uint64_t b) {
  unsigned __int128 m = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(m) ^ static_cast<uint64_t>(m >> 64);
}
inline uint64_t Load64(const char* p) {
  uint64_t v;
  std::memcpy(&v, p, 8);
  return v;
}

}  // namespace

void WordReader::Reset(std::string_view text) {
  text_ = text;
  at_ = slow_at_ = slow_end_ = 0;
  size_t blocks = text.size() / 64 + 1;  // the last one is partly or wholly behind the end: its bits are zero
  if (word_.size() < blocks) {
    size_t room = blocks + blocks / 4;
    word_.resize(room), high_.resize(room);
    lowered_.resize(room * 64 + kWordPadding);
  }
  size_t b = 0;
  for (; (b + 1) * 64 <= text.size(); ++b) Classify64(text.data() + b * 64, lowered_.data() + b * 64, &word_[b], &high_[b]);
  uint64_t any = 0;
  for (size_t i = 0; i < b; ++i) any |= high_[i];
  char tail[64] = {};
  if (text.size() > b * 64) std::memcpy(tail, text.data() + b * 64, text.size() - b * 64);
  Classify64(tail, lowered_.data() + b * 64, &word_[b], &high_[b]);
  has_high_ = (any | high_[b]) != 0;
}

bool WordReader::NextFast(Word* word) {
  for (;;) {
    const size_t size = text_.size();
    if (at_ >= size) return false;
    size_t b = at_ / 64;
    const size_t last = size / 64;
    uint64_t bits = (word_[b] | high_[b]) >> (at_ % 64) << (at_ % 64);
    while (bits == 0) {
      if (++b > last) {
        at_ = size;
        return false;
      }
      bits = word_[b] | high_[b];
    }
    const size_t begin = b * 64 + static_cast<size_t>(std::countr_zero(bits));
    // The first zero at or behind `begin` ends the stretch; there is one at the latest behind the end of the text.
    uint64_t high = high_[b] >> (begin % 64) << (begin % 64);
    uint64_t zeros = ~(word_[b] | high_[b]) >> (begin % 64) << (begin % 64);
    while (zeros == 0) {
      ++b;
      zeros = ~(word_[b] | high_[b]);
      if (zeros != 0) break;
      high |= high_[b];
    }
    const size_t end = b * 64 + static_cast<size_t>(std::countr_zero(zeros));
    uint64_t below = (uint64_t{1} << (end % 64)) - 1;  // of the last block, the bits in front of the end
    high = b == begin / 64 ? high & below : high | (high_[b] & below);
    at_ = end;
    if (high == 0) {
      word->text = std::string_view(lowered_.data() + begin, end - begin);
      word->begin = begin, word->end = end;
      return true;
    }
    slow_at_ = begin, slow_end_ = end;
    if (NextSlow(word)) return true;
  }
}

bool WordReader::NextSlow(Word* word) {
  while (slow_at_ < slow_end_) {
    uint32_t any = 0;
    const size_t begin = slow_at_;
    size_t at = begin;
    scratch_.clear();
    while (at < slow_end_) {
      Utf8Char c = DecodeUtf8(text_, at);
      uint32_t bits = CharBits(c.code);
      if (!(bits & kWordBits)) break;
      any |= bits;
      AppendUtf8(LowerOf(bits), &scratch_);
      at += c.bytes;
    }
    if (at == begin) {
      slow_at_ += DecodeUtf8(text_, at).bytes;
      continue;
    }
    slow_at_ = at;
    if (!(any & (kLetter | kNumber))) continue;
    if (any & kComposes) {
      raw_.clear();
      AppendNfc(text_.substr(begin, at - begin), &raw_);
      scratch_.clear();
      for (size_t i = 0; i < raw_.size();) {
        Utf8Char c = DecodeUtf8(raw_, i);
        AppendUtf8(LowerOf(CharBits(c.code)), &scratch_);
        i += c.bytes;
      }
    }
    size_t size = scratch_.size();
    scratch_.append(kWordPadding, '\0');
    word->text = std::string_view(scratch_.data(), size);
    word->begin = begin, word->end = at;
    return true;
  }
  return false;
}

void AppendJoined(std::string_view text, WordReader& words, std::string* out) {
  Word word;
  bool first = true;
  for (words.Reset(text); words.Next(&word); first = false) {
    if (!first) *out += ' ';
    out->append(word.text);
  }
}

uint64_t HashWord(std::string_view word, uint64_t seed) {
  constexpr uint64_t kA = 0x9e3779b97f4a7c15u, kB = 0xd6e8feb86659fd93u;
  size_t n = word.size();
  if (n <= 16) {
    // Bytes behind the end are cut off by the shift: two loads of eight, of which the second may be empty.
    uint64_t low = Load64(word.data()), high = 0;
    if (n < 8) low = n == 0 ? 0 : low << (64 - 8 * n);
    else if (n > 8) high = Load64(word.data() + 8) << (128 - 8 * n);
    return Fold128(low ^ seed ^ kA, high ^ (kB + n * kA) ^ (seed >> 32));
  }
  return Xxh3({reinterpret_cast<const uint8_t*>(word.data()), n}, seed);
}

}  // namespace tern::corpus

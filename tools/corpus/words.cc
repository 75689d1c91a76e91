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
      word->ascii = true;
      return true;
    }
    slow_at_ = begin, slow_end_ = end;
    if (NextSlow(word)) return true;
  }
}

bool WordReader::NextSlow(Word* word) {
  auto is_ascii = [&](size_t i) { return static_cast<unsigned char>(text_[i]) < 0x80; };  // then it is a letter or digit: nothing else is in here
  while (slow_at_ < slow_end_) {
    const size_t begin = slow_at_;
    size_t at = begin;
    while (at < slow_end_ && is_ascii(at)) ++at;
    Utf8Char next{};
    uint32_t bits = 0;
    if (at < slow_end_) next = DecodeUtf8(text_, at), bits = CharBits(next.code);
    if (!(bits & kWordBits)) {
      // Punctuation, or the end: what stood before it is a word of ASCII, as in most texts with typographic quotes.
      slow_at_ = at + next.bytes;
      if (at == begin) continue;
      word->text = std::string_view(lowered_.data() + begin, at - begin);
      word->begin = begin, word->end = at;
      word->ascii = true;
      return true;
    }
    uint32_t any = at > begin ? kLetter : 0;
    scratch_.assign(lowered_, begin, at - begin);
    while (at < slow_end_) {
      if (is_ascii(at)) {
        scratch_ += lowered_[at++];
        any |= kLetter;
        continue;
      }
      Utf8Char c = DecodeUtf8(text_, at);
      uint32_t c_bits = CharBits(c.code);
      if (!(c_bits & kWordBits)) break;
      any |= c_bits;
      AppendUtf8(LowerOf(c_bits), &scratch_);
      at += c.bytes;
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
    const size_t size = scratch_.size();
    scratch_.append(kWordPadding, '\0');
    word->text = std::string_view(scratch_.data(), size);
    word->begin = begin, word->end = at;
    word->ascii = false;
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

uint64_t internal::HashLongWord(std::string_view word, uint64_t seed) { return Xxh3({reinterpret_cast<const uint8_t*>(word.data()), word.size()}, seed); }

}  // namespace tern::corpus

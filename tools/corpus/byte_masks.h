// Sixty-four bytes at a time: which are ASCII letters or digits, which ASCII white space, which are not ASCII. One bit a byte, the first byte lowest.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tern::corpus {

struct ByteMasks {
  uint64_t word, space, high;
};

// REQUIRES: 64 readable bytes.
inline ByteMasks MaskBytes(const char* in) {
  ByteMasks m{};
#if defined(__SSE2__)
  // Signed comparisons: byte + (127 - last) is above 126 - count exactly for the `count` bytes that end with `last`.
  auto among = [](__m128i c, char last, char count) {
    return _mm_cmpgt_epi8(_mm_add_epi8(c, _mm_set1_epi8(static_cast<char>(127 - last))), _mm_set1_epi8(static_cast<char>(127 - count)));
  };
  auto bits = [](__m128i c) { return static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(c))); };
  for (int i = 0; i < 4; ++i) {
    __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in) + i);
    __m128i lower = _mm_or_si128(c, _mm_set1_epi8(0x20));
    m.word |= bits(_mm_or_si128(among(lower, 'z', 26), among(c, '9', 10))) << (16 * i);
    m.space |= bits(_mm_or_si128(among(c, 13, 5), among(c, 32, 5))) << (16 * i);
    m.high |= bits(c) << (16 * i);
  }
  m.word &= ~m.high;
  m.space &= ~m.high;
#else
  for (int i = 0; i < 64; ++i) {
    uint32_t c = static_cast<unsigned char>(in[i]), lower = c | 0x20;
    m.word |= static_cast<uint64_t>((lower - 'a' < 26 && c < 0x80) || c - '0' < 10) << i;
    m.space |= static_cast<uint64_t>(c - 9 < 5 || c - 28 < 5) << i;
    m.high |= static_cast<uint64_t>(c >> 7) << i;
  }
#endif
  return m;
}

}  // namespace tern::corpus

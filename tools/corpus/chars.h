// Characters as the data tools see them: the categories, white space and simple lower case of a code point, from utf8proc, cached in pages.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace tern::corpus {

inline constexpr uint32_t kLetter = 1;      // category L
inline constexpr uint32_t kNumber = 2;      // category N
inline constexpr uint32_t kMark = 4;        // category M
inline constexpr uint32_t kSpace = 8;       // white space: 9-D, 1C-20, 85, A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000
inline constexpr uint32_t kUnspaced = 16;   // a script written without spaces (Thai, Lao, Burmese, Khmer, kana, Han)
inline constexpr uint32_t kComposes = 32;   // NFC may change it, alone or after its neighbour: marks, conjoining jamo, singletons
inline constexpr uint32_t kWordBits = kLetter | kNumber | kMark;

namespace internal {
extern std::atomic<const uint32_t*> char_pages[0x1100];
const uint32_t* MakeCharPage(uint32_t page);
}  // namespace internal

// The bits above, and the simple lower-case mapping in bits 8 and up. REQUIRES: c <= 0x10FFFF. Thread-safe.
inline uint32_t CharBits(char32_t c) {
  const uint32_t* page = internal::char_pages[c >> 8].load(std::memory_order_acquire);
  if (page == nullptr) page = internal::MakeCharPage(c >> 8);
  return page[c & 0xff];
}
inline char32_t LowerOf(uint32_t char_bits) { return char_bits >> 8; }
inline bool IsSpaceChar(char32_t c) { return (CharBits(c) & kSpace) != 0; }

// The NFC form of valid UTF-8. Appends to *out.
void AppendNfc(std::string_view text, std::string* out);

// White space runs become one space, both ends trimmed. Appends to *out.
void AppendSpaced(std::string_view text, std::string* out);
// NFC, simple lower case per code point, then as AppendSpaced. Appends to *out.
void AppendFolded(std::string_view text, std::string* out);

// Without the white space at both ends. `text` is valid UTF-8.
std::string_view Trimmed(std::string_view text);
inline bool IsBlank(std::string_view text) { return Trimmed(text).empty(); }

int64_t CountCodePoints(std::string_view text);  // of valid UTF-8

}  // namespace tern::corpus

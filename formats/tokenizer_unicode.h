// Unicode as the tokenizers' home languages see it: Python's and Rust's notions of white space, lower case, categories.
// Unicode 14 (utf8proc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tern {

std::u32string ToCodePoints(std::string_view text);  // invalid parts become U+FFFD
std::string ToUtf8(std::u32string_view text);

// White space of Python's str.split, strip and \s.
bool IsPythonSpace(char32_t c);
// \d of Python: category Nd.
bool IsDecimalDigit(char32_t c);
std::u32string_view StripPython(std::u32string_view text);

// Lower case as Python's str.lower gives it. `final_sigma`: U+03A3 at the end of a word becomes U+03C2 (off: character
// by character).
std::u32string LowerPython(std::u32string_view text, bool final_sigma);

// Classes of characters as regular expressions and Rust know them.
enum class CharClass : uint8_t {
  kSpace,    // White_Space
  kDecimal,  // Nd
  kWord,     // \w: letters, marks, decimal digits, connectors
  kLetter,
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMark,
  kMn,
  kMc,
  kMe,
  kNumber,
  kNd,
  kNl,
  kNo,
  kPunctuation,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSymbol,
  kSm,
  kSc,
  kSk,
  kSo,
  kSeparator,
  kZs,
  kZl,
  kZp,
  kOther,
  kCc,
  kCf,
  kCo,
  kCn,
  kHan,
};
bool InClass(CharClass which, char32_t c);
// "L", "Lu", "Letter", "Han" ...
std::optional<CharClass> CharClassOf(std::string_view name);

inline bool IsWhiteSpace(char32_t c) {
  return InClass(CharClass::kSpace, c);
}
char32_t SimpleLower(char32_t c);
char32_t SimpleUpper(char32_t c);
uint8_t CombiningClass(char32_t c);
// Full decomposition, canonical or compatible; `out` has room for 32 code points. Returns how many.
size_t Decompose(char32_t c, bool compatible, char32_t* out);
// The primary composite of two code points, 0 if there is none.
char32_t Compose(char32_t a, char32_t b);
// True if an extended grapheme cluster may end between a and b; *state is 0 at the start of a text and belongs to the
// caller.
bool GraphemeBreak(char32_t a, char32_t b, int32_t* state);

}  // namespace tern

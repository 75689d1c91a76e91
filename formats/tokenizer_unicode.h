// Unicode as the tokenizers' home languages see it: Python's and Rust's notions of white space, lower case, categories. Unicode 14 (utf8proc).
#pragma once

#include <cstdint>
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

// Lower case as Python's str.lower gives it. `final_sigma`: U+03A3 at the end of a word becomes U+03C2 (off: character by character).
std::u32string LowerPython(std::u32string_view text, bool final_sigma);

}  // namespace tern

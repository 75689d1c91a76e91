// Classes of characters as the Moses scripts know them: an older Unicode than today's, and for good: vocabularies were
// made with it.
#pragma once

#include <cstdint>

namespace tern::moses {

bool IsAlpha(char32_t c);   // letters, with the signs that join letters (viramas, nuktas)
bool IsAlnum(char32_t c);   // IsAlpha and decimal digits
bool IsNumber(char32_t c);  // all numbers (digits, fractions, Roman numerals ...)
bool IsLower(char32_t c);
bool IsDetokenizerAlpha(char32_t c);  // letters without the joining signs
bool IsCurrency(char32_t c);
bool IsCjk(char32_t c);

}  // namespace tern::moses

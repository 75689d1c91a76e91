// Classes of characters as the tokenizers library 0.22 sees them. Its parts carry tables of different versions of
// Unicode, older and newer than ours: for a character that came later a class here says what the library says.
#pragma once

#include <cstdint>

namespace tern::library {

bool IsPunctuation(char32_t c);  // not ASCII; category P
bool IsControl(char32_t c);  // what BertNormalizer drops, beside U+0000 and U+FFFD; tab and line ends are not asked for
bool IsNonspacingMark(char32_t c);  // what BertNormalizer strips
bool IsCombiningMark(char32_t c);   // what StripAccents strips
bool IsNumeric(char32_t c);         // what Digits splits
bool IsWord(char32_t c);            // \w
bool IsLetter(char32_t c);          // \p{L} of split patterns
bool IsNumber(char32_t c);          // \p{N} of split patterns
bool IsDecomposed(char32_t c);      // false: too new to be decomposed
uint8_t CombiningClass(char32_t c);
char32_t Lower(char32_t c);  // one character to one

}  // namespace tern::library

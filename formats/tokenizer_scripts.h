// Which script a character belongs to, as the UnicodeScripts pre-tokenizer counts: Unicode's Script property, Hiragana
// and Katakana as Han.
#pragma once

#include <cstdint>

namespace tern {

inline constexpr int kAnyScript =
    0;  // a character without a script of its own here: it joins whatever stands around it
// A number that is equal for characters of one script.
int ScriptOf(char32_t c);

}  // namespace tern

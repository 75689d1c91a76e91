// Phrases in lower case, searched by their rarest letter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tern::corpus {

struct Phrase {
  std::string_view text;  // lower case
  size_t anchor;          // the place of its rarest byte
};

// ASCII letters in lower case, and U+212A (Kelvin), whose lower case is k. Nothing else becomes an ASCII letter, except U+0130, whose lower case "i" is
// followed by a combining dot.
void LowerForPhrases(std::string_view text, std::string* lower);

bool HasPhrase(std::string_view lower, Phrase phrase);

// The place of the byte that is rarest in English text.
size_t RarestByte(std::string_view phrase);

}  // namespace tern::corpus

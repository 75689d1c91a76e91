// The byte-level alphabet of GPT-2: each byte as one printable character.
#pragma once

#include <string>
#include <string_view>

#include "formats/tokenizer_normalized.h"

namespace tern {

// The character, in UTF-8, that stands for a byte.
std::string_view ByteLevelCharacter(uint8_t byte);
// The byte that a character stands for, or -1.
int ByteOfByteLevel(char32_t c);
// Every byte of the text by its character.
void ToByteLevel(NormalizedText* text);
// `what` before the first character, aligned with it. Does nothing to an empty text.
void PrependTo(NormalizedText* text, std::string_view what);

}  // namespace tern

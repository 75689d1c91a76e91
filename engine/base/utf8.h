// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, at most U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tern {

struct Utf8Char {
  char32_t code;  // U+FFFD if not valid
  uint32_t bytes;  // how many bytes it takes; of an invalid sequence, its maximal valid prefix (at least 1), as Unicode recommends for replacement
  bool valid;
};

// Decodes the character that begins at text[at]. REQUIRES: at < text.size().
Utf8Char DecodeUtf8(std::string_view text, size_t at);

// Appends `code` (a scalar value) as UTF-8.
void AppendUtf8(char32_t code, std::string* out);

// Offset of the first byte that is not valid UTF-8, or text.size().
size_t FirstInvalidUtf8(std::string_view text);
inline bool IsUtf8(std::string_view text) { return FirstInvalidUtf8(text) == text.size(); }

// `text` with every invalid sequence replaced by U+FFFD (one per maximal valid prefix).
std::string ReplaceInvalidUtf8(std::string_view text);

}  // namespace tern

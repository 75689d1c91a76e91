#include "engine/base/utf8.h"

#include <bit>
#include <cstring>

namespace tern {

Utf8Char DecodeUtf8(std::string_view text, size_t at) {
  auto byte = [&](size_t i) -> uint32_t { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  uint32_t b0 = byte(at);
  if (b0 < 0x80) return {b0, 1, true};
  // The second byte's range depends on the first (it excludes overlong forms and surrogates); the others are 80..BF.
  uint32_t length = b0 >= 0xc2 && b0 <= 0xdf ? 2 : b0 >= 0xe0 && b0 <= 0xef ? 3 : b0 >= 0xf0 && b0 <= 0xf4 ? 4 : 0;
  if (length == 0) return {0xfffd, 1, false};
  uint32_t low = b0 == 0xe0 ? 0xa0 : b0 == 0xf0 ? 0x90 : 0x80;
  uint32_t high = b0 == 0xed ? 0x9f : b0 == 0xf4 ? 0x8f : 0xbf;
  uint32_t code = b0 & (0x7f >> length);
  for (uint32_t i = 1; i < length; ++i) {
    uint32_t b = byte(at + i);
    if (b < low || b > high) return {0xfffd, i, false};
    code = code << 6 | (b & 0x3f);
    low = 0x80, high = 0xbf;
  }
  return {code, length, true};
}

void AppendUtf8(char32_t code, std::string* out) {
  if (code < 0x80) {
    *out += static_cast<char>(code);
  } else if (code < 0x800) {
    *out += static_cast<char>(0xc0 | code >> 6);
    *out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *out += static_cast<char>(0xe0 | code >> 12);
    *out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
    *out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    *out += static_cast<char>(0xf0 | code >> 18);
    *out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
    *out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
    *out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word;
    if (i + 8 <= text.size()) {
      std::memcpy(&word, text.data() + i, 8);
      const uint64_t high = word & 0x8080808080808080u;
      if (high == 0) {
        i += 8;  // eight ASCII bytes at once: most text
        continue;
      }
      if constexpr (std::endian::native == std::endian::little) {
        i += static_cast<size_t>(std::countr_zero(high)) / 8;  // to the first other byte
        if (i + 4 <= text.size()) {
          // The three-byte forms whose second byte has its full range: most punctuation and most scripts.
          uint32_t four;
          std::memcpy(&four, text.data() + i, 4);
          if ((four & 0xc0c0f0) == 0x8080e0 && (four & 0xff) != 0xe0 && (four & 0xff) != 0xed) {
            i += 3;
            continue;
          }
        }
      }
    }
    Utf8Char c = DecodeUtf8(text, i);
    if (!c.valid) return i;
    i += c.bytes;
  }
  return i;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t good = FirstInvalidUtf8(text.substr(i));
    out.append(text.substr(i, good));
    i += good;
    if (i < text.size()) {
      out += "\xef\xbf\xbd";
      i += DecodeUtf8(text, i).bytes;
    }
  }
  return out;
}

}  // namespace tern

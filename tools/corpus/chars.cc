#include "tools/corpus/chars.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "engine/base/utf8.h"

namespace tern::corpus {
namespace internal {

std::atomic<const uint32_t*> char_pages[0x1100];

namespace {

bool IsSpaceCode(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsUnspacedCode(char32_t c) {
  return (c >= 0xe00 && c <= 0xeff) || (c >= 0x1000 && c <= 0x109f) || (c >= 0x1780 && c <= 0x17ff) || (c >= 0x3040 && c <= 0x30ff) ||
         (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x20000 && c <= 0x2fa1f);
}

// Conjoining vowels and trailing consonants join the syllable before them.
bool IsTrailingJamo(char32_t c) { return (c >= 0x1161 && c <= 0x1175) || (c >= 0x11a8 && c <= 0x11c2); }

bool NfcChanges(char32_t c) {
  const utf8proc_property_t* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  if (property->decomp_seqindex == UINT16_MAX || property->decomp_type != 0) return false;
  std::string one, composed;
  AppendUtf8(c, &one);
  utf8proc_uint8_t* out = nullptr;
  utf8proc_ssize_t n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(one.data()), static_cast<utf8proc_ssize_t>(one.size()), &out,
                                    static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  bool changed = n != static_cast<utf8proc_ssize_t>(one.size()) || std::string_view(reinterpret_cast<char*>(out), one.size()) != one;
  std::free(out);
  return changed;
}

uint32_t BitsOf(char32_t c) {
  uint32_t bits = 0;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: bits |= kLetter; break;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: bits |= kNumber; break;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: bits |= kMark | kComposes; break;
    default: break;
  }
  if (IsSpaceCode(c)) bits |= kSpace;
  if (IsUnspacedCode(c)) bits |= kUnspaced;
  if (IsTrailingJamo(c) || NfcChanges(c)) bits |= kComposes;
  return bits | static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))) << 8;
}

}  // namespace

const uint32_t* MakeCharPage(uint32_t page) {
  auto made = std::make_unique<uint32_t[]>(256);
  for (uint32_t i = 0; i < 256; ++i) made[i] = BitsOf(page << 8 | i);
  const uint32_t* current = nullptr;
  if (char_pages[page].compare_exchange_strong(current, made.get(), std::memory_order_acq_rel)) return made.release();  // lives as long as the program
  return current;
}

}  // namespace internal

namespace {

bool NeedsNfc(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    Utf8Char c = DecodeUtf8(text, i);
    if (CharBits(c.code) & kComposes) return true;
    i += c.bytes;
  }
  return false;
}

// Appends with runs of white space as one space and none at the ends; `lower`: in simple lower case.
void AppendWithSpaces(std::string_view text, bool lower, std::string* out) {
  bool any = false, space = false;
  for (size_t i = 0; i < text.size();) {
    // A stretch of printable ASCII goes at once.
    size_t end = i;
    while (end < text.size() && static_cast<unsigned char>(text[end] - 0x21) < 0x5e) ++end;
    if (end > i) {
      if (space) *out += ' ';
      space = false, any = true;
      size_t at = out->size();
      out->append(text.substr(i, end - i));
      if (lower)
        for (char* p = out->data() + at; p < out->data() + out->size(); ++p)
          if (*p >= 'A' && *p <= 'Z') *p = static_cast<char>(*p | 0x20);
      i = end;
      continue;
    }
    Utf8Char c = DecodeUtf8(text, i);
    uint32_t bits = CharBits(c.code);
    if (bits & kSpace) {
      space = any;
    } else {
      if (space) *out += ' ';
      space = false, any = true;
      if (lower && LowerOf(bits) != c.code) AppendUtf8(LowerOf(bits), out);
      else out->append(text.substr(i, c.bytes));
    }
    i += c.bytes;
  }
}

}  // namespace

void AppendNfc(std::string_view text, std::string* out) {
  if (NeedsNfc(text)) {
    utf8proc_uint8_t* composed = nullptr;
    utf8proc_ssize_t n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &composed,
                                      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n >= 0) {
      out->append(reinterpret_cast<char*>(composed), static_cast<size_t>(n));
      std::free(composed);
      return;
    }
  }
  out->append(text);
}

void AppendSpaced(std::string_view text, std::string* out) { AppendWithSpaces(text, false, out); }

void AppendFolded(std::string_view text, std::string* out) {
  if (!NeedsNfc(text)) return AppendWithSpaces(text, true, out);
  std::string composed;
  AppendNfc(text, &composed);
  AppendWithSpaces(composed, true, out);
}

std::string_view Trimmed(std::string_view text) {
  size_t begin = 0, end = text.size();
  while (begin < end) {
    Utf8Char c = DecodeUtf8(text, begin);
    if (!IsSpaceChar(c.code)) break;
    begin += c.bytes;
  }
  while (end > begin) {
    size_t at = end - 1;
    while (at > begin && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
    if (!IsSpaceChar(DecodeUtf8(text, at).code)) break;
    end = at;
  }
  return text.substr(begin, end - begin);
}

int64_t CountCodePoints(std::string_view text) {
  int64_t n = 0;
  for (char c : text) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return n;
}

}  // namespace tern::corpus

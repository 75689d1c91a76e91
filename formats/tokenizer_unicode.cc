#include "formats/tokenizer_unicode.h"

#include <utf8proc.h>

#include "engine/base/utf8.h"

namespace tern {

std::u32string ToCodePoints(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = DecodeUtf8(text, i);
    out.push_back(c.code);
    i += c.bytes;
  }
  return out;
}

std::string ToUtf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t c : text) AppendUtf8(c, &out);
  return out;
}

bool IsPythonSpace(char32_t c) {
  if (c < 128) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsDecimalDigit(char32_t c) {
  return c < 128 ? c >= '0' && c <= '9' : utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
}

std::u32string_view StripPython(std::u32string_view text) {
  while (!text.empty() && IsPythonSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsPythonSpace(text.back())) text.remove_suffix(1);
  return text;
}

namespace {

bool IsCased(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT ||
         c == 0xAA || c == 0xBA || (c >= 0x2160 && c <= 0x217F) || (c >= 0x24B6 && c <= 0x24E9);
}
bool IsCaseIgnorable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027;
  }
}

// A cased letter before, none behind (signs that case ignores do not count).
bool IsFinalSigma(std::u32string_view text, size_t at) {
  size_t i = at;
  while (i > 0 && IsCaseIgnorable(text[i - 1])) --i;
  if (i == 0 || !IsCased(text[i - 1])) return false;
  for (i = at + 1; i < text.size() && IsCaseIgnorable(text[i]);) ++i;
  return i == text.size() || !IsCased(text[i]);
}

}  // namespace

std::u32string LowerPython(std::u32string_view text, bool final_sigma) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c < 128) {
      out.push_back(c >= 'A' && c <= 'Z' ? c + 32 : c);
    } else if (c == 0x130) {
      out += U"i\u0307";
    } else if (c == 0x3A3) {
      out.push_back(final_sigma && IsFinalSigma(text, i) ? 0x3C2 : 0x3C3);
    } else {
      out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

namespace {
utf8proc_category_t CategoryOf(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool IsHan(char32_t c) {
  return c == 0x3005 || c == 0x3007 || (c >= 0x2E80 && c <= 0x2FD5 && c != 0x2E9A) || (c >= 0x3021 && c <= 0x3029) ||
         (c >= 0x3038 && c <= 0x303B) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
         (c >= 0xF900 && c <= 0xFAD9) || (c >= 0x20000 && c <= 0x323AF);
}

// \w beyond the categories: letters in circles, and the two joiners.
bool IsOtherWord(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D;
}
}  // namespace

bool InClass(CharClass which, char32_t c) {
  switch (which) {
    case CharClass::kSpace:
      if (c < 128) return c == ' ' || (c >= 9 && c <= 13);
      return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
             c == 0x202F || c == 0x205F || c == 0x3000;
    case CharClass::kHan:
      return IsHan(c);
    default:
      break;
  }
  const auto k = CategoryOf(c);
  auto in = [&](utf8proc_category_t first, utf8proc_category_t last) { return k >= first && k <= last; };
  switch (which) {
    case CharClass::kDecimal:
    case CharClass::kNd:
      return k == UTF8PROC_CATEGORY_ND;
    case CharClass::kWord:
      return in(UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO) || in(UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME) ||
             k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_PC || IsOtherWord(c);
    case CharClass::kLetter:
      return in(UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
    case CharClass::kLu:
      return k == UTF8PROC_CATEGORY_LU;
    case CharClass::kLl:
      return k == UTF8PROC_CATEGORY_LL;
    case CharClass::kLt:
      return k == UTF8PROC_CATEGORY_LT;
    case CharClass::kLm:
      return k == UTF8PROC_CATEGORY_LM;
    case CharClass::kLo:
      return k == UTF8PROC_CATEGORY_LO;
    case CharClass::kMark:
      return in(UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME);
    case CharClass::kMn:
      return k == UTF8PROC_CATEGORY_MN;
    case CharClass::kMc:
      return k == UTF8PROC_CATEGORY_MC;
    case CharClass::kMe:
      return k == UTF8PROC_CATEGORY_ME;
    case CharClass::kNumber:
      return in(UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
    case CharClass::kNl:
      return k == UTF8PROC_CATEGORY_NL;
    case CharClass::kNo:
      return k == UTF8PROC_CATEGORY_NO;
    case CharClass::kPunctuation:
      return in(UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
    case CharClass::kPc:
      return k == UTF8PROC_CATEGORY_PC;
    case CharClass::kPd:
      return k == UTF8PROC_CATEGORY_PD;
    case CharClass::kPs:
      return k == UTF8PROC_CATEGORY_PS;
    case CharClass::kPe:
      return k == UTF8PROC_CATEGORY_PE;
    case CharClass::kPi:
      return k == UTF8PROC_CATEGORY_PI;
    case CharClass::kPf:
      return k == UTF8PROC_CATEGORY_PF;
    case CharClass::kPo:
      return k == UTF8PROC_CATEGORY_PO;
    case CharClass::kSymbol:
      return in(UTF8PROC_CATEGORY_SM, UTF8PROC_CATEGORY_SO);
    case CharClass::kSm:
      return k == UTF8PROC_CATEGORY_SM;
    case CharClass::kSc:
      return k == UTF8PROC_CATEGORY_SC;
    case CharClass::kSk:
      return k == UTF8PROC_CATEGORY_SK;
    case CharClass::kSo:
      return k == UTF8PROC_CATEGORY_SO;
    case CharClass::kSeparator:
      return in(UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_ZP);
    case CharClass::kZs:
      return k == UTF8PROC_CATEGORY_ZS;
    case CharClass::kZl:
      return k == UTF8PROC_CATEGORY_ZL;
    case CharClass::kZp:
      return k == UTF8PROC_CATEGORY_ZP;
    case CharClass::kOther:
      return in(UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO) || k == UTF8PROC_CATEGORY_CN;
    case CharClass::kCc:
      return k == UTF8PROC_CATEGORY_CC;
    case CharClass::kCf:
      return k == UTF8PROC_CATEGORY_CF;
    case CharClass::kCo:
      return k == UTF8PROC_CATEGORY_CO;
    case CharClass::kCn:
      return k == UTF8PROC_CATEGORY_CN;
    default:
      return false;
  }
}

std::optional<CharClass> CharClassOf(std::string_view name) {
  static constexpr std::pair<std::string_view, CharClass> kNames[] = {{"L", CharClass::kLetter},
                                                                      {"Letter", CharClass::kLetter},
                                                                      {"Lu", CharClass::kLu},
                                                                      {"Ll", CharClass::kLl},
                                                                      {"Lt", CharClass::kLt},
                                                                      {"Lm", CharClass::kLm},
                                                                      {"Lo", CharClass::kLo},
                                                                      {"M", CharClass::kMark},
                                                                      {"Mark", CharClass::kMark},
                                                                      {"Mn", CharClass::kMn},
                                                                      {"Mc", CharClass::kMc},
                                                                      {"Me", CharClass::kMe},
                                                                      {"N", CharClass::kNumber},
                                                                      {"Number", CharClass::kNumber},
                                                                      {"Nd", CharClass::kNd},
                                                                      {"Nl", CharClass::kNl},
                                                                      {"No", CharClass::kNo},
                                                                      {"P", CharClass::kPunctuation},
                                                                      {"Punctuation", CharClass::kPunctuation},
                                                                      {"Pc", CharClass::kPc},
                                                                      {"Pd", CharClass::kPd},
                                                                      {"Ps", CharClass::kPs},
                                                                      {"Pe", CharClass::kPe},
                                                                      {"Pi", CharClass::kPi},
                                                                      {"Pf", CharClass::kPf},
                                                                      {"Po", CharClass::kPo},
                                                                      {"S", CharClass::kSymbol},
                                                                      {"Symbol", CharClass::kSymbol},
                                                                      {"Sm", CharClass::kSm},
                                                                      {"Sc", CharClass::kSc},
                                                                      {"Sk", CharClass::kSk},
                                                                      {"So", CharClass::kSo},
                                                                      {"Z", CharClass::kSeparator},
                                                                      {"Zs", CharClass::kZs},
                                                                      {"Zl", CharClass::kZl},
                                                                      {"Zp", CharClass::kZp},
                                                                      {"C", CharClass::kOther},
                                                                      {"Cc", CharClass::kCc},
                                                                      {"Cf", CharClass::kCf},
                                                                      {"Co", CharClass::kCo},
                                                                      {"Cn", CharClass::kCn},
                                                                      {"Han", CharClass::kHan},
                                                                      {"Script=Han", CharClass::kHan},
                                                                      {"White_Space", CharClass::kSpace}};
  for (auto [known, which] : kNames)
    if (known == name) return which;
  return std::nullopt;
}

char32_t SimpleLower(char32_t c) {
  if (c < 128) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
char32_t SimpleUpper(char32_t c) {
  if (c < 128) return c >= 'a' && c <= 'z' ? c - 32 : c;
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
uint8_t CombiningClass(char32_t c) {
  return c < 0x300 ? 0 : static_cast<uint8_t>(utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class);
}

size_t Decompose(char32_t c, bool compatible, char32_t* out) {
  if (c < 0xA0) {
    out[0] = c;
    return 1;
  }
  utf8proc_int32_t buffer[32];
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  int last = 0;
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, 32, options, &last);
  if (count < 1 || count > 32) {
    out[0] = c;
    return 1;
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) out[i] = static_cast<char32_t>(buffer[i]);
  return static_cast<size_t>(count);
}

char32_t Compose(char32_t a, char32_t b) {
  if (b < 0x300) return 0;  // nothing below combines with what stands before
  utf8proc_int32_t pair[2] = {static_cast<utf8proc_int32_t>(a), static_cast<utf8proc_int32_t>(b)};
  const auto length =
      utf8proc_normalize_utf32(pair, 2, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  return length == 1 ? static_cast<char32_t>(pair[0]) : 0;
}

bool GraphemeBreak(char32_t a, char32_t b, int32_t* state) {
  utf8proc_int32_t s = *state;
  const bool out =
      utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(a), static_cast<utf8proc_int32_t>(b), &s);
  *state = s;
  return out;
}

}  // namespace tern

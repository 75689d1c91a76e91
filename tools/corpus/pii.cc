// Masks for what identifies a person or a machine: mail addresses, public IPv4 addresses, international telephone numbers, payment cards.
#include <cstring>

#include "tools/corpus/rules.h"

namespace tern::corpus {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsLocal(char c) { return IsAlnum(c) || (c != 0 && std::strchr("!#$%&'*+/=?^_`{|}~.-", c) != nullptr); }

// A stretch of the text that is replaced.
struct Span {
  size_t begin = 0, end = 0;
  bool found() const { return end > begin; }
};

// The address around the '@' at `at`: a dot-atom of at most 64 bytes, and a domain of two labels at least (RFC 5321). Not before `from`.
Span MailAt(std::string_view text, size_t at, size_t from) {
  size_t begin = at;
  while (begin > from && at - begin < 64 && IsLocal(text[begin - 1])) --begin;
  while (begin < at && !IsAlnum(text[begin])) ++begin;  // quotes and brackets around it are not part of it
  if (begin == at || text[at - 1] == '.' || text.substr(begin, at - begin).find("..") != std::string_view::npos) return {};
  size_t end = at + 1, label = end, last_good = 0;
  int labels = 0;
  while (end < text.size() && end - at <= 253 && (IsAlnum(text[end]) || text[end] == '-' || text[end] == '.')) {
    if (text[end] == '.') {
      if (end == label || text[end - 1] == '-' || text[label] == '-') break;
      ++labels;
      label = end + 1;
    } else if (IsAlnum(text[end]) && labels > 0 && text[label] != '-') {
      last_good = end + 1;
    }
    ++end;
  }
  return last_good > 0 ? Span{begin, last_good} : Span{};
}

bool IsPublicAddress(const int (&b)[4]) {
  if (b[0] == 0 || b[0] == 10 || b[0] == 127 || b[0] >= 224) return false;
  if (b[0] == 100 && b[1] >= 64 && b[1] < 128) return false;
  if (b[0] == 169 && b[1] == 254) return false;
  if (b[0] == 172 && b[1] >= 16 && b[1] < 32) return false;
  if (b[0] == 192 && (b[1] == 168 || (b[1] == 0 && (b[2] == 0 || b[2] == 2)))) return false;
  if (b[0] == 198 && (b[1] == 18 || b[1] == 19 || (b[1] == 51 && b[2] == 100))) return false;
  return !(b[0] == 203 && b[1] == 0 && b[2] == 113);
}

// Four numbers up to 255 with dots between them, at a digit that no digit or dot precedes.
Span AddressAt(std::string_view text, size_t at) {
  int bytes[4];
  size_t p = at;
  for (int i = 0; i < 4; ++i) {
    if (i > 0 && (p >= text.size() || text[p++] != '.')) return {};
    size_t digits = 0;
    int value = 0;
    while (p < text.size() && IsDigit(text[p]) && digits < 3) value = value * 10 + (text[p++] - '0'), ++digits;
    if (digits == 0 || value > 255) return {};
    bytes[i] = value;
  }
  bool more = p < text.size() && (IsDigit(text[p]) || (text[p] == '.' && p + 1 < text.size() && IsDigit(text[p + 1])));
  return more || !IsPublicAddress(bytes) ? Span{} : Span{at, p};
}

// Digits with single spaces, dots or hyphens between them: how many, and where they end. At most `most` digits.
int ReadDigits(std::string_view text, size_t at, int most, char* digits, size_t* end) {
  int n = 0;
  size_t p = at;
  *end = at;
  while (p < text.size() && n < most) {
    if (IsDigit(text[p])) {
      digits[n++] = text[p++];
      *end = p;
    } else if (n > 0 && (text[p] == ' ' || text[p] == '-' || text[p] == '.') && p + 1 < text.size() && IsDigit(text[p + 1])) {
      ++p;
    } else {
      break;
    }
  }
  return n;
}

// '+' and 8 to 15 digits (ITU-T E.164).
Span PhoneAt(std::string_view text, size_t at) {
  char digits[16];
  size_t end;
  int n = ReadDigits(text, at + 1, 16, digits, &end);
  return n >= 8 && n <= 15 && digits[0] != '0' ? Span{at, end} : Span{};
}

// 13 to 19 digits that begin as a card's do and pass its check digit (ISO/IEC 7812).
Span CardAt(std::string_view text, size_t at) {
  char digits[20];
  size_t end;
  int n = ReadDigits(text, at, 20, digits, &end);
  if (n < 13 || n > 19 || digits[0] < '3' || digits[0] > '6') return {};
  int sum = 0;
  for (int i = 0; i < n; ++i) {
    int d = digits[n - 1 - i] - '0';
    if (i % 2 == 1) d = d > 4 ? 2 * d - 9 : 2 * d;
    sum += d;
  }
  return sum % 10 == 0 ? Span{at, end} : Span{};
}

class PersonalData : public RuleSet {
 public:
  std::string_view name() const override { return "pii"; }
  std::string_view summary() const override { return "masks mail and public IP addresses, telephone and card numbers; removes nothing"; }
  std::vector<std::string_view> reasons() const override { return {}; }
  bool rewrites() const override { return true; }

  Verdict Judge(TextUnits& units) const override {
    thread_local std::string masked;
    std::string_view text = units.text();
    size_t copied = 0;
    masked.clear();
    auto mask = [&](Span span, std::string_view by) {
      masked.append(text.substr(copied, span.begin - copied));
      masked.append(by);
      copied = span.end;
    };
    for (size_t at = 0; at < text.size();) {
      char c = text[at];
      Span span;
      std::string_view by;
      if (c == '@') {
        span = MailAt(text, at, copied), by = "<EMAIL>";
      } else if (c == '+') {
        span = PhoneAt(text, at), by = "<PHONE>";
      } else if (IsDigit(c) && !(at > 0 && (IsDigit(text[at - 1]) || text[at - 1] == '.'))) {
        span = AddressAt(text, at), by = "<IP>";
        if (!span.found()) span = CardAt(text, at), by = "<CARD>";
      }
      if (span.found()) mask(span, by);
      at = span.found() ? span.end : at + 1;
    }
    if (copied == 0) return {};
    masked.append(text.substr(copied));
    units.Rewrite(masked);
    return {};
  }
};

}  // namespace

std::unique_ptr<RuleSet> MakePersonalData() { return std::make_unique<PersonalData>(); }

}  // namespace tern::corpus

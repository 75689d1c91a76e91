#include <array>

#include "tools/corpus/rules.h"

namespace tern::corpus {
namespace {

enum ByteKind : uint8_t { kOtherByte = 0, kWordByte = 1, kLookAtByte };  // a full stop and its kin, or not ASCII

constexpr std::array<uint8_t, 256> MakeByteKinds() {
  std::array<uint8_t, 256> kinds{};
  for (int b = 0; b < 256; ++b) {
    bool word = (b >= '0' && b <= '9') || (b >= 'A' && b <= 'Z') || (b >= 'a' && b <= 'z');
    kinds[b] = b >= 0x80 || b == '.' || b == '!' || b == '?' ? kLookAtByte : word ? kWordByte : kOtherByte;
  }
  return kinds;
}
constexpr std::array<uint8_t, 256> kByteKinds = MakeByteKinds();

bool Ends(char32_t c) { return c == '.' || c == '!' || c == '?' || c == 0x2026 || c == 0x3002 || c == 0xff01 || c == 0xff1f; }
bool Closes(char32_t c) { return c == '"' || c == '\'' || c == ')' || c == ']' || c == '}' || c == 0x2019 || c == 0x201d || c == 0xbb; }

}  // namespace

int64_t CountSentences(std::string_view text) {
  int64_t sentences = 0;
  bool open = false;  // a letter or number stood since the last end
  for (size_t at = 0; at < text.size();) {
    uint8_t kind = kByteKinds[static_cast<unsigned char>(text[at])];
    if (kind <= kWordByte) {
      open |= kind;
      ++at;
      continue;
    }
    char32_t c = NextChar(text, &at);
    if (!Ends(c)) {
      open |= (RuleBits(c) & kLetterOrNumber) != 0;
      continue;
    }
    size_t after = at;
    while (at < text.size() && (c = NextChar(text, &after), Ends(c))) at = after;
    for (after = at; at < text.size() && (c = NextChar(text, &after), Closes(c));) at = after;
    after = at;
    bool ended = at == text.size() || (RuleBits(NextChar(text, &after)) & kBlank) != 0;
    if (ended && open) {
      ++sentences;
      open = false;
    }
  }
  return sentences + open;
}

}  // namespace tern::corpus

#include "formats/tokenizer_bytelevel.h"

#include <array>

#include "engine/base/utf8.h"

namespace tern {
namespace {

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, 512> bytes;
  Alphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t code = printable ? static_cast<char32_t>(b) : next++;
      AppendUtf8(code, &characters[static_cast<size_t>(b)]);
      bytes[code] = static_cast<int16_t>(b);
    }
  }
};
const Alphabet& Table() {
  static const auto* table = new Alphabet();
  return *table;
}

}  // namespace

std::string_view ByteLevelCharacter(uint8_t byte) {
  return Table().characters[byte];
}
int ByteOfByteLevel(char32_t c) {
  return c < 512 ? Table().bytes[c] : -1;
}

void ToByteLevel(NormalizedText* text) {
  Rewriter out(text);
  while (out.at() < text->size()) {
    const size_t begin = out.at(), bytes = DecodeUtf8(text->text, begin).bytes;
    out.Put(ByteLevelCharacter(static_cast<uint8_t>(text->text[begin])), bytes);
    for (size_t i = 1; i < bytes; ++i) out.Insert(ByteLevelCharacter(static_cast<uint8_t>(text->text[begin + i])));
  }
  out.Finish();
}

void PrependTo(NormalizedText* text, std::string_view what) {
  if (text->text.empty() || what.empty()) return;
  text->text.insert(0, what);
  if (text->tracked) text->align.insert(text->align.begin(), what.size(), Alignment(text->align[0]));
}

}  // namespace tern

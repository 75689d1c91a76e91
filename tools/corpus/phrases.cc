#include "tools/corpus/phrases.h"

#include <cstring>

namespace tern::corpus {

void LowerForPhrases(std::string_view text, std::string* lower) {
  lower->resize(text.size());
  char* out = lower->data();
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    out[i] = static_cast<char>(c + (static_cast<unsigned char>(c - 'A') < 26 ? 32 : 0));
  }
  constexpr std::string_view kKelvin = "\xe2\x84\xaa";
  size_t to = lower->find(kKelvin);
  if (to == std::string::npos) return;
  for (size_t from = to; from < lower->size();) {
    bool kelvin = lower->compare(from, kKelvin.size(), kKelvin) == 0;
    out[to++] = kelvin ? 'k' : out[from];
    from += kelvin ? kKelvin.size() : 1;
  }
  lower->resize(to);
}

bool HasPhrase(std::string_view lower, Phrase phrase) {
  if (lower.size() < phrase.text.size()) return false;
  const char* at = lower.data() + phrase.anchor;
  const char* end = lower.data() + lower.size() - (phrase.text.size() - phrase.anchor) + 1;  // behind the last place for the anchor
  while (at < end && (at = static_cast<const char*>(std::memchr(at, phrase.text[phrase.anchor], static_cast<size_t>(end - at)))) != nullptr) {
    if (std::memcmp(at - phrase.anchor, phrase.text.data(), phrase.text.size()) == 0) return true;
    ++at;
  }
  return false;
}

size_t RarestByte(std::string_view phrase) {
  constexpr std::string_view kCommonFirst = " etaoinshrdlcumwfgypbvkxjqz";
  size_t best = 0, best_rank = 0;
  for (size_t i = 0; i < phrase.size(); ++i) {
    size_t rank = kCommonFirst.find(phrase[i]);
    if (rank == std::string_view::npos) rank = kCommonFirst.size();
    if (rank > best_rank) best = i, best_rank = rank;
  }
  return best;
}

}  // namespace tern::corpus

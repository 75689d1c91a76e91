#include "tools/corpus/shingles.h"

#include <algorithm>
#include <bit>

#include "engine/base/utf8.h"
#include "tools/corpus/chars.h"

namespace tern::corpus {
namespace {

constexpr uint64_t kBase = 0x9fb21c651e98df25u;  // odd: of the polynomial over the units of a window

inline uint64_t Finish(uint64_t h, uint64_t seed) {
  h ^= seed;
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93u;
  return h ^ h >> 32;
}

// One hash per window of n units; fewer units: one hash of all. unit(i) is the i-th.
template <class Unit>
void Windows(size_t count, size_t n, uint64_t seed, Unit&& unit, std::vector<uint64_t>* out) {
  out->clear();
  if (count == 0) return;
  uint64_t power = 1, h = 0;  // power: base^n, what a unit weighs when it leaves
  for (size_t i = 0; i < n; ++i) power *= kBase;
  const size_t first = std::min(count, n);
  for (size_t i = 0; i < first; ++i) h = h * kBase + unit(i);
  if (count < n) h += count * 0x9e3779b97f4a7c15u;  // a short whole is no window of a longer text
  out->resize(count - first + 1);
  uint64_t* to = out->data();
  *to++ = Finish(h, seed);
  for (size_t i = first; i < count; ++i) {
    h = h * kBase + unit(i) - unit(i - n) * power;
    *to++ = Finish(h, seed);
  }
}

// Hashes are spread evenly: by their leading bits into as many places as there are hashes, then a little order among neighbours.
void SortHashes(std::vector<uint64_t>* hashes, std::vector<uint64_t>* other) {
  const size_t n = hashes->size();
  if (n < 64) {
    std::sort(hashes->begin(), hashes->end());
    return;
  }
  const int bits = std::min(16, static_cast<int>(std::bit_width(n)) - 1);
  std::vector<uint32_t> at((size_t{1} << bits) + 1, 0);
  for (uint64_t h : *hashes) ++at[(h >> (64 - bits)) + 1];
  for (size_t i = 1; i < at.size(); ++i) at[i] += at[i - 1];
  other->resize(n);
  for (uint64_t h : *hashes) (*other)[at[h >> (64 - bits)]++] = h;
  for (size_t begin = 0, bucket = 0; bucket + 1 < at.size(); begin = at[bucket++])
    if (at[bucket] - begin > 1) std::sort(other->begin() + static_cast<std::ptrdiff_t>(begin), other->begin() + static_cast<std::ptrdiff_t>(at[bucket]));
  hashes->swap(*other);
}

}  // namespace

void ShingleReader::Read(std::string_view text, std::vector<uint64_t>* out) {
  Word word;
  bool by_char = unit_.kind == UnitKind::kChar;
  size_t words = 0;
  if (!by_char) {
    int64_t chars = 0, unspaced = 0;
    words_.Reset(text);
    while (words_.Next(&word)) {
      if (words == word_hashes_.size()) word_hashes_.resize(2 * words + 64);
      word_hashes_[words++] = HashWord(word.text, seed_);
      if (word.ascii) {
        chars += static_cast<int64_t>(word.text.size());
        continue;
      }
      for (size_t i = 0; i < word.text.size(); ++chars) {
        if (static_cast<unsigned char>(word.text[i]) < 0x80) {
          ++i;
          continue;
        }
        Utf8Char c = DecodeUtf8(word.text, i);
        unspaced += (CharBits(c.code) & kUnspaced) != 0;
        i += c.bytes;
      }
    }
    by_char = unit_.kind == UnitKind::kAuto && 2 * unspaced > chars;
  }
  const bool automatic = unit_.kind == UnitKind::kAuto;
  if (!by_char) {
    size_t n = automatic ? 5 : static_cast<size_t>(unit_.n);
    return Windows(words, n, seed_, [hashes = word_hashes_.data()](size_t i) { return hashes[i]; }, out);
  }
  joined_.clear();
  AppendJoined(text, words_, &joined_);
  codes_.clear();
  for (size_t i = 0; i < joined_.size();) {
    Utf8Char c = DecodeUtf8(joined_, i);
    codes_.push_back(c.code);
    i += c.bytes;
  }
  size_t n = automatic ? 8 : static_cast<size_t>(unit_.n);
  Windows(codes_.size(), n, seed_, [&](size_t i) { return (codes_[i] + 1) * uint64_t{0x9e3779b97f4a7c15u}; }, out);
}

void ShingleReader::ReadSet(std::string_view text, std::vector<uint64_t>* out) {
  Read(text, out);
  SortHashes(out, &sorted_);
  out->erase(std::unique(out->begin(), out->end()), out->end());
}

double Jaccard(const uint64_t* a, int64_t a_size, const uint64_t* b, int64_t b_size, double least) {
  const int64_t both = a_size + b_size;
  auto ratio = [&](int64_t common) { return static_cast<double>(common) / static_cast<double>(both - common); };
  int64_t i = 0, j = 0, common = 0;
  while (i < a_size && j < b_size) {
    // Rounding is monotone: if even all that is left in common gives a ratio below `least`, so does less.
    if (ratio(common + std::min(a_size - i, b_size - j)) < least) return -1;
    for (int step = 0; step < 64 && i < a_size && j < b_size; ++step) {
      uint64_t x = a[i], y = b[j];
      common += x == y;
      i += x <= y;
      j += y <= x;
    }
  }
  return ratio(common);
}

}  // namespace tern::corpus

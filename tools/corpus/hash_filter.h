// HashFilter: answers "may this hash be in the set?" with one look at one word: two bits of a 64-bit word a hash, 16 bits a member. About two of a hundred
// strangers pass; members always do.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace tern::corpus {

class HashFilter {
 public:
  void Reset(size_t members) {
    size_t words = std::bit_ceil(std::max<size_t>(members / 4, 16));
    words_.assign(words, 0);
    shift_ = 64 - std::countr_zero(words);
  }
  void Add(uint64_t hash) { words_[hash >> shift_] |= Bits(hash); }
  bool MayHold(uint64_t hash) const { return (words_[hash >> shift_] & Bits(hash)) == Bits(hash); }

 private:
  // The lowest bits choose; the word is chosen by the highest.
  static uint64_t Bits(uint64_t hash) { return uint64_t{1} << (hash & 63) | uint64_t{1} << (hash >> 6 & 63); }
  std::vector<uint64_t> words_ = std::vector<uint64_t>(16);
  int shift_ = 60;
};

}  // namespace tern::corpus

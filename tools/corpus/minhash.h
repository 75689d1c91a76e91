// MinHash: bands x rows minima of a document's shingles, and one key per band; documents that share a key are candidates. (Broder 1997; Indyk and Motwani
// 1998.) The functions are fixed by the seed: the same documents give the same candidates everywhere.
#pragma once

#include <cstdint>
#include <vector>

namespace tern::corpus {

class MinHasher {
 public:
  MinHasher(int bands, int rows, uint64_t seed);
  int bands() const { return bands_; }
  // keys[0, bands): of a non-empty list of shingle hashes (repeats do no harm). Thread-safe with separate `scratch`.
  struct Scratch {
    std::vector<uint32_t> x, minima;
  };
  void Keys(const std::vector<uint64_t>& shingles, Scratch* scratch, uint64_t* keys) const;

 private:
  int bands_, rows_;
  uint64_t seed_;
  std::vector<uint32_t> multipliers_, addends_;  // one pair a slot: x -> multiplier * x + addend mod 2^32; padded
};

}  // namespace tern::corpus

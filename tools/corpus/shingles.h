// Shingles: the set of N-word or N-character windows of a document, as 64-bit hashes (specification 12.3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/corpus/dedup.h"
#include "tools/corpus/words.h"

namespace tern::corpus {

// One thread.
class ShingleReader {
 public:
  ShingleReader(ShingleUnit unit, uint64_t seed) : unit_(unit), seed_(seed) {}
  // The windows of `text` in order, repeats included; none if the text has no words. kAuto: five words, or eight characters when more than half of the
  // word characters belong to scripts written without spaces. Fewer units than a window has: one shingle, the whole.
  void Read(std::string_view text, std::vector<uint64_t>* out);
  // The same as a set: sorted, each once.
  void ReadSet(std::string_view text, std::vector<uint64_t>* out);

 private:
  ShingleUnit unit_;
  uint64_t seed_;
  WordReader words_;
  std::vector<uint64_t> word_hashes_, sorted_;
  std::string joined_;
  std::vector<uint32_t> codes_;
};

// |a and b| / |a or b| of two sets, or a value below `least` as soon as it cannot be reached. Both sorted, not both empty.
double Jaccard(const uint64_t* a, int64_t a_size, const uint64_t* b, int64_t b_size, double least);

}  // namespace tern::corpus

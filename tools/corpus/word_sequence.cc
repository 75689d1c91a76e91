#include "tools/corpus/word_sequence.h"

#include "tools/corpus/chars.h"

namespace tern::corpus {

void WordSequence::Read(std::string_view text, uint64_t seed) {
  if (seed != seed_ || base_ == 1) {
    seed_ = seed;
    base_ = HashPair(1, 2, seed) | 1;
    for (uint32_t c = 0; c < 128; ++c) char_hash_[c] = HashPair(c, 0, seed);
  }
  joined_.clear();
  begins_.clear();
  raw_begins_.clear();
  raw_ends_.clear();
  hashes_.clear();
  hash_ = 0;
  Word word;
  for (reader_.Reset(text); reader_.Next(&word);) {
    begins_.push_back(static_cast<uint32_t>(joined_.size()));
    raw_begins_.push_back(static_cast<uint32_t>(word.begin));
    raw_ends_.push_back(static_cast<uint32_t>(word.end));
    uint64_t h = HashWord(word.text, seed);
    hashes_.push_back(h);
    hash_ = HashPair(hash_ + 1, h, seed);
    joined_.append(word.text);
  }
  begins_.push_back(static_cast<uint32_t>(joined_.size()));
  chars_ = CountCodePoints(joined_);
}

}  // namespace tern::corpus

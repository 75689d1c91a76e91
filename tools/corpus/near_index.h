// NearIndex: finds, among a small set of documents, those that a given document resembles: Jaccard similarity of shingle sets of at least a threshold, none
// missed. A document A with J(A, B) >= t shares at least t |A| shingles with B, so any |A| - ceil(t |A|) + 1 of A's shingles hold one of B's: only those
// are indexed, the rarest of A.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tools/corpus/hash_filter.h"

namespace tern::corpus {

class NearIndex {
 public:
  explicit NearIndex(double threshold) : threshold_(threshold) {}

  // `set` is sorted, each once; an empty set resembles nothing. Returns the document's number.
  int64_t Add(const std::vector<uint64_t>& set);
  void Finish();

  struct Match {
    int64_t document;
    double similarity;
  };
  // Room for Find, one a thread.
  struct Scratch {
    std::vector<int64_t> candidates;
    std::vector<uint64_t> set;
  };
  // The documents that resemble the one with these shingles (in any order, repeats allowed), by number. Thread-safe.
  void Find(const std::vector<uint64_t>& shingles, Scratch* scratch, std::vector<Match>* matches) const;

 private:
  double threshold_;
  std::vector<uint64_t> shingles_;
  std::vector<int64_t> begins_ = {0};
  std::unordered_map<uint64_t, std::vector<int64_t>> index_;
  HashFilter filter_;
};

}  // namespace tern::corpus

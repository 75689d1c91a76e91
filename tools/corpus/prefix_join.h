// PrefixJoin: which sets of a large group can reach a Jaccard similarity with a given one. (Prefix filtering: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma
// and Srikant 2007.) Elements are ordered by how rare they are in the group; two sets that are alike enough share one among the first few of each. So a
// boilerplate that all members share costs nothing, and no pair is missed.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/shingle_sets.h"

namespace tern::corpus {

class PrefixJoin {
 public:
  // `entries`: of `sets`, ascending, each once. They are read twice here.
  static Result<PrefixJoin> Build(ShingleSets* sets, const std::vector<uint32_t>& entries, double threshold);
  // Places in `entries` of sets that may reach the threshold with entries[place], itself not among them; each once, in any order. One thread.
  void Candidates(size_t place, std::vector<uint32_t>* out);

 private:
  std::vector<std::vector<uint64_t>> prefixes_;
  std::unordered_map<uint64_t, std::vector<uint32_t>> places_of_;
  std::vector<uint32_t> seen_by_;  // per place: the last query that found it, plus one
};

// The least size of a set that can reach `threshold` with one of `size` (a little below, for rounding).
int64_t LeastPartnerSize(int64_t size, double threshold);

}  // namespace tern::corpus

#include "tools/corpus/prefix_join.h"

#include <algorithm>
#include <cmath>

namespace tern::corpus {

int64_t LeastPartnerSize(int64_t size, double threshold) {
  // |a and b| >= t |a or b| >= t max(|a|, |b|); the slack covers the rounding of the product and of the division that is tested in the end.
  return static_cast<int64_t>(std::ceil(threshold * static_cast<double>(size) * (1 - 1e-12) - 1e-9));
}

Result<PrefixJoin> PrefixJoin::Build(ShingleSets* sets, const std::vector<uint32_t>& entries, double threshold) {
  PrefixJoin join;
  std::unordered_map<uint64_t, uint32_t> uses;
  std::vector<uint64_t> buffer;
  for (uint32_t e : entries) {
    TERN_ASSIGN(const uint64_t* set, sets->Get(e, &buffer));
    for (int64_t i = 0; i < sets->SizeOf(e); ++i) ++uses[set[i]];
  }
  std::vector<std::pair<uint32_t, uint64_t>> ranked;
  join.prefixes_.resize(entries.size());
  join.seen_by_.assign(entries.size(), 0);
  for (size_t place = 0; place < entries.size(); ++place) {
    const int64_t size = sets->SizeOf(entries[place]);
    TERN_ASSIGN(const uint64_t* set, sets->Get(entries[place], &buffer));
    ranked.clear();
    for (int64_t i = 0; i < size; ++i) ranked.emplace_back(uses[set[i]], set[i]);
    // If two sets share at least `least` elements, they share one among the first size - least + 1 of each in any common order.
    const int64_t least = std::max<int64_t>(1, LeastPartnerSize(size, threshold));
    const size_t length = static_cast<size_t>(std::min(size, size - least + 1));
    std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(length), ranked.end());
    for (size_t i = 0; i < length; ++i) {
      if (ranked[i].first < 2) continue;  // nobody else has it
      join.prefixes_[place].push_back(ranked[i].second);
      join.places_of_[ranked[i].second].push_back(static_cast<uint32_t>(place));
    }
  }
  return join;
}

void PrefixJoin::Candidates(size_t place, std::vector<uint32_t>* out) {
  out->clear();
  const uint32_t query = static_cast<uint32_t>(place) + 1;
  seen_by_[place] = query;
  for (uint64_t element : prefixes_[place]) {
    for (uint32_t other : places_of_.find(element)->second) {
      if (seen_by_[other] == query) continue;
      seen_by_[other] = query;
      out->push_back(other);
    }
  }
}

}  // namespace tern::corpus

// Filters at search time: what may be found, whatever is near. More is fetched than is wanted and then sifted; where too little remains, more still, in the
// end everything.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/retrieval/database.h"

namespace tern {

// The longest run of tokens that stands in both.
int64_t LongestCommonRun(std::span<const int32_t> a, std::span<const int32_t> b);

struct SearchFilter {
  std::vector<int64_t> documents;    // these are not found
  std::vector<std::string> sources;  // nor what came from these, as the database names them
  bool one_per_document = false;
  // Of leakage: a chunk is left out if a run of its tokens that stands in the prompt is longer than this share of the shorter of the two. 1: all may be found.
  double max_overlap = 1;
  // Of near-duplicates one is found, the nearest: a chunk is left out if it has such a run with one that is found already. 1: all may be found.
  double max_repeat = 1;
  std::function<Status(int64_t chunk, std::vector<int32_t>* ids)> tokens;  // wanted by the last two

  bool needs_tokens() const { return max_overlap < 1 || max_repeat < 1; }
};

// Immutable; thread-safe if filter.tokens is. Lives no longer than the database.
class FilteredSearch {
 public:
  FilteredSearch(const Database& database, SearchFilter filter);
  // As Database::Find for one query; `prompt` are the tokens it stands for. Exactly options.k hits, id -1 where there are no more.
  Result<std::vector<SearchHit>> Find(std::span<const float> query, std::span<const int32_t> prompt, SearchOptions options, int64_t nprobe, bool exhaustive, Gang* gang) const;

 private:
  Status Sift(std::span<const int32_t> prompt, int64_t k, std::vector<SearchHit>* hits) const;

  const Database& database_;
  const SearchFilter filter_;
  std::vector<bool> denied_;  // by document; empty: none
};

}  // namespace tern

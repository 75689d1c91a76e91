// How good a database's fast search is: sampled chunks ask for their neighbours, and an exhaustive search knows the answer. The lists of a large database are
// built and set by that measure.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/retrieval/database.h"

namespace tern {

struct RecallFigures {
  int64_t sample = 0, k = 0;
  double recall = 0;              // share of the true k nearest that were found
  double queries_per_second = 0;
};

class RecallSample {
 public:
  // Draws `sample` chunks (all, if there are fewer) and finds the 10 nearest others of each. The truth comes from the stored rows in f32, by a search that
  // proves its result; `plain`: by a loop in double over every row, for at most as many chunks as that takes about a second - the way to check that search
  // itself. Needs memory for a piece of the rows, not for all. kCancelled.
  static Result<RecallSample> Draw(const Database& database, int64_t sample, bool plain, const CancelToken* cancel, Gang* gang);

  using Finder = std::function<Result<std::vector<SearchHit>>(std::span<const float> queries, const SearchOptions& options)>;
  Result<RecallFigures> Measure(const Finder& find) const;

 private:
  std::vector<int64_t> ids_;
  std::vector<float> queries_;
  std::vector<SearchHit> truth_;
  SearchOptions options_;
};

// Measures what the database answers with when nothing else is said, and writes it into the manifest. Over f32 rows without lists that is the proven search:
// it is compared with the plain loop.
Result<RecallFigures> CheckRecall(const Database& database, int64_t sample, const CancelToken* cancel, Gang* gang);

// Builds inverted lists for a database, whatever lists it had, and sets nprobe to the least power of two whose recall@10, over 200 sampled chunks, reaches
// `recall`.
struct ListsReport {
  int64_t lists = 0, nprobe = 0, bytes = 0;
  double recall = 0;
};
Result<ListsReport> BuildLists(const std::string& folder, const IvfOptions& options, double recall, Gang* gang);

}  // namespace tern

// Inverted lists (tier T1): rows are sorted into lists by their nearest centroid, a query looks into the lists of its nearest centroids only. The scan of a
// list and the second scoring of what it kept are those of search.h. Approximate: `index check` measures the recall. With nprobe = number of lists it is
// the exhaustive search.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/memory.h"
#include "engine/retrieval/block.h"
#include "engine/retrieval/search.h"

namespace tern {

struct IvfOptions {
  Metric metric = Metric::kCos;
  VectorType type = VectorType::kQ8;  // how rows are kept in the lists
  int64_t lists = 0;                  // 0: by the number of rows (IvfLists)
  int64_t iterations = 25;            // of k-means
  int64_t rows_per_list = 256;        // sampled for it, at most
  const CancelToken* cancel = nullptr;
};

// About 4 sqrt(rows), a power of two; never more than rows / 39, so that each has something to be trained on.
int64_t IvfLists(int64_t rows);

// Immutable; thread-safe.
class IvfAssigner;

class IvfIndex {
 public:
  ~IvfIndex();
  using ReadRow = std::function<void(int64_t id, float* out)>;  // from any thread
  // Deterministic: the same rows give the same bytes for any number of threads. kUsage without rows or with more lists than rows.
  static Result<std::shared_ptr<const IvfIndex>> Build(int64_t rows, int64_t dim, const ReadRow& read, const IvfOptions& options, Gang* gang);
  // A file of its own: magic, sizes, digest, centroids, list borders, ids, panels. Checked like a block.
  Status Save(const std::string& path) const;
  static Result<std::shared_ptr<const IvfIndex>> Open(const std::string& path);
  static Result<std::shared_ptr<const IvfIndex>> Parse(std::span<const uint8_t> bytes);

  int64_t rows() const { return static_cast<int64_t>(ids_.size()); }
  int64_t dim() const { return dim_; }
  int64_t lists() const { return static_cast<int64_t>(begin_.size()) - 1; }
  int64_t list_rows(int64_t list) const { return begin_[static_cast<size_t>(list) + 1] - begin_[static_cast<size_t>(list)]; }
  Metric metric() const { return metric_; }

  // As Search(); `rows` are those the index was built from, for the final order.
  Result<std::vector<SearchHit>> Find(const VectorSet& rows, std::span<const float> queries, int64_t nprobe, SearchOptions options, Gang* gang) const;

 private:
  IvfIndex();
  Status Layout();  // views of the lists, from begin_, ids_ and panels_

  int64_t dim_ = 0;
  Metric metric_{};
  VectorType type_{};
  std::vector<float> centroids_, squares_;  // [lists, dim]; of rows in list order
  std::vector<int64_t> begin_, ids_;        // rows of list l are begin_[l] .. begin_[l+1]-1 of ids_, ascending ids
  Region panels_;                           // each list starts at a 64-byte border of its own packed matrix
  std::unique_ptr<IvfAssigner> coarse_;     // the centroids, packed
  VectorSet set_;                           // a block per list
  std::vector<int64_t> offset_;             // of each list in panels_
};

}  // namespace tern

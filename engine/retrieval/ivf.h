// Inverted lists (tier T1): rows are sorted into lists by their nearest centroid, a query looks into the lists of its nearest centroids only; the best of what
// stands there is scored again in double from the stored rows. Approximate: `index check` measures the recall.
//
// A list keeps of its rows
//   f32   the rows themselves: with all lists probed, the exhaustive search to the last id
//   q8    what is left of them when the list's centroid is taken off (of cosine: off the row of length one), in int8
//   pq    the same remainder as a product code (pq.h), one byte for every few numbers
// The file is mapped, not read: a search touches the lists it probes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/retrieval/kmeans.h"
#include "engine/retrieval/search.h"

namespace tern {

enum class ListType : uint32_t { kF32 = 0, kQ8 = 1, kPq = 2 };
std::string_view ListTypeName(ListType type);  // "f32", "q8", "pq"
std::optional<ListType> ListTypeOf(std::string_view name);

struct IvfOptions {
  Metric metric = Metric::kCos;
  ListType type = ListType::kQ8;
  int64_t lists = 0;              // 0: by the number of rows (IvfLists)
  int64_t parts = 0;              // pq: bytes of a code, a multiple of 4; 0: DefaultParts
  int64_t iterations = 10;        // of k-means
  int64_t rows_per_list = 256;    // sampled for it, at most
  int64_t max_bytes = 0;          // the sample and the buffers stay below; 0: no limit
  const CancelToken* cancel = nullptr;
  std::function<void(std::string_view stage, int64_t done, int64_t total)> progress;  // from the calling thread
};

// About 4 sqrt(rows), a power of two; never more than rows / 39, so that each has something to be trained on.
int64_t IvfLists(int64_t rows);

// Immutable; thread-safe.
class IvfIndex {
 public:
  using ReadRow = std::function<void(int64_t id, float* out)>;  // from any thread
  // Writes the file. Deterministic: the same rows give the same bytes for any number of threads. kUsage without rows, with more lists than rows, or with
  // parts that are no multiple of 4; kMemory if max_bytes is too little; kNumeric if a row's squared length is no number or
  // does not go into a float.
  static Status Build(const std::string& path, int64_t rows, int64_t dim, const ReadRow& read, const IvfOptions& options, Gang* gang);
  // Maps the file. Header and tables are checked by their digests and one by one, the codes by Verify. kIo, kMalformed, kDigest.
  static Result<std::shared_ptr<const IvfIndex>> Open(const std::string& path);
  static Result<std::shared_ptr<const IvfIndex>> Parse(std::span<const uint8_t> bytes);  // `bytes` outlive it, 64-byte aligned
  Status Verify() const;

  int64_t rows() const { return rows_; }
  int64_t dim() const { return dim_; }
  int64_t lists() const { return lists_; }
  int64_t list_rows(int64_t list) const { return begin_[list + 1] - begin_[list]; }
  Metric metric() const { return metric_; }
  ListType type() const { return type_; }
  int64_t bytes() const { return bytes_; }

  // As Search(); `rows` are those the index was built from, for the final order. Where the probed lists hold fewer than k rows that may be found, twice as
  // many are probed, up to all.
  Result<std::vector<SearchHit>> Find(const VectorSet& rows, std::span<const float> queries, int64_t nprobe, SearchOptions options, Gang* gang) const;

 private:
  friend class IvfWriter;
  friend class ListSearcher;
  IvfIndex() = default;
  // Bytes of a list of n rows, a multiple of 64.
  static int64_t ListBytes(ListType type, int64_t n, int64_t dim, int64_t parts);
  // Where the tables begin, and the codes.
  struct Sections {
    int64_t centroids, begin, ids, squares, codebook, codes;
  };
  static Sections SectionsOf(ListType type, int64_t rows, int64_t dim, int64_t lists, int64_t parts);

  std::shared_ptr<const MappedFile> file_;
  std::string path_;
  int64_t dim_ = 0, rows_ = 0, lists_ = 0, parts_ = 0, bytes_ = 0;
  Metric metric_{};
  ListType type_{};
  uint64_t codes_digest_ = 0;
  double longest_ = 0;
  const float *squares_ = nullptr, *codebook_ = nullptr;  // |x|^2 in the order of the lists; pq
  const int64_t *begin_ = nullptr, *ids_ = nullptr;       // rows of list l are begin_[l] .. begin_[l+1]-1 of ids_, ascending ids
  std::span<const uint8_t> codes_;
  std::vector<int64_t> offset_;                           // of each list in codes_
  NearestCentroid coarse_;
};

}  // namespace tern

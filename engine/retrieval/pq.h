// Product quantiser (Jegou, Douze, Schmid 2011): a vector is cut into parts, and each part is replaced by the nearest of 256 codewords of its own - one byte.
// The inner product of a query with a coded vector is a sum of one number per part, looked up in a table.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/retrieval/kmeans.h"

namespace tern {

constexpr int64_t kCodewords = 256, kPartGroup = 4, kMostParts = 1024;

// Bytes of a code if nothing else is said: parts of four numbers, at most 96 of them.
int64_t DefaultParts(int64_t dim);
// Numbers of a part; the last parts are filled up with zeros.
constexpr int64_t PartWidth(int64_t dim, int64_t parts) { return (dim + parts - 1) / parts; }
constexpr int64_t CodebookSize(int64_t dim, int64_t parts) { return parts * PartWidth(dim, parts) * kCodewords; }

// rows [n, dim] in an order without meaning -> codebook [parts, width, 256]. parts: a multiple of 4 up to kMostParts. kCancelled, kMemory.
Result<std::vector<float>> TrainCodebook(const float* rows, int64_t n, int64_t dim, int64_t parts, const CancelToken* cancel, Gang* gang);

// Immutable; thread-safe, each thread with a Workspace of its own.
class PqEncoder {
 public:
  static Result<PqEncoder> Create(const float* codebook, int64_t dim, int64_t parts);
  Result<NearestCentroid::Workspace> MakeWorkspace() const { return words_[0].MakeWorkspace(); }
  // rows [n, dim], n <= NearestCentroid::kRowsAtOnce. Code of part p of row r: codes[(p / 4 * stride + r) * 4 + p % 4]; a list of `stride` rows holds four
  // parts of all its rows together.
  void Encode(const float* rows, int64_t n, NearestCentroid::Workspace* w, uint8_t* codes, int64_t stride) const;

 private:
  int64_t dim_ = 0;
  std::vector<NearestCentroid> words_;  // per part
};

// table [parts, 256]: inner products of q [dim] with every codeword.
void PqTable(const float* codebook, const float* q, int64_t dim, int64_t parts, float* table);
// sums [n]: the inner products of rows row .. row + n - 1 of a list of `stride` rows.
void PqScan(const float* table, int64_t parts, const uint8_t* codes, int64_t stride, int64_t row, int64_t n, float* sums);

}  // namespace tern

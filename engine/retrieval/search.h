// Exhaustive nearest-neighbour search (tier T0): every row is looked at. Inner product, squared L2 distance, cosine; ties by the lower id.
//
// Two stages. A scan in f32 or int8 (the products of engine/kernels, batches of queries) keeps the best candidates; these are scored again in double, in
// one order of sums on every machine. Over f32 rows the result is proven: as long as a row that was dropped could still belong into it, by the bound on the
// scan's rounding error, more candidates are kept. Ids and scores are the same for every number of threads and on every SIMD target.
// Over int8 rows the scan decides which rows are scored again; recall is what `index check` measures.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/parallel.h"
#include "engine/base/status.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/packed.h"

namespace tern {

enum class Metric : uint8_t { kIp, kL2, kCos };
std::string_view MetricName(Metric metric);                       // "ip", "l2", "cos"
std::optional<Metric> MetricOf(std::string_view name);

// One stretch of rows, ids first .. first + rows - 1. Views; the memory belongs to somebody else.
struct VectorBlock {
  int64_t first = 0, rows = 0;
  const float* f32 = nullptr;         // [rows, dim], row after row; or
  PackedMatrix packed;                // panels, f32 or int8
  const uint16_t* f16 = nullptr;      // [rows, dim]: what int8 rows are scored again with
  const float* squares = nullptr;     // [rows]: |x|^2
};

struct VectorSet {
  int64_t dim = 0;
  std::vector<VectorBlock> blocks;    // in order of ids, without gaps
  double longest = 0;                 // the largest |x|
  int64_t rows() const { return blocks.empty() ? 0 : blocks.back().first + blocks.back().rows; }
};

// |x|^2 of every row, summed in double. kNumeric naming the first row that holds a NaN or infinity (or overflows).
Status RowSquares(const float* rows, int64_t count, int64_t dim, Gang* gang, float* squares);

struct SearchHit {
  int64_t id = -1;   // -1: there are fewer rows than were asked for
  float score = 0;   // inner product or cosine: larger is nearer; l2: the squared distance, smaller is nearer
  friend bool operator==(const SearchHit&, const SearchHit&) = default;
};

struct SearchOptions {
  Metric metric = Metric::kCos;
  int64_t k = 10;
  // Rows that may be found; empty: all. Asked from several threads at once, for candidates only. (query number, id)
  std::function<bool(int64_t query, int64_t id)> allowed;
  int64_t candidates = 0;             // kept by the scan; 0: chosen
  const KernelTable* kernels = nullptr;  // null: the chosen ones
  const CancelToken* cancel = nullptr;
};

// queries [Q, dim] -> [Q * k] hits, best first. kUsage for sizes, kNumeric for a query that is not finite, kCancelled.
Result<std::vector<SearchHit>> Search(const VectorSet& set, std::span<const float> queries, const SearchOptions& options, Gang* gang);

}  // namespace tern

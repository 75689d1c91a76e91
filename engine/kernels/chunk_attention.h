// Attention of chunks over neighbouring chunks: Reformer's local and hashed (LSH) layers (Kitaev et al. 2020), with the public implementation's masks and
// rounding. Nothing of size length x length exists; the work of a token does not depend on the length.
//
// A sequence of S tokens is laid out in `rounds` orders one behind the other (one order, the identity, for local attention), cut into chunks; the queries of
// chunk c see the keys of chunks c - before .. c + after, counted around the end. Keys that appear twice count twice, as published.
//
// Masks are values, not absences: a key that may not be seen gets the score -1e9, the query's own token (exclude_self) -1e5. The log of the sum of
// exponentials L is rounded to f32 and the weights are exp(score - L): near -1e5, where f32 has steps of 2^-7, this is what the public numbers depend on.
//
// Errors: none; sizes are the caller's to check. Single-threaded, allocates nothing, thread-safe. A query's bits do not depend on how chunks are split.
#pragma once

#include <cstdint>

namespace tern {

struct KernelTable;

struct ChunkKernels {
  // One query's scores over n keys, in place: masked (see above: key j may be seen iff visible_from[j] <= query; positions[j] == query is the query itself),
  // then exp(score - L). *lse = L. n >= 1. NaN spreads over the row.
  void (*chunk_softmax)(float* scores, const int32_t* positions, const int32_t* visible_from, int64_t n, int32_t query, bool exclude_self, float* lse);
  // The nearest of the 2n axes: the index of the largest of [x, -x], the lowest on ties (Andoni et al. 2015). In [0, 2n) whatever x is. n >= 1.
  int32_t (*nearest_axis)(const float* x, int64_t n);
};

// One head of one sequence. Strides in floats; row t of q, k, v belongs to token t.
struct ChunkAttention {
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  int64_t head_width = 0;
  int64_t length = 0;                  // S, a multiple of chunk
  int64_t chunk = 0, before = 0, after = 0;
  int64_t rounds = 1;
  const int32_t* order = nullptr;      // [rounds * S] token at each place; null: the identity, rounds = 1
  float scale = 1;                     // of keys
  const float* key_scale = nullptr;    // [S] more of it, or null
  const uint8_t* masked = nullptr;     // [S] not 0: the token is no key; or null
  bool causal = false, exclude_self = false;
  float* out = nullptr;                // token t of round r: out + r * round_stride + t * out_stride; may be q if order is null
  int64_t out_stride = 0, round_stride = 0;
  float* lse = nullptr;                // [rounds * S], token t of round r at r * S + t; or null

  int64_t chunks() const { return rounds * length / chunk; }
};

// Bytes of scratch of one running AttendChunks.
int64_t ChunkWorkspaceBytes(int64_t head_width, int64_t chunk, int64_t before, int64_t after);

// Queries of chunks [begin, end) of chunks(). workspace: 64-byte aligned.
void AttendChunks(const KernelTable& kernels, const ChunkAttention& a, int64_t begin, int64_t end, void* workspace);

// A stable sort by counting: order[i] = the i-th token of ids [n], 0 <= ids < buckets. counts: [buckets + 1], overwritten.
void SortByBucket(const int32_t* ids, int64_t n, int64_t buckets, int32_t* counts, int32_t* order);

// Joins the rounds of tokens [begin, end): out_t = sum_r exp(lse_r - L) o_r, L = log sum_r exp(lse_r) rounded to f32. o: [rounds][S][width], lse: [rounds][S].
void MergeRounds(const KernelTable& kernels, const float* o, const float* lse, int64_t rounds, int64_t length, int64_t width, int64_t begin, int64_t end,
                 float* out, int64_t out_stride);

}  // namespace tern

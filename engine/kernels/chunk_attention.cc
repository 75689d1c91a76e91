#include "engine/kernels/chunk_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/checked.h"
#include "engine/kernels/kernels.h"

namespace tern {
namespace {

constexpr int64_t kQueryRows = 64;  // queries whose scores are alive at once: 64 x 512 of them fit the second-level cache

constexpr int32_t kNeverVisible = std::numeric_limits<int32_t>::max(), kAlwaysVisible = std::numeric_limits<int32_t>::min();

// A chunk of keys, packed for the products.
struct KeyChunk {
  float *k, *v;                // panels of [chunk, d] and of its transpose
  int32_t *positions, *from;   // [chunk]
};

// The scratch of one call; over nothing it measures.
struct Layout {
  Layout(uint8_t* base, int64_t d, int64_t chunk, int64_t keys_of_query) : base_(base), d_(d), chunk_(chunk) {
    slots_begin_ = bytes_;
    slot_bytes_ = RoundUp(PackedBytes(DType::f32, chunk, d).value_or(0), 64) + RoundUp(PackedBytes(DType::f32, d, chunk).value_or(0), 64) + 2 * RoundUp(chunk * 4, 64);
    bytes_ += slot_bytes_ * keys_of_query;
    tile = Take<float>(chunk * d);
    queries = Take<float>(std::min(chunk, kQueryRows) * d);
    results = Take<float>(std::min(chunk, kQueryRows) * d);
    scores = Take<float>(std::min(chunk, kQueryRows) * keys_of_query * chunk);
    positions = Take<int32_t>(keys_of_query * chunk);
    from = Take<int32_t>(keys_of_query * chunk);
  }
  KeyChunk Slot(int64_t i) const {
    uint8_t* at = base_ + slots_begin_ + i * slot_bytes_;
    KeyChunk s;
    s.k = reinterpret_cast<float*>(at), at += RoundUp(PackedBytes(DType::f32, chunk_, d_).value_or(0), 64);
    s.v = reinterpret_cast<float*>(at), at += RoundUp(PackedBytes(DType::f32, d_, chunk_).value_or(0), 64);
    s.positions = reinterpret_cast<int32_t*>(at), at += RoundUp(chunk_ * 4, 64);
    s.from = reinterpret_cast<int32_t*>(at);
    return s;
  }
  int64_t bytes() const { return bytes_; }

  float *tile, *queries, *results, *scores;
  int32_t *positions, *from;

 private:
  template <class T>
  T* Take(int64_t count) {
    uint8_t* at = base_ ? base_ + bytes_ : nullptr;
    bytes_ += RoundUp(count * static_cast<int64_t>(sizeof(T)), 64);
    return reinterpret_cast<T*>(at);
  }
  uint8_t* base_;
  int64_t d_, chunk_, bytes_ = 0, slots_begin_, slot_bytes_;
};

class Runner {
 public:
  Runner(const KernelTable& kernels, const ChunkAttention& a, void* workspace)
      : kernels_(kernels), a_(a), keys_of_query_(a.before + 1 + a.after), w_(static_cast<uint8_t*>(workspace), a.head_width, a.chunk, keys_of_query_) {}

  void Run(int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      // The window slides: only its newest chunk is packed anew.
      for (int64_t u = c == begin ? c - a_.before : c + a_.after; u <= c + a_.after; ++u) Pack(u, w_.Slot(SlotOf(u)));
      for (int64_t j = 0; j < keys_of_query_; ++j) {
        const KeyChunk slot = w_.Slot(SlotOf(c - a_.before + j));
        std::memcpy(w_.positions + j * a_.chunk, slot.positions, static_cast<size_t>(a_.chunk) * 4);
        std::memcpy(w_.from + j * a_.chunk, slot.from, static_cast<size_t>(a_.chunk) * 4);
      }
      if (c + 1 < end) Fetch(c + 1 + a_.after);
      for (int64_t q = 0; q < a_.chunk; q += kQueryRows) Queries(c, q, std::min(kQueryRows, a_.chunk - q));
    }
  }

 private:
  int64_t SlotOf(int64_t u) const { return (u % keys_of_query_ + keys_of_query_) % keys_of_query_; }
  int64_t TokenAt(int64_t place) const { return a_.order ? a_.order[place] : place; }

  // Chunk u counted around the end, as keys.
  void Pack(int64_t u, const KeyChunk& slot) const {
    const int64_t d = a_.head_width, chunks = a_.chunks(), first = (u % chunks + chunks) % chunks * a_.chunk;
    for (int64_t i = 0; i < a_.chunk; ++i) {
      const int64_t t = TokenAt(first + i);
      kernels_.scale(a_.k + t * a_.k_stride, a_.key_scale ? a_.scale * a_.key_scale[t] : a_.scale, d, w_.tile + i * d);
      slot.positions[i] = static_cast<int32_t>(t);
      slot.from[i] = a_.masked && a_.masked[t] ? kNeverVisible : a_.causal ? static_cast<int32_t>(t) : kAlwaysVisible;
    }
    kernels_.pack_rows(w_.tile, d, a_.chunk, d, slot.k);
    if (!a_.order) return kernels_.pack_columns(a_.v + first * a_.v_stride, a_.v_stride, d, a_.chunk, slot.v);
    for (int64_t i = 0; i < a_.chunk; ++i) std::memcpy(w_.tile + i * d, a_.v + slot.positions[i] * a_.v_stride, static_cast<size_t>(d) * 4);
    kernels_.pack_columns(w_.tile, d, d, a_.chunk, slot.v);
  }

  // Rows of the chunk that is packed next come from all over the sequence: fetched while this one is computed.
  void Fetch(int64_t u) const {
    if (!a_.order) return;
    const int64_t chunks = a_.chunks(), first = (u % chunks + chunks) % chunks * a_.chunk;
    for (int64_t i = 0; i < a_.chunk; ++i) {
      const int64_t t = a_.order[first + i];
      for (int64_t x = 0; x < a_.head_width; x += 16) {
        __builtin_prefetch(a_.k + t * a_.k_stride + x, 0, 2);
        __builtin_prefetch(a_.v + t * a_.v_stride + x, 0, 2);
      }
    }
  }

  // Queries [q, q + rows) of chunk c.
  void Queries(int64_t c, int64_t q, int64_t rows) const {
    const int64_t d = a_.head_width, keys = keys_of_query_ * a_.chunk, place = c * a_.chunk + q;
    const float* x = a_.q + place * a_.q_stride;
    int64_t x_stride = a_.q_stride;
    if (a_.order) {
      for (int64_t i = 0; i < rows; ++i) std::memcpy(w_.queries + i * d, a_.q + TokenAt(place + i) * a_.q_stride, static_cast<size_t>(d) * 4);
      x = w_.queries, x_stride = d;
    }
    for (int64_t j = 0; j < keys_of_query_; ++j) Product(x, x_stride, rows, w_.Slot(SlotOf(c - a_.before + j)).k, a_.chunk, d, false, w_.scores + j * a_.chunk, keys);
    const int64_t round = place / a_.length;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t t = TokenAt(place + i);
      float lse;
      kernels_.chunk_softmax(w_.scores + i * keys, w_.positions, w_.from, keys, static_cast<int32_t>(t), a_.exclude_self, &lse);
      if (a_.lse) a_.lse[round * a_.length + t] = lse;
    }
    float* y = a_.order ? w_.results : a_.out + place * a_.out_stride;
    const int64_t y_stride = a_.order ? d : a_.out_stride;
    for (int64_t j = 0; j < keys_of_query_; ++j) Product(w_.scores + j * a_.chunk, keys, rows, w_.Slot(SlotOf(c - a_.before + j)).v, d, a_.chunk, j > 0, y, y_stride);
    if (!a_.order) return;
    for (int64_t i = 0; i < rows; ++i)
      std::memcpy(a_.out + round * a_.round_stride + TokenAt(place + i) * a_.out_stride, w_.results + i * d, static_cast<size_t>(d) * 4);
  }

  void Product(const float* x, int64_t ldx, int64_t m, const float* w, int64_t n, int64_t k, bool accumulate, float* y, int64_t ldy) const {
    GemmCall g;
    g.x = x, g.ldx = ldx, g.m = m;
    g.w = {w, DType::f32, n, k};
    g.panel_end = g.w.panels();
    g.accumulate = accumulate;
    g.y = y, g.ldy = ldy;
    kernels_.gemm(g);  // without scratch: rows as narrow as a head are not packed
  }

  const KernelTable& kernels_;
  const ChunkAttention& a_;
  const int64_t keys_of_query_;
  const Layout w_;
};

}  // namespace

int64_t ChunkWorkspaceBytes(int64_t head_width, int64_t chunk, int64_t before, int64_t after) { return Layout(nullptr, head_width, chunk, before + 1 + after).bytes(); }

void AttendChunks(const KernelTable& kernels, const ChunkAttention& a, int64_t begin, int64_t end, void* workspace) { Runner(kernels, a, workspace).Run(begin, end); }

void SortByBucket(const int32_t* ids, int64_t n, int64_t buckets, int32_t* counts, int32_t* order) {
  std::fill_n(counts, buckets + 1, 0);
  for (int64_t i = 0; i < n; ++i) ++counts[ids[i] + 1];
  for (int64_t b = 0; b < buckets; ++b) counts[b + 1] += counts[b];
  for (int64_t i = 0; i < n; ++i) order[counts[ids[i]]++] = static_cast<int32_t>(i);
}

void MergeRounds(const KernelTable& kernels, const float* o, const float* lse, int64_t rounds, int64_t length, int64_t width, int64_t begin, int64_t end,
                 float* out, int64_t out_stride) {
  for (int64_t t = begin; t < end; ++t) {
    float most = lse[t];
    for (int64_t r = 1; r < rounds; ++r) most = std::max(most, lse[r * length + t]);
    float sum = 0;
    for (int64_t r = 0; r < rounds; ++r) sum += std::exp(lse[r * length + t] - most);
    const float all = most + std::log(sum);
    float* row = out + t * out_stride;
    for (int64_t r = 0; r < rounds; ++r) {
      const float weight = std::exp(lse[r * length + t] - all);
      const float* from = o + (r * length + t) * width;
      if (r == 0) kernels.scale(from, weight, width, row);
      else kernels.add_scaled(from, weight, width, row);
    }
  }
}

}  // namespace tern

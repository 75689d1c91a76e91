#include "engine/runtime/lsh_attention.h"

#include <algorithm>
#include <cmath>

#include "engine/runtime/carve.h"

namespace tern {
namespace {

constexpr int64_t kHashRows = 64;       // rows rotated at once
constexpr int64_t kChunksAtOnce = 8;    // of one claim: the neighbours before the first are packed again, so not too few

// One layout for measuring and for placing.
struct Scratch {
  Scratch(uint8_t* base, const LshSpec& spec, int64_t length, int threads) {
    Carve carve(base);
    const int64_t directions = spec.num_hashes * MostDirections(spec, length), entries = spec.num_hashes * length;
    panels = carve.Take<float>(PackedBytes(DType::f32, directions, spec.head_width).value_or(0) / 4);
    rotated = carve.Take<float>(threads * kHashRows * RoundUp(directions, 16));
    ids = carve.Take<int32_t>(entries);
    order = carve.Take<int32_t>(entries);
    counts = carve.Take<int32_t>(spec.num_hashes * RoundUp(MostBuckets(spec, length) + 2, 16));
    key_scale = carve.Take<float>(length);
    lse = carve.Take<float>(entries);
    if (spec.num_hashes > 1) rounds = carve.Take<float>(entries * spec.head_width);
    workspace_bytes = length <= spec.chunk ? ChunkWorkspaceBytes(spec.head_width, length, 0, 0) : ChunkWorkspaceBytes(spec.head_width, spec.chunk, spec.before, spec.after);
    workspace = carve.Take<uint8_t>(workspace_bytes * threads);
    bytes = carve.bytes();
  }
  float *panels, *rotated, *key_scale, *lse, *rounds = nullptr;
  int32_t *ids, *order, *counts;
  uint8_t* workspace;
  int64_t workspace_bytes, bytes;
};

struct HeadRunner {
  Gang* gang;
  const KernelTable& kernels;
  const CancelToken* cancel;
  const LshSpec& spec;
  const LshHead& head;
  const Scratch s;

  bool cancelled() const { return cancel && cancel->cancelled(); }
  int64_t directions() const { return head.buckets.directions(); }

  void KeyScales() {
    gang->For(CeilDiv(head.length, kHashRows), [&](int64_t block, int) {
      for (int64_t t = block * kHashRows; t < std::min(head.length, (block + 1) * kHashRows); ++t)
        s.key_scale[t] = LshKeyScale(kernels, head.qk + t * head.qk_stride, spec.head_width);
    });
  }

  void Hash(int32_t* ids) {
    const int64_t all = spec.num_hashes * directions();
    kernels.pack_columns(head.rotations, all, all, spec.head_width, s.panels);
    const int32_t padding = static_cast<int32_t>(head.buckets.buckets());
    gang->For(CeilDiv(head.length, kHashRows), [&](int64_t block, int worker) {
      if (cancelled()) return;
      const int64_t begin = block * kHashRows, rows = std::min(kHashRows, head.length - begin);
      float* x = s.rotated + worker * kHashRows * RoundUp(spec.num_hashes * MostDirections(spec, head.length), 16);
      GemmCall g;
      g.x = head.qk + begin * head.qk_stride, g.ldx = head.qk_stride, g.m = rows;
      g.w = {s.panels, DType::f32, all, spec.head_width};
      g.panel_end = g.w.panels();
      g.y = x, g.ldy = all;
      kernels.gemm(g);
      for (int64_t r = 0; r < spec.num_hashes; ++r)
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t t = begin + i;
          ids[r * head.length + t] = head.masked && head.masked[t] ? padding : BucketOf(kernels, head.buckets, x + i * all + r * directions());
        }
    });
  }

  void Sort(const int32_t* ids) {
    const int64_t buckets = head.buckets.buckets() + 1;  // and one for what is masked
    gang->For(spec.num_hashes, [&](int64_t r, int) {
      SortByBucket(ids + r * head.length, head.length, buckets, s.counts + r * RoundUp(MostBuckets(spec, head.length) + 2, 16), s.order + r * head.length);
    });
  }

  ChunkAttention Attention() const {
    ChunkAttention a;
    a.q = a.k = head.qk, a.v = head.v;
    a.q_stride = a.k_stride = head.qk_stride, a.v_stride = head.v_stride;
    a.head_width = spec.head_width;
    a.length = head.length;
    a.scale = 1.0f / std::sqrt(static_cast<float>(spec.head_width)), a.key_scale = s.key_scale;
    a.masked = head.masked;
    a.causal = spec.causal, a.exclude_self = true;
    a.out = head.out, a.out_stride = head.out_stride;
    return a;
  }

  void Attend(const ChunkAttention& a) {
    gang->For(CeilDiv(a.chunks(), kChunksAtOnce), [&](int64_t part, int worker) {
      if (cancelled()) return;
      AttendChunks(kernels, a, part * kChunksAtOnce, std::min(a.chunks(), (part + 1) * kChunksAtOnce), s.workspace + worker * s.workspace_bytes);
    });
  }

  void Run(int32_t* ids) {
    KeyScales();
    ChunkAttention a = Attention();
    if (head.length <= spec.chunk) {
      a.chunk = head.length;
      return Attend(a);
    }
    if (!ids) ids = s.ids;
    Hash(ids);
    if (cancelled()) return;  // some ids were then not written
    Sort(ids);
    a.chunk = spec.chunk, a.before = spec.before, a.after = spec.after;
    a.rounds = spec.num_hashes, a.order = s.order;
    if (a.rounds == 1) return Attend(a);
    a.out = s.rounds, a.out_stride = spec.head_width, a.round_stride = head.length * spec.head_width, a.lse = s.lse;
    Attend(a);
    gang->For(CeilDiv(head.length, kHashRows), [&](int64_t block, int) {
      MergeRounds(kernels, s.rounds, s.lse, a.rounds, head.length, spec.head_width, block * kHashRows, std::min(head.length, (block + 1) * kHashRows), head.out,
                  head.out_stride);
    });
  }
};

}  // namespace

int32_t BucketOf(const KernelTable& kernels, const BucketFactors& buckets, const float* x) {
  int32_t id = 0, below = 1;
  for (int i = 0; i < buckets.count; ++i) {
    const int32_t factor = buckets.factor[static_cast<size_t>(i)];
    id += below * kernels.nearest_axis(x, factor / 2);
    below *= factor;
    x += factor / 2;
  }
  return id;
}

float LshKeyScale(const KernelTable& kernels, const float* qk, int64_t width) {
  return 1.0f / std::sqrt(kernels.dot(qk, qk, width) / static_cast<float>(width) + 1e-6f);
}

int64_t LshScratchBytes(const LshSpec& spec, int64_t length, int threads) { return Scratch(nullptr, spec, length, threads).bytes; }

void AttendLshHead(Gang* gang, const KernelTable& kernels, const CancelToken* cancel, const LshSpec& spec, const LshHead& head, uint8_t* scratch, int threads,
                   int32_t* ids) {
  HeadRunner{gang, kernels, cancel, spec, head, Scratch(scratch, spec, head.length, threads)}.Run(ids);
}

}  // namespace tern

// Exact attention by tiles with a running softmax (FlashAttention's order of work, Dao 2022/2023), for one (sequence, key/value head) at a time: full,
// causal, sliding window, key padding, additive biases (T5 buckets, ALiBi, a value per key), grouped query heads, and Transformer-XL's relative
// positions (Dai et al. 2019) without ever forming the shifted [T, S] matrix. Keys and values are f32, bf16 or f16; everything is computed in f32.
//
// How it is used, per layer:
//   1. Once per state:   KvPanels kv = MakeKvPanels(memory, positions, Dh, Dv, type);   memory has KvBytes(positions, Dh, Dv, type) bytes.
//   2. Per new chunk:    AppendKv(kv, position, n, k, k_stride, v, v_stride);            rows of the projections, head by head.
//   3. Per head:         AttentionArgs a; fill; then split the T tokens into blocks of AttentionBlockTokens(...) and, on any thread,
//                        AttentionFor(target)->attend(a, begin, end, workspace)          workspace: AttentionWorkspaceBytes(...), one per thread.
//   Encoders do the same with a scratch KvPanels that they fill from position 0.
//
// Bits: the result of one query depends only on its own position, its keys' positions and values. It is the same for every split into [begin, end), for any
// number of threads, for one call or many with one token each, and wherever the ring starts. (SIMD targets differ in the last bits.)
// What lies outside the valid keys of all queries of a call (unwritten or stale slots, even NaN) never matters. A NaN or infinity in the *value* of a key that
// is valid for one query may also reach its neighbours in the same tile of up to 14 queries; in a key or a query it stays where it belongs.
//
// Errors: none; sizes are the caller's to check. Single-threaded, allocates nothing, thread-safe as long as no one appends meanwhile.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/base/dtype.h"

namespace tern {

// Keys and values of one head in panels of 16 consecutive positions. Position p >= 0 lives in panel (p / 16) mod n_panels, at slot p mod 16:
//   K panel [Dh][16]   (position-minor: a step of the product reads 16 keys with one vector)
//   V panel [16][Dv16] (row per position, Dv16 = Dv rounded up to 16; what is past Dv is never written to the output)
// A ring that must hold the last W positions while a chunk of T is appended needs n_panels * 16 >= W + T + 15. Nothing is ever moved. Appending one token is
// Dh strided stores and one row. `k` and `v` should be 64-byte aligned. f32 panels are used in place, bf16/f16 ones are widened a key block at a time.
struct KvPanels {
  void* k = nullptr;
  void* v = nullptr;
  int64_t n_panels = 0;
  int64_t dh = 0;  // width of a key
  int64_t dv = 0;  // width of a value
  DType type = DType::f32;
  // Not null: panel x of the ring lies where panel pages[x] of `k` and `v` is ([n_panels]; rings that share a beginning name the same pages).
  const int32_t* pages = nullptr;

  int64_t panel_of(int64_t position) const {
    const int64_t x = position / 16 % n_panels;
    return pages == nullptr ? x : pages[x];
  }
};

// `positions` are rounded up to whole panels. K first, then V, both starting at a multiple of 64 bytes; the size is a multiple of 64.
int64_t KvBytes(int64_t positions, int64_t dh, int64_t dv, DType type);
KvPanels MakeKvPanels(void* memory, int64_t positions, int64_t dh, int64_t dv, DType type);

// Writes n rows k [n][dh], v [n][dv] (strides in floats) at positions position .. position+n-1; rounds to nearest even when the cache is 16-bit.
// Values wider than f16 become infinities there: use bf16 or f32 for such models. n <= 16 * n_panels.
void AppendKv(const KvPanels& kv, int64_t position, int64_t n, const float* k, int64_t k_stride, const float* v, int64_t v_stride);

// Transformer-XL: the projected distance table rk[p] = Wr R[p], p = 0..max_distance, of one head, in decreasing distance: entry x = max_distance - p sits in
// panel x / 16, slot x mod 16 of panels [Dh][16], zeros behind the last entry. Built once per layer and head; f32.
int64_t DistancePanelsBytes(int64_t max_distance, int64_t dh);
void PackDistances(const float* rk, int64_t rk_stride, int64_t max_distance, int64_t dh, float* panels);

// One (sequence, key/value head). Letters: T query tokens, G query heads that share the keys (1 = ordinary), Dh, Dv widths. Strides in floats.
// score(i, j) = scale * q_i . k_j [+ biases], softmax over the valid keys j, output row = sum_j p_j v_j; a query without any valid key gives zeros.
struct AttentionArgs {
  const float* q = nullptr;  // token t of query head g: q + t * q_stride + g * q_head_stride, [Dh]
  float* out = nullptr;      // likewise, [Dv]; may not overlap q
  int64_t q_stride = 0, q_head_stride = 0;
  int64_t out_stride = 0, out_head_stride = 0;
  int64_t n_tokens = 0;      // T
  int64_t n_heads = 1;       // G
  int64_t q_position = 0;    // absolute position of token 0; token t stands at q_position + t
  KvPanels kv;
  float scale = 1;           // usually 1 / sqrt(Dh); T5: 1

  // Valid keys of the query at position i: first_key <= j <= last_key, with `causal` also j <= i, with window > 0 also j > i - window (window keys with itself).
  int64_t first_key = 0, last_key = -1;  // inclusive; last_key < first_key: no keys. Key padding: last_key = length - 1
  bool causal = false;
  int64_t window = 0;

  // Additive biases, added to the scaled score; each is off when null. -inf is allowed.
  // relative_bias: a line per query head g, of distances d = j - i clamped to [relative_min, relative_max]:
  //   relative_bias[g * relative_head_stride + clamp(d) - relative_min]  (T5: buckets expanded into a line by the caller)
  const float* relative_bias = nullptr;
  int64_t relative_min = 0, relative_max = 0, relative_head_stride = 0;
  const float* alibi_slopes = nullptr;  // [G]: + slope * (j - i)
  const float* key_bias = nullptr;      // + key_bias[j - first_key]: finite masks as BERT adds them, or -inf

  // Transformer-XL (attn_type 0), G = 1: score = scale * ((q_i + u) . k_j + (q_i + v) . rk[min(i - j, max_distance)]), causal implied.
  const float* distances = nullptr;  // DistancePanels of this head; null = off
  int64_t max_distance = 0;          // as packed: the clamp length, or the longest distance that can occur
  const float* u = nullptr;          // [Dh] (r_w_bias)
  const float* v = nullptr;          // [Dh] (r_r_bias)

  // Optional: natural log of sum_j exp(score), token t of head g at lse[t * lse_stride + g]; -inf without keys. For merging disjoint key ranges.
  float* lse = nullptr;
  int64_t lse_stride = 1;
};

// How many tokens one call of `attend` should get: a function of the shapes only, good for the caches and for sharing over threads.
int64_t AttentionBlockTokens(int64_t n_tokens, int64_t n_heads);

// Bytes of scratch one running `attend` needs (64-byte aligned), independent of T and of the number of keys.
int64_t AttentionWorkspaceBytes(int64_t dh, int64_t dv, DType type);

struct AttentionKernels {
  // Queries of tokens [begin, end) (all G heads), 0 <= begin <= end <= n_tokens.
  void (*attend)(const AttentionArgs& args, int64_t begin, int64_t end, void* workspace);
};

// The kernels of a target that this CPU runs, by the names of KernelTargets() ("avx512", "avx2", "neon", "baseline"); null for another name.
const AttentionKernels* AttentionFor(std::string_view target);

}  // namespace tern

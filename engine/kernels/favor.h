// Random-feature (rank-m) attention, FAVOR+ (Choromanski et al. 2021), with the meaning of performer_pytorch: exp(q.k / sqrt Dh) is replaced by
// phi(q).phi(k), m positive features each, so that a row of attention needs the sums of phi(k) v^T and of phi(k) only. Linear in length, state O(m Dv).
//
// Letters: T tokens of a call, Dh width of queries and keys, Dv of values, m features, P [m, Dh] projection, c = Dh^(-1/4), r = m^(-1/2).
//   softmax       y = c P x, h = c^2 |x|^2 / 2;  phi(q) = r (exp(y - h - max_m y) + e);  phi(k) = r (exp(y - h - M) + e), M the largest y of all keys, e = 1e-4
//   relu ...      phi(x) = f(c P x) + 1e-3
//   none          phi(q) = softmax over Dh;  phi(k) = exp(k) (causal) or the softmax over positions (not causal); m = Dh, no P
//   not causal    out_i = phi(q_i) sum_j phi(k_j) v_j^T / (phi(q_i) . sum_j phi(k_j))
//   causal        out_i = phi(q_i) sum_{j<=i} phi(k_j) v_j^T / (phi(q_i) . (sum_{j<=i} phi(k_j) + 1e-6))
//
// M acts through e. In a causal call it covers every key up to the end of the call, those after position i included, as in the public code; of a
// sequence that is fed in pieces, every key seen so far. The sums are kept relative to the running M and scaled when it grows, so that no exponential
// overflows; sums of v and the count, which carry e, are kept apart and stay exact. `none`, causal, keeps a running M >= 0 for the same reason.
// A row mask takes the values of masked keys out, not the keys (public code); with mask_keys the keys too.
//
// One (sequence, head) at a time. Work is done in blocks of kFavorBlock tokens by matrix products. Single-threaded, allocates nothing, thread-safe on
// distinct states. Errors: none; sizes are the caller's to check. NaN spreads to the rows that see it.
#pragma once

#include <cstdint>
#include <string_view>

namespace tern {

struct KernelTable;

enum class FavorKernel : uint8_t { kSoftmax, kRelu, kElu1 /* elu + 1 */, kExp, kSigmoid, kNone };

struct FavorShape {
  FavorKernel kernel = FavorKernel::kSoftmax;
  bool causal = false;
  bool mask_keys = false;
  int64_t projected = 0;  // rows of P; not used by kNone
  int64_t dh = 0, dv = 0;

  int64_t features() const { return kernel == FavorKernel::kNone ? dh : projected; }
};

constexpr int64_t kFavorBlock = 64;

// P scaled by c, as rows and as panels: once per layer.
int64_t FavorProjectionBytes(int64_t features, int64_t dh);
void PackFavorProjection(const KernelTable& kernels, const float* p, int64_t ld, int64_t features, int64_t dh, float* packed);

// The running sums of one (sequence, head); 64-byte aligned, a multiple of 64 bytes, plain data that may be copied, saved and restored. Causal: zeros are an
// empty state, and the size is 4 (16 + m16 + Dv16 + m Dv16) bytes (x16: rounded up to 16).
int64_t FavorStateBytes(const FavorShape& shape);
void ResetFavor(const FavorShape& shape, void* state);

struct FavorArgs {
  const float* q = nullptr;  // [T, Dh], strides in floats
  const float* k = nullptr;  // [S, Dh]; causal: S = T
  const float* v = nullptr;  // [S, Dv]
  float* out = nullptr;      // [T, Dv]; overlaps none of them
  int64_t q_stride = 0, k_stride = 0, v_stride = 0, out_stride = 0;
  const float* projection = nullptr;  // PackFavorProjection
  const float* key_mask = nullptr;    // [S], 0: masked; or null
  int64_t key_mask_stride = 1;
};

// Scratch of one running call of the functions below, at most `tokens` long.
int64_t FavorWorkspaceBytes(const FavorShape& shape, int64_t tokens);

// Causal: adds T keys to the state and writes T rows of `out`, each seeing the keys up to its own.
void FavorCausal(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t tokens, void* state, void* workspace);

// Not causal: adds keys [0, n) to the state; then, once, Finish; then any ranges of queries, in any order, on any thread.
void FavorKeys(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t n, void* state, void* workspace);
void FavorFinishKeys(const KernelTable& kernels, const FavorShape& shape, void* state);
void FavorQueries(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t begin, int64_t end, const void* state, void* workspace);

// Its inner loops, one set per target. Sums run in fixed lanes: the same bits on every target that fuses multiply-adds.
struct FavorKernels {
  // out = exp(x - shift) + add, x <= shift; returns the sum of out.
  float (*exp_features)(const float* x, float shift, float add, int64_t n, float* out);
  // out[i] = exp(x[i] - shifts[i]), x <= shifts; returns the sum.
  float (*exp_columns)(const float* x, const float* shifts, int64_t n, float* out);
  // out = f(x) + add of a kernel other than kSoftmax and kNone; returns the sum. kExp is cut off at exp(60).
  float (*map_features)(FavorKernel kernel, const float* x, float add, int64_t n, float* out);
  // One token: s = alpha s + k v^T, out = q s. s [panels][m][16], k, q [m], v, out [16 panels]. May not overlap.
  void (*favor_step)(float* s, int64_t m, int64_t panels, float alpha, const float* k, const float* v, const float* q, float* out);
};

}  // namespace tern

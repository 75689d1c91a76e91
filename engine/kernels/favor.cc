// The order of work of random-feature attention: blocks of tokens, each a few matrix products.
#include "engine/kernels/favor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/kernels/kernels.h"

namespace tern {
namespace {

constexpr int64_t kBlock = kFavorBlock;
constexpr int64_t kFewTokens = 3;  // up to so many tokens go one by one: products of a block would mostly multiply padding
constexpr float kSoftmaxEpsilon = 1e-4f, kKernelEpsilon = 1e-3f, kDenominatorEpsilon = 1e-6f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t Up16(int64_t n) { return (n + 15) / 16 * 16; }

// Hands out 64-byte aligned arrays of floats; over nothing it measures.
class Floats {
 public:
  explicit Floats(void* base) : base_(static_cast<float*>(base)) {}
  float* Take(int64_t n) {
    float* at = base_ ? base_ + used_ : nullptr;
    used_ += Up16(n);
    return at;
  }
  int64_t bytes() const { return used_ * 4; }

 private:
  float* base_;
  int64_t used_ = 0;
};

// ---- What is kept ----

// All zero: nothing yet.
struct Header {
  float max;        // M, once `started`
  int32_t started;
  int64_t count;    // keys so far
};

struct Sums {
  Header* head;
  float* z;    // [m]   sum of phi(k), without e
  float* v;    // [Dv16] sum of v (softmax: what e adds)
  float* top;  // [m]   kNone, not causal: the largest key of each feature
  float* s;    // [Dv16 / 16][m][16] sum of phi(k) v^T, without e
  int64_t bytes;

  Sums(const FavorShape& shape, void* state) {
    Floats floats(state);
    head = reinterpret_cast<Header*>(floats.Take(16));
    z = floats.Take(shape.features());
    v = floats.Take(shape.dv);
    top = floats.Take(PerFeature(shape) ? shape.features() : 0);
    s = floats.Take(Up16(shape.dv) * shape.features());
    bytes = floats.bytes();
  }
  static bool PerFeature(const FavorShape& shape) { return shape.kernel == FavorKernel::kNone && !shape.causal; }
};

struct Scratch {
  float* keys;     // [ceil(64 / 16)][Dh][16] a block of keys, packed
  float* kt;       // [m][64] phi(k)^T of the block
  float* kt_panels;  // [4][m][16] the same, packed as a right-hand side
  float* q;        // [64][m16] phi(q)
  float* a;        // [64][64] phi(q) phi(k)^T
  float* values;   // [Dv16 / 16][64][16] packed values
  float* masked;   // [64][Dv] values without the masked ones
  float* shifts;   // [64]
  float* z;        // [m] what the block adds to z
  float* row;      // [Dv16] one row
  float *den, *sq, *tops;  // [T] per row: denominator so far, sum of phi(q), M it refers to
  uint8_t* gemm;
  int64_t bytes;

  Scratch(const FavorShape& shape, int64_t tokens, void* workspace) {
    const int64_t m = shape.features();
    Floats floats(workspace);
    keys = floats.Take(kBlock * shape.dh);
    kt = floats.Take(m * kBlock);
    kt_panels = floats.Take(m * kBlock);
    q = floats.Take(kBlock * Up16(m));
    a = floats.Take(kBlock * kBlock);
    values = floats.Take(Up16(shape.dv) * kBlock);
    masked = floats.Take(kBlock * shape.dv);
    shifts = floats.Take(kBlock);
    z = floats.Take(m);
    row = floats.Take(shape.dv);
    for (float** p : {&den, &sq, &tops}) *p = floats.Take(shape.causal ? tokens : kBlock);
    int64_t most = 0;
    for (int64_t rows : {kBlock, m})
      for (int64_t k : {shape.dh, m, kBlock}) most = std::max(most, GemmScratchBytes(DType::f32, rows, k));
    gemm = reinterpret_cast<uint8_t*>(floats.Take((most + 3) / 4));
    bytes = floats.bytes();
  }
};

// ---- One call ----

class Favor {
 public:
  Favor(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t tokens, void* state, void* workspace)
      : kernels_(kernels), shape_(shape), args_(args), sums_(shape, state), x_(shape, tokens, workspace), m_(shape.features()), m16_(Up16(m_)), dv16_(Up16(shape.dv)) {}

  void Causal(int64_t tokens) {
    for (int64_t at = 0; at < tokens; at += kBlock) {
      const int64_t n = std::min(kBlock, tokens - at);
      if (tokens > kFewTokens && !Leaps(at, n)) {
        CausalBlock(at, n);
      } else {
        for (int64_t t = at; t < at + n; ++t) Step(t);
      }
    }
    FinishRows(tokens);
  }

  void Keys(int64_t n) {
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t count = std::min(kBlock, n - at);
      KeyFeatures(at, count);
      PackValues(at, count);
      Accumulate(count);
      for (int64_t t = 0; t < count; ++t) CountKey(at + t);
    }
  }

  void FinishKeys() {
    if (shape_.kernel == FavorKernel::kSoftmax) {
      for (int64_t f = 0; f < m_; ++f) sums_.z[f] += kSoftmaxEpsilon * static_cast<float>(sums_.head->count);
      for (int64_t p = 0; p < dv16_ / 16; ++p)
        for (int64_t f = 0; f < m_; ++f) kernels_.add_scaled(sums_.v + p * 16, kSoftmaxEpsilon, 16, sums_.s + (p * m_ + f) * 16);
    }
    if (Sums::PerFeature(shape_))
      for (int64_t f = 0; f < m_; ++f) {
        ScaleFeature(f, sums_.z[f] > 0 ? 1 / sums_.z[f] : 1);
        sums_.z[f] = sums_.z[f] > 0 ? 1 : 0;
      }
  }

  void Queries(int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = std::min(kBlock, end - at);
      QueryFeatures(at, n, x_.sq);
      float* out = args_.out + at * args_.out_stride;
      Product(x_.q, m16_, n, {sums_.s, DType::f32, shape_.dv, m_}, out, args_.out_stride, false);
      for (int64_t i = 0; i < n; ++i) {
        const float den = kernels_.dot(x_.q + i * m16_, sums_.z, m_);
        kernels_.scale(out + i * args_.out_stride, den == 0 ? 0 : 1 / den, shape_.dv, out + i * args_.out_stride);
      }
    }
  }

 private:
  float c() const { return 1 / std::sqrt(std::sqrt(static_cast<float>(shape_.dh))); }
  bool relative() const { return shape_.kernel == FavorKernel::kSoftmax || shape_.kernel == FavorKernel::kNone; }  // to a running maximum
  bool Masked(int64_t t) const { return args_.key_mask && args_.key_mask[t * args_.key_mask_stride] == 0; }
  const float* Key(int64_t t) const { return args_.k + t * args_.k_stride; }
  const float* Query(int64_t t) const { return args_.q + t * args_.q_stride; }
  const float* Value(int64_t t) const { return args_.v + t * args_.v_stride; }
  // c^2 |x|^2 / 2
  float Norm(const float* x) const { return kernels_.dot(x, x, shape_.dh) * 0.5f * c() * c(); }
  const float* ProjectionRows() const { return args_.projection; }
  PackedMatrix ProjectionPanels() const { return {args_.projection + Up16(m_ * shape_.dh), DType::f32, m_, shape_.dh}; }

  // y [rows, w.n] = x w^T
  void Product(const float* x, int64_t ldx, int64_t rows, const PackedMatrix& w, float* y, int64_t ldy, bool accumulate) {
    GemmCall g;
    g.x = x, g.ldx = ldx, g.m = rows, g.w = w;
    g.panel_end = w.panels();
    g.accumulate = accumulate;
    g.y = y, g.ldy = ldy, g.scratch = x_.gemm;
    kernels_.gemm(g);
  }

  // kNone has no e that would carry rows whose keys vanish beside a later one of the same block: such a block goes token by token.
  bool Leaps(int64_t at, int64_t n) const {
    if (shape_.kernel != FavorKernel::kNone) return false;
    float max = 0;
    for (int64_t t = at; t < at + n; ++t) max = std::max(max, kernels_.max(Key(t), m_));
    return max > Max() + 30;
  }

  // M grows to `max`: what the sums hold is scaled. The first key finds nothing to scale.
  float Raise(float max) {
    const float before = Max();
    if (!(max > before)) return 1;
    sums_.head->max = max, sums_.head->started = 1;
    return before == -kInfinity ? 0 : std::exp(before - max);
  }
  // M so far; kNone's never falls below 0.
  float Max() const { return sums_.head->started ? sums_.head->max : shape_.kernel == FavorKernel::kNone ? 0 : -kInfinity; }
  void ScaleSums(float alpha) {
    if (alpha == 1) return;
    kernels_.scale(sums_.z, alpha, m_, sums_.z);
    kernels_.scale(sums_.s, alpha, m_ * dv16_, sums_.s);
  }
  void ScaleFeature(int64_t f, float alpha) {
    for (int64_t p = 0; p < dv16_ / 16; ++p) {
      float* row = sums_.s + (p * m_ + f) * 16;
      for (int64_t i = 0; i < 16; ++i) row[i] *= alpha;
    }
  }

  // phi(k)^T of keys [at, at + n) into x_.kt, their sums into x_.z.
  void KeyFeatures(int64_t at, int64_t n) {
    if (shape_.kernel == FavorKernel::kNone) {
      for (int64_t t = 0; t < n; ++t)
        for (int64_t f = 0; f < m_; ++f) x_.kt[f * kBlock + t] = Key(at + t)[f];
    } else {
      kernels_.pack_rows(Key(at), args_.k_stride, n, shape_.dh, x_.keys);
      Product(ProjectionRows(), shape_.dh, m_, {x_.keys, DType::f32, n, shape_.dh}, x_.kt, kBlock, false);
    }
    if (relative()) LeaveOut(at, n, -kInfinity);
    if (Sums::PerFeature(shape_)) return MaximaPerFeature(n);
    if (!relative()) {
      for (int64_t f = 0; f < m_; ++f) x_.z[f] = kernels_.map_features(shape_.kernel, x_.kt + f * kBlock, kKernelEpsilon, n, x_.kt + f * kBlock);
      if (LeaveOut(at, n, 0))
        for (int64_t f = 0; f < m_; ++f) x_.z[f] = kernels_.sum(x_.kt + f * kBlock, n);
      return;
    }
    float max = Max();
    for (int64_t f = 0; f < m_; ++f) max = std::max(max, kernels_.max(x_.kt + f * kBlock, n));
    ScaleSums(Raise(max));
    max = Max() == -kInfinity ? 0 : Max();  // no key counts yet
    for (int64_t t = 0; t < n; ++t) x_.shifts[t] = max + (shape_.kernel == FavorKernel::kSoftmax ? Norm(Key(at + t)) : 0);
    for (int64_t f = 0; f < m_; ++f) x_.z[f] = kernels_.exp_columns(x_.kt + f * kBlock, x_.shifts, n, x_.kt + f * kBlock);
  }

  // With mask_keys: the columns of masked keys become `value`. Whether there were any.
  bool LeaveOut(int64_t at, int64_t n, float value) {
    bool any = false;
    for (int64_t t = 0; shape_.mask_keys && t < n; ++t)
      if (Masked(at + t)) {
        any = true;
        for (int64_t f = 0; f < m_; ++f) x_.kt[f * kBlock + t] = value;
      }
    return any;
  }

  void MaximaPerFeature(int64_t n) {
    for (int64_t f = 0; f < m_; ++f) {
      float* row = x_.kt + f * kBlock;
      const float before = sums_.top[f], now = std::max(before, kernels_.max(row, n));
      if (now > before) {
        const float alpha = before == -kInfinity ? 0 : std::exp(before - now);
        sums_.top[f] = now;
        sums_.z[f] *= alpha;
        ScaleFeature(f, alpha);
      }
      x_.z[f] = kernels_.exp_features(row, now == -kInfinity ? 0 : now, 0, n, row);
    }
  }

  // Values [at, at + n) as a right-hand side, masked ones as zeros.
  void PackValues(int64_t at, int64_t n) {
    const float* from = Value(at);
    int64_t stride = args_.v_stride;
    if (args_.key_mask) {
      for (int64_t t = 0; t < n; ++t) {
        if (Masked(at + t)) std::fill_n(x_.masked + t * shape_.dv, shape_.dv, 0.0f);
        else std::memcpy(x_.masked + t * shape_.dv, Value(at + t), static_cast<size_t>(shape_.dv) * 4);
      }
      from = x_.masked, stride = shape_.dv;
    }
    kernels_.pack_columns(from, stride, shape_.dv, n, x_.values);
  }

  void Accumulate(int64_t n) {
    GemmCall g;
    g.x = x_.kt, g.ldx = kBlock, g.m = m_;
    g.w = {x_.values, DType::f32, shape_.dv, n};
    g.accumulate = true;
    g.ldy = 16, g.scratch = x_.gemm;
    for (int64_t p = 0; p < dv16_ / 16; ++p) {  // a panel of s is a matrix of its own
      g.panel_begin = p, g.panel_end = p + 1;
      g.y = sums_.s + p * 16 * (m_ - 1);
      kernels_.gemm(g);
    }
    kernels_.add(sums_.z, x_.z, m_, sums_.z);
  }

  // phi(q) of queries [at, at + n) into x_.q, their sums into sq.
  void QueryFeatures(int64_t at, int64_t n, float* sq) {
    if (shape_.kernel != FavorKernel::kNone) Product(Query(at), args_.q_stride, n, ProjectionPanels(), x_.q, m16_, false);
    for (int64_t i = 0; i < n; ++i) {
      float* row = x_.q + i * m16_;
      if (shape_.kernel == FavorKernel::kSoftmax) {
        sq[i] = kernels_.exp_features(row, kernels_.max(row, m_) + Norm(Query(at + i)), kSoftmaxEpsilon, m_, row);
      } else if (shape_.kernel == FavorKernel::kNone) {
        kernels_.softmax(Query(at + i), m_, row);
        sq[i] = 1;
      } else {
        sq[i] = kernels_.map_features(shape_.kernel, row, kKernelEpsilon, m_, row);
        if (shape_.kernel == FavorKernel::kExp) {  // the scale of a query cancels, and two large exponentials would overflow
          kernels_.scale(row, 1 / sq[i], m_, row);
          sq[i] = 1;
        }
      }
    }
  }

  void CountKey(int64_t t) {
    if (Masked(t)) {
      if (!shape_.mask_keys) ++sums_.head->count;
      return;
    }
    ++sums_.head->count;
    if (shape_.kernel == FavorKernel::kSoftmax) kernels_.add(sums_.v, Value(t), shape_.dv, sums_.v);
  }

  // out rows [at, at + n) = phi(q) (sums before the block) + tril(phi(q) phi(k)^T) V, not yet divided; then the block joins the sums.
  void CausalBlock(int64_t at, int64_t n) {
    KeyFeatures(at, n);
    PackValues(at, n);
    QueryFeatures(at, n, x_.sq + at);
    kernels_.pack_columns(x_.kt, kBlock, n, m_, x_.kt_panels);
    Product(x_.q, m16_, n, {x_.kt_panels, DType::f32, n, m_}, x_.a, kBlock, false);
    for (int64_t i = 0; i < n; ++i) {
      float* row = x_.a + i * kBlock;
      std::fill(row + i + 1, row + n, 0.0f);
      x_.den[at + i] = kernels_.sum(row, i + 1) + kernels_.dot(x_.q + i * m16_, sums_.z, m_);
      x_.tops[at + i] = Max();
    }
    float* out = args_.out + at * args_.out_stride;
    Product(x_.a, kBlock, n, {x_.values, DType::f32, shape_.dv, n}, out, args_.out_stride, false);
    Product(x_.q, m16_, n, {sums_.s, DType::f32, shape_.dv, m_}, out, args_.out_stride, true);
    Accumulate(n);
  }

  // The same for one token, in one pass over the sums.
  void Step(int64_t t) {
    QueryFeatures(t, 1, x_.sq + t);
    float* k = x_.kt;
    const bool left_out = shape_.mask_keys && Masked(t);
    float alpha = 1;
    if (shape_.kernel != FavorKernel::kNone) Product(Key(t), args_.k_stride, 1, ProjectionPanels(), k, m16_, false);
    if (left_out) {
      std::fill_n(k, m_, 0.0f);
    } else if (relative()) {
      const float* y = shape_.kernel == FavorKernel::kNone ? Key(t) : k;
      alpha = Raise(kernels_.max(y, m_));
      kernels_.exp_features(y, Max() + (shape_.kernel == FavorKernel::kSoftmax ? Norm(Key(t)) : 0), 0, m_, k);
    } else {
      kernels_.map_features(shape_.kernel, k, kKernelEpsilon, m_, k);
    }
    if (alpha != 1) kernels_.scale(sums_.z, alpha, m_, sums_.z);
    kernels_.add(sums_.z, k, m_, sums_.z);
    std::fill_n(x_.row, dv16_, 0.0f);
    if (!Masked(t)) std::memcpy(x_.row, Value(t), static_cast<size_t>(shape_.dv) * 4);
    kernels_.favor_step(sums_.s, m_, dv16_ / 16, alpha, k, x_.row, x_.q, x_.values);
    std::memcpy(args_.out + t * args_.out_stride, x_.values, static_cast<size_t>(shape_.dv) * 4);
    x_.den[t] = kernels_.dot(x_.q, sums_.z, m_);
    x_.tops[t] = Max();
  }

  // Divides, now that M is known; e and the running sum of v come in here.
  void FinishRows(int64_t tokens) {
    const Header& head = *sums_.head;
    const float e = shape_.kernel == FavorKernel::kSoftmax ? kSoftmaxEpsilon : 0;
    // phi carries r twice in the sums and once beside 1e-6; sums of kNone carry exp(-M).
    const float floor_scale = shape_.kernel == FavorKernel::kSoftmax ? std::sqrt(static_cast<float>(m_)) : 1;
    for (int64_t t = 0; t < tokens; ++t) {
      CountKey(t);
      const float f = shape_.kernel != FavorKernel::kSoftmax || x_.tops[t] == Max() ? 1 : std::exp(x_.tops[t] - Max());
      const float floor = kDenominatorEpsilon * (shape_.kernel == FavorKernel::kNone ? std::exp(-x_.tops[t]) : floor_scale);
      const float den = f * x_.den[t] + x_.sq[t] * (e * static_cast<float>(head.count) + floor);
      float* out = args_.out + t * args_.out_stride;
      kernels_.scale(out, f / den, shape_.dv, out);
      if (e != 0) kernels_.add_scaled(sums_.v, e * x_.sq[t] / den, shape_.dv, out);
    }
  }

  const KernelTable& kernels_;
  const FavorShape& shape_;
  const FavorArgs& args_;
  Sums sums_;
  Scratch x_;
  int64_t m_, m16_, dv16_;
};

}  // namespace

int64_t FavorProjectionBytes(int64_t features, int64_t dh) {
  return (Up16(features * dh) + Up16(features) * dh) * 4;
}

void PackFavorProjection(const KernelTable& kernels, const float* p, int64_t ld, int64_t features, int64_t dh, float* packed) {
  const float c = 1 / std::sqrt(std::sqrt(static_cast<float>(dh)));
  for (int64_t f = 0; f < features; ++f) kernels.scale(p + f * ld, c, dh, packed + f * dh);
  kernels.pack_rows(packed, dh, features, dh, packed + Up16(features * dh));
}

int64_t FavorStateBytes(const FavorShape& shape) { return Sums(shape, nullptr).bytes; }

void ResetFavor(const FavorShape& shape, void* state) {
  Sums sums(shape, state);
  std::memset(state, 0, static_cast<size_t>(sums.bytes));
  if (Sums::PerFeature(shape)) std::fill_n(sums.top, shape.features(), -kInfinity);
}

int64_t FavorWorkspaceBytes(const FavorShape& shape, int64_t tokens) { return Scratch(shape, tokens, nullptr).bytes; }

void FavorCausal(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t tokens, void* state, void* workspace) {
  Favor(kernels, shape, args, tokens, state, workspace).Causal(tokens);
}

void FavorKeys(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t n, void* state, void* workspace) {
  Favor(kernels, shape, args, n, state, workspace).Keys(n);
}

void FavorFinishKeys(const KernelTable& kernels, const FavorShape& shape, void* state) {
  const FavorArgs none;
  Favor(kernels, shape, none, 0, state, nullptr).FinishKeys();
}

void FavorQueries(const KernelTable& kernels, const FavorShape& shape, const FavorArgs& args, int64_t begin, int64_t end, const void* state, void* workspace) {
  Favor(kernels, shape, args, kFavorBlock, const_cast<void*>(state), workspace).Queries(begin, end);  // queries only read it
}

}  // namespace tern

// The infinity-former's long-term memory: what enters it, and how it is read. Sizes and formulas: engine/graph/long_term_memory.h.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/memory_tables.h"
#include "engine/runtime/sticky.h"

namespace tern {
namespace {

constexpr int64_t kQueries = 16;  // read at once by one worker

int64_t PackedFloats(int64_t n, int64_t k) { return LongTermMemoryLayout::Panels(n) * k; }
PackedMatrix PackedFloatsAt(const float* data, int64_t n, int64_t k) { return {data, DType::f32, n, k}; }

// A lane's part of the state.
struct Lane {
  float* at;
  const LongTermMemoryLayout& layout;

  int32_t Number() const {
    int32_t n;
    std::memcpy(&n, at + layout.header, sizeof n);
    return n;
  }
  void SetNumber(int32_t n) const { std::memcpy(at + layout.header, &n, sizeof n); }
};
Lane LaneAt(const OpCall& call, const LongTermMemoryLayout& layout, int64_t lane) {
  return {reinterpret_cast<float*>(call.state_data()) + lane * layout.elements, layout};
}

// src [k, n] (rows at ld) as a matrix to multiply with from the right: x src = gemm(x, packed).
PackedMatrix PackColumns(const OpCall& call, const float* src, int64_t ld, int64_t n, int64_t k, float* out) {
  constexpr int64_t kPanels = 4;
  call.run.gang->For(CeilDiv(PanelCount(n), kPanels), [&](int64_t chunk, int) {
    const int64_t first = chunk * kPanels * kPanelColumns;
    call.kernels().pack_columns(src + first, ld, std::min(n - first, kPanels * kPanelColumns), k, out + first * k);
  });
  return PackedFloatsAt(out, n, k);
}

// Scratch of one update.
struct Update {
  float *x, *gate, *gathered, *packed_x, *packed_b, *b, *projected, *pair, *packed_heads, *choice, *sampled, *packed_sampled;
  uint8_t* product;
  int64_t bytes;

  Update(uint8_t* base, const LongTermMemory& m, int64_t product_bytes) {
    Carve carve(base);
    const int64_t a = m.width(), n = m.basis, l = m.length;
    x = carve.Take<float>(l * a);
    gate = carve.Take<float>(m.mask == MemoryMask::kNone ? 0 : l * a);
    gathered = carve.Take<float>(m.mask == MemoryMask::kConvolution ? 3 * l * a : m.mask == MemoryMask::kAffine ? l * a : 0);
    packed_x = carve.Take<float>(PackedFloats(a, l));
    packed_b = carve.Take<float>(PackedFloats(a, n));
    b = carve.Take<float>(n * a);
    projected = carve.Take<float>(n * a);
    pair = carve.Take<float>(m.affines ? 2 * n + 4 * a : 0);  // mu and sigma, those times B, those times Wk^T
    packed_heads = carve.Take<float>(m.heads * (PackedFloats(m.head_width, n) + (m.affines ? 0 : PackedFloats(n, m.head_width))));
    choice = carve.Take<float>(m.sticky ? n * LongTermMemory::kBins : 0);
    sampled = carve.Take<float>(m.sticky ? LongTermMemory::kBins * a : 0);
    packed_sampled = carve.Take<float>(m.sticky ? PackedFloats(a, LongTermMemory::kBins) : 0);
    product = carve.Take<uint8_t>(product_bytes);
    bytes = carve.bytes();
  }
};

bool Cancelled(const OpCall& call) { return call.run.cancel && call.run.cancel->cancelled(); }

class Updater {
 public:
  Updater(const OpCall& call, const LongTermMemory& m, const MemoryUpdate& update)
      : call_(call), m_(m), u_(update), layout_(m), t_(MemoryTables::At(call.in(0).data, m)), s_(call.workspace, m, 0) {}

  void Run(int64_t lane) {
    const Lane state = LaneAt(call_, layout_, lane);
    const int32_t number = static_cast<int32_t>(call_.run.segment_index + 1);
    if (state.Number() == number) return;  // done before this call was cut short
    Gather(state);
    Mask();
    Renew(state, lane);
    Project(state);
    if (Cancelled(call_)) return;  // nothing of the state has changed: the call can be made again
    Commit(state);
    state.SetNumber(number);
  }

 private:
  int64_t a() const { return m_.width(); }
  void Product(const float* x, int64_t ld, int64_t rows, const PackedMatrix& w, const float* bias, float* y, int64_t ldy, bool accumulate = false) {
    ParallelMatMul(call_, x, ld, rows, w, bias, Activation::kNone, y, ldy, s_.product, accumulate);
  }

  // The rows that enter, out of their ring.
  void Gather(const Lane& state) {
    for (int64_t i = 0; i < u_.rows; ++i)
      std::memcpy(s_.x + i * a(), state.at + layout_.rows + (u_.first + i) % m_.capacity() * a(), static_cast<size_t>(a()) * 4);
  }

  // x := x sigmoid(g(x)), g a convolution of three rows, or a linear map over time.
  void Mask() {
    if (m_.mask == MemoryMask::kNone) return;
    const size_t first = m_.affines ? 5 : 3;
    const BoundWeight& w = call_.in(first).weight;
    const float* bias = call_.in(first + 1).f32();
    const int64_t l = u_.rows;
    if (m_.mask == MemoryMask::kConvolution) {
      // Row t of the gathered matrix: x[t-1][j], x[t][j], x[t+1][j] for each j, as the weight [e, e, 3] lies.
      call_.run.gang->For(l, [&](int64_t t, int) {
        float* to = s_.gathered + t * 3 * a();
        for (int64_t tap = 0; tap < 3; ++tap) {
          const int64_t from = t + tap - 1;
          for (int64_t j = 0; j < a(); ++j) to[3 * j + tap] = from < 0 || from >= l ? 0.0f : s_.x[from * a() + j];
        }
      });
      Product(s_.gathered, 3 * a(), l, Packed(w), bias, s_.gate, a());
    } else {
      Transpose(s_.x, l, a(), s_.gathered);
      Product(s_.gathered, l, a(), Packed(w), bias, s_.gate, l);
      Transpose(s_.gate, a(), l, s_.gathered);
      std::memcpy(s_.gate, s_.gathered, static_cast<size_t>(l * a()) * 4);
    }
    call_.run.gang->For(l, [&](int64_t t, int) {
      float *gate = s_.gate + t * a(), *x = s_.x + t * a();
      call_.kernels().sigmoid(gate, a(), gate);
      call_.kernels().mul(x, gate, a(), x);
    });
  }
  static void Transpose(const float* from, int64_t rows, int64_t cols, float* to) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) to[c * rows + r] = from[r * cols + c];
  }

  // The new B.
  void Renew(const Lane& state, int64_t lane) {
    const int64_t n = m_.basis, l = u_.rows;
    const PackedMatrix x = PackColumns(call_, s_.x, a(), a(), l, s_.packed_x);
    if (u_.kind == MemoryUpdate::Kind::kFit) {
      if (l == m_.length) return Product(t_.fit, l, n, x, nullptr, s_.b, a());
      return Product(FitTable(m_, l, call_.run.gang)->data(), l, n, x, nullptr, s_.b, a());
    }
    const PackedMatrix old = PackColumns(call_, state.at + layout_.b, a(), a(), n, s_.packed_b);
    if (m_.sticky) {
      // Only 128 places can be drawn, and equal ones stand together once sorted: the old rows' part of G is summed per place.
      constexpr int64_t kBins = LongTermMemory::kBins;
      int64_t counts[kBins];
      Count(state, lane, counts);
      for (int64_t bin = 0, row = 0; bin < kBins; row += counts[bin++])
        for (int64_t i = 0; i < n; ++i) s_.choice[i * kBins + bin] = static_cast<float>(t_.old_sums[(row + counts[bin]) * n + i] - t_.old_sums[row * n + i]);
      Product(t_.edges, n, kBins, old, nullptr, s_.sampled, a());
      Product(s_.choice, kBins, n, PackColumns(call_, s_.sampled, a(), a(), kBins, s_.packed_sampled), nullptr, s_.b, a());
    } else {
      Product(t_.contract, n, n, old, nullptr, s_.b, a());
    }
    Product(t_.fresh, m_.length, n, x, nullptr, s_.b, a(), true);
  }

  // How many samples of the old signal each bin gets.
  void Count(const Lane& state, int64_t lane, int64_t* counts) {
    if (call_.run.sticky_bins) {
      const int32_t* bins = call_.run.sticky_bins + ((u_.sticky_update * m_.layers + m_.layer) * m_.batch + lane) * m_.samples;
      std::fill_n(counts, LongTermMemory::kBins, 0);
      for (int64_t i = 0; i < m_.samples; ++i) ++counts[bins[i]];
      return;
    }
    double probabilities[LongTermMemory::kBins];
    StickyProbabilities(state.at + layout_.looks, m_.heads, m_.queries, std::min(call_.run.segment_previous, m_.queries), probabilities, call_.run.gang);
    ChooseBins(m_, static_cast<uint64_t>(lane), static_cast<uint64_t>(u_.sticky_update), probabilities, counts);
  }

  // Keys and values of the new B.
  void Project(const Lane&) {
    const int64_t n = m_.basis, dh = m_.head_width;
    Product(s_.b, a(), n, Packed(call_.in(2).weight), nullptr, s_.projected, a());
    float* heads = s_.packed_heads;
    for (int64_t h = 0; h < m_.heads; ++h, heads += PackedFloats(dh, n)) call_.kernels().pack_columns(s_.projected + h * dh, a(), dh, n, heads);
    const PackedMatrix key = Packed(call_.in(1).weight);
    if (!m_.affines) {
      Product(s_.b, a(), n, key, nullptr, s_.projected, a());
      for (int64_t h = 0; h < m_.heads; ++h, heads += PackedFloats(n, dh)) call_.kernels().pack_rows(s_.projected + h * dh, a(), n, dh, heads);
      return;
    }
    // mu and sigma are linear in the scores, and these in K = B Wk^T: w K = (w B) Wk^T.
    float *w = s_.pair, *wb = w + 2 * n, *wk = wb + 2 * a();
    std::memcpy(w, call_.in(3).data, static_cast<size_t>(n) * 4);
    std::memcpy(w + n, call_.in(4).data, static_cast<size_t>(n) * 4);
    Product(w, n, 2, PackColumns(call_, s_.b, a(), a(), n, s_.packed_b), nullptr, wb, a());
    Product(wb, a(), 2, key, nullptr, wk, a());
    call_.kernels().scale(wk, 1.0f / std::sqrt(static_cast<float>(dh)), 2 * a(), wk);
  }

  void Commit(const Lane& state) {
    const int64_t n = m_.basis, dh = m_.head_width, values = m_.heads * PackedFloats(dh, n);
    std::memcpy(state.at + layout_.b, s_.b, static_cast<size_t>(n * a()) * 4);
    std::memcpy(state.at + layout_.values, s_.packed_heads, static_cast<size_t>(values) * 4);
    if (m_.affines) std::memcpy(state.at + layout_.keys, s_.pair + 2 * n + 2 * a(), static_cast<size_t>(2 * a()) * 4);
    else std::memcpy(state.at + layout_.keys, s_.packed_heads + values, static_cast<size_t>(m_.heads * PackedFloats(n, dh)) * 4);
  }

  const OpCall& call_;
  const LongTermMemory& m_;
  const MemoryUpdate& u_;
  const LongTermMemoryLayout layout_;
  const MemoryTables t_;
  const Update s_;
};

// Scratch of one worker that reads.
struct Reading {
  float *r, *scores;
  uint8_t* product;
  int64_t bytes;

  Reading(uint8_t* base, const LongTermMemory& m) {
    Carve carve(base);
    r = carve.Take<float>(kQueries * m.basis);
    scores = carve.Take<float>(m.affines ? 0 : kQueries * m.basis);
    product = carve.Take<uint8_t>(GemmScratchBytes(DType::f32, kQueries, std::max(m.basis, m.head_width)));
    bytes = carve.bytes();
  }
};

struct Look {
  float mu, variance;
};

// From the scores' two linear functions.
Look FromAffine(float mu, float sigma, double least) {
  const double m = 1 / (1 + std::exp(-static_cast<double>(mu)));
  const double s = sigma > 20 ? static_cast<double>(sigma) : std::log1p(std::exp(static_cast<double>(sigma)));
  return {static_cast<float>(m), static_cast<float>(std::max(s, least))};
}

// The mean and the variance of the basis functions under softmax(scores).
Look FromMoments(const OpCall& call, const MemoryTables& t, int64_t n, float* scores) {
  call.kernels().softmax(scores, n, scores);
  double mean = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double p = scores[i], c = t.centers[i];
    mean += p * c, square += p * (c * c + t.variances[i]);
  }
  return {static_cast<float>(mean), static_cast<float>(square - mean * mean)};
}

// The integrals of the truncated parabola [-A0 - (t - mu)^2 / (2 variance)]_+ against the basis (sparsemax; Martins et al. 2020). The polynomial is kept
// centered at mu: expanded, its terms cancel.
void ParabolaExpectation(const Look& look, const MemoryTables& t, int64_t n, float* r) {
  const double mu = look.mu, variance = look.variance;
  const double half = std::cbrt(1.5 * variance), level = -0.5 * std::cbrt(9.0 / (4 * variance));  // (3 / (2 sigma))^(2/3)
  auto density = [](double z) { return std::exp(-0.5 * z * z) * 0.39894228040143267794; };
  auto mass = [](double z) { return 0.5 * std::erfc(-z * 0.70710678118654752440); };
  for (int64_t i = 0; i < n; ++i) {
    const double s = std::sqrt(static_cast<double>(t.variances[i])), shift = t.centers[i] - mu;
    const double low = (-half - shift) / s, high = (half - shift) / s;
    // Differences of the small tails, so that nothing cancels on the right.
    const double m0 = low > 0 ? mass(-low) - mass(-high) : mass(high) - mass(low);
    const double dl = density(low), dh = density(high), m1 = dl - dh, m2 = m0 + low * dl - high * dh;
    r[i] = static_cast<float>(-level * m0 - (shift * shift * m0 + 2 * shift * s * m1 + s * s * m2) / (2 * variance));
  }
}

void ReadBlock(const OpCall& call, const LongTermMemory& m, const MemoryTables& t, const Lane& state, int64_t lane, int64_t head, int64_t begin, int64_t end,
               const Reading& s) {
  const Operand &q = call.in(0), &out = call.out();
  const int64_t tokens = call.run.tokens(), n = m.basis, dh = m.head_width, count = end - begin, column = head * dh;
  const float* queries = q.f32() + (lane * tokens + begin) * q.stride + column;
  float* looks = state.at + state.layout.looks + (head * m.queries + call.run.position - call.run.segment_begin + begin) * 2;
  const float* keys = state.at + state.layout.keys;
  GemmCall g;
  g.m = count, g.scratch = s.product;
  if (!m.affines) {
    g.x = queries, g.ldx = q.stride;
    g.w = PackedFloatsAt(keys + head * PackedFloats(n, dh), n, dh);
    g.panel_end = g.w.panels();
    g.y = s.scores, g.ldy = n;
    call.kernels().gemm(g);
    call.kernels().scale(s.scores, 1.0f / std::sqrt(static_cast<float>(dh)), count * n, s.scores);
  }
  for (int64_t i = 0; i < count; ++i) {
    const float* query = queries + i * q.stride;
    const Look look = m.affines ? FromAffine(call.kernels().dot(query, keys + column, dh), call.kernels().dot(query, keys + m.width() + column, dh), m.least_variance)
                                : FromMoments(call, t, n, s.scores + i * n);
    looks[2 * i] = look.mu, looks[2 * i + 1] = look.variance;
    if (m.sparsemax) ParabolaExpectation(look, t, n, s.r + i * n);
    else call.kernels().gaussian_expectation(look.mu, look.variance, t.centers, t.variances, n, s.r + i * n);
  }
  g.x = s.r, g.ldx = n;
  g.w = PackedFloatsAt(state.at + state.layout.values + head * PackedFloats(dh, n), dh, n);
  g.panel_end = g.w.panels();
  g.y = out.f32() + (lane * tokens + begin) * out.stride + column, g.ldy = out.stride;
  call.kernels().gemm(g);
}

}  // namespace

int64_t MemoryTableBytes(const LongTermMemory& m) { return MemoryTables::Bytes(m); }

int64_t UpdateMemoryScratchBytes(const LongTermMemory& m, int threads, const std::function<int64_t(size_t, int64_t)>& product) {
  // With weights; two rows are those of mu and sigma.
  int64_t most = std::max({product(1, std::max<int64_t>(m.basis, 2)), product(2, m.basis)});
  const size_t mask = m.affines ? 5 : 3;
  if (m.mask != MemoryMask::kNone) most = std::max(most, product(mask, m.mask == MemoryMask::kAffine ? m.width() : m.length));
  // With tables.
  for (int64_t k : {m.basis, m.length, int64_t{LongTermMemory::kBins}})
    most = std::max(most, MatMulScratchBytes(DType::f32, std::max(m.basis, int64_t{LongTermMemory::kBins}), k, threads));
  return Update(nullptr, m, most).bytes;
}

int64_t AttendMemoryScratchBytes(const LongTermMemory& m, int threads) { return Reading(nullptr, m).bytes * threads; }

void Execute(const MemoryTablesOp& op, const OpCall& call) {
  ImportedTables imported;
  if (op.memory.imported) imported = {call.in(0).f32(), call.in(1).f32(), call.in(2).f32(), call.in(3).f32(), call.in(4).f32()};
  MakeMemoryTables(op.memory, op.memory.imported ? &imported : nullptr, MemoryTables::At(call.out().data, op.memory), call.run.gang);
}

void Execute(const UpdateMemoryOp& op, const OpCall& call) {
  if (call.run.position != call.run.segment_begin) return;
  const MemoryUpdate update = UpdateAt(op.memory, call.run.segment_begin, call.run.segment_previous, call.run.segment_index);
  if (update.kind == MemoryUpdate::Kind::kNone) return;
  Updater updater(call, op.memory, update);
  for (int64_t lane = 0; lane < op.memory.batch; ++lane) updater.Run(lane);
}

void Execute(const RememberRowsOp& op, const OpCall& call) {
  const LongTermMemory& m = op.memory;
  const LongTermMemoryLayout layout(m);
  const Operand& x = call.in(0);
  const int64_t tokens = call.run.tokens(), first = std::max<int64_t>(0, tokens - m.capacity());
  for (int64_t lane = 0; lane < m.batch; ++lane) {
    float* rows = LaneAt(call, layout, lane).at + layout.rows;
    for (int64_t t = first; t < tokens; ++t)
      std::memcpy(rows + (call.run.position + t) % m.capacity() * m.width(), x.f32() + (lane * tokens + t) * x.stride, static_cast<size_t>(m.width()) * 4);
  }
}

void Execute(const AttendMemoryOp& op, const OpCall& call) {
  const LongTermMemory& m = op.memory;
  const Operand& out = call.out();
  if (call.run.segment_begin <= m.short_memory) {
    for (int64_t r = 0; r < out.rows; ++r) std::fill_n(out.f32() + r * out.stride, out.cols, 0.0f);
    return;
  }
  const LongTermMemoryLayout layout(m);
  const MemoryTables tables = MemoryTables::At(call.in(1).data, m);
  const int64_t tokens = call.run.tokens(), blocks = CeilDiv(tokens, kQueries), scratch = AttendMemoryScratchBytes(m, 1);
  call.run.gang->For(m.batch * m.heads * blocks, [&](int64_t i, int worker) {
    if (Cancelled(call)) return;
    const int64_t block = i % blocks, head = i / blocks % m.heads, lane = i / (blocks * m.heads);
    ReadBlock(call, m, tables, LaneAt(call, layout, lane), lane, head, block * kQueries, std::min(tokens, (block + 1) * kQueries),
              Reading(call.workspace + worker * scratch, m));
  });
}

}  // namespace tern

#include "engine/retrieval/candidates.h"

#include <cmath>

namespace tern {
namespace {

constexpr int64_t kGroup = 64;  // rows that are looked at together
using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));
using F2 = float __attribute__((vector_size(8)));
using D2 = double __attribute__((vector_size(16)));

template <class V>
V Load(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
F4 All(float x) { return F4{x, x, x, x}; }

// A float that is not above x.
float Below(double x) {
  return std::nextafter(static_cast<float>(x), -std::numeric_limits<float>::infinity());
}

// Could one of kGroup rows reach `least`? Compares in f32 with some slack: true too often costs time, false must be right. NaN: true.
bool AnyReaches(const ScannedRows& r, int64_t row, double least) {
  const float *s = r.products + row, *sq = r.squares + row;
  const double limit = least - r.offset;
  I4 any = {};
  if (r.metric == Metric::kIp) {
    const F4 least4 = All(Below(limit));
    for (int i = 0; i < kGroup; i += 4) any |= ~(Load<F4>(s + i) < least4);
  } else if (r.metric == Metric::kL2) {
    const F4 least4 = All(Below(limit));
    for (int i = 0; i < kGroup; i += 4) any |= ~(2.0f * Load<F4>(s + i) - Load<F4>(sq + i) < least4);
  } else {
    // s / sqrt(q) >= t: s |s| >= t |t| q, without root or division.
    if (!(std::fabs(limit) < 1e15)) return true;
    const double square = limit * std::fabs(limit);
    const F4 least4 = All(Below(square - std::fabs(square) * 1e-5 - 1e-30)), slack = All(0x1p-124f), tiny = All(static_cast<float>(kTinySquare));
    const I4 magnitude = {0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff};
    for (int i = 0; i < kGroup; i += 4) {
      const F4 v = Load<F4>(s + i), q = Load<F4>(sq + i);
      any |= ~(v * (F4)((I4)v & magnitude) < least4 * q - slack) | (q <= tiny);
    }
  }
  return (any[0] | any[1] | any[2] | any[3]) != 0;
}

// The sum of f(a[i], b[i]) in double: eight partial sums, the same on every machine.
template <class F>
double Sum(const float* a, const float* b, int64_t n, F f) {
  D2 sum[4] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 4; ++j) sum[j] += f(__builtin_convertvector(Load<F2>(a + i + 2 * j), D2), __builtin_convertvector(Load<F2>(b + i + 2 * j), D2));
  for (; i < n; ++i) sum[i % 8 / 2][i % 2] += f(D2{a[i], 0}, D2{b[i], 0})[0];
  const D2 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return all[0] + all[1];
}

// q.x, and |x|^2 if it is asked for, each as Sum() has it.
double Product(const float* q, const float* x, int64_t n, double* square) {
  if (!square) return Sum(q, x, n, [](D2 a, D2 b) { return a * b; });
  D2 sum[4] = {}, own[4] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 4; ++j) {
      const D2 b = __builtin_convertvector(Load<F2>(x + i + 2 * j), D2);
      sum[j] += __builtin_convertvector(Load<F2>(q + i + 2 * j), D2) * b, own[j] += b * b;
    }
  for (; i < n; ++i) {
    const double b = x[i];
    sum[i % 8 / 2][i % 2] += q[i] * b, own[i % 8 / 2][i % 2] += b * b;
  }
  const D2 all = (sum[0] + sum[1]) + (sum[2] + sum[3]), all_own = (own[0] + own[1]) + (own[2] + own[3]);
  *square = all_own[0] + all_own[1];
  return all[0] + all[1];
}

}  // namespace

void KeepBest(const ScannedRows& r, const std::function<bool(int64_t)>& allowed, const std::function<double(int64_t)>& exact, Best* best) {
  for (int64_t begin = 0; begin < r.rows; begin += kGroup) {
    const int64_t end = std::min(r.rows, begin + kGroup);
    if (end - begin == kGroup && !AnyReaches(r, begin, best->least())) continue;
    for (int64_t i = begin; i < end; ++i) {
      Candidate c{r.products[i], r.ids ? r.ids[i] : r.first + i};
      if (r.metric == Metric::kL2) c.score = 2 * c.score - r.squares[i];
      else if (r.metric == Metric::kCos) c.score = r.squares[i] > kTinySquare ? c.score / std::sqrt(static_cast<double>(r.squares[i])) : exact(c.id);
      c.score += r.offset;
      if (std::isnan(c.score)) c.score = -std::numeric_limits<double>::infinity();  // a damaged row: it must not spoil the order
      if (best->Wants(c) && (!allowed || allowed(c.id))) best->Add(c);
    }
  }
}

double LengthOf(const float* q, int64_t dim) {
  return std::sqrt(Sum(q, q, dim, [](D2 a, D2 b) { return a * b; }));
}

const VectorBlock& ExactScorer::BlockOf(int64_t id) const {
  auto it = std::upper_bound(rows_.blocks.begin(), rows_.blocks.end(), id, [](int64_t v, const VectorBlock& b) { return v < b.first; });
  return *(it - 1);
}

void ExactScorer::Prefetch(int64_t id) const {
  const VectorBlock& b = BlockOf(id);
  const int64_t row = id - b.first;
  if (!b.f32 && !b.f16) return;
  const char* p = b.f32 ? reinterpret_cast<const char*>(b.f32 + row * rows_.dim) : reinterpret_cast<const char*>(b.f16 + row * rows_.dim);
  for (int64_t i = 0; i < rows_.dim * (b.f32 ? 4 : 2); i += 64) __builtin_prefetch(p + i);
}

double ExactScorer::Score(const float* q, double length, int64_t id, std::vector<float>* buffer) const {
  const VectorBlock& b = BlockOf(id);
  const int64_t row = id - b.first, d = rows_.dim;
  const float* x = nullptr;
  if (b.f32) {
    x = b.f32 + row * d;
  } else {
    buffer->resize(static_cast<size_t>(d));
    if (b.f16) k_.f16_to_f32(b.f16 + row * d, d, buffer->data());
    else UnpackRow(b.packed, row, buffer->data());
    x = buffer->data();
  }
  double score = 0;
  if (metric_ == Metric::kL2) {
    score = -Sum(q, x, d, [](D2 a, D2 c) { return (a - c) * (a - c); });
  } else {
    double square = 0;
    score = Product(q, x, d, metric_ == Metric::kCos ? &square : nullptr);
    if (metric_ == Metric::kCos) {
      const double both = length * std::sqrt(square);
      score = both > 0 ? score / both : 0;
    }
  }
  return std::isnan(score) ? -std::numeric_limits<double>::infinity() : score;
}

void ExactScorer::Rescore(const float* q, double length, std::vector<Candidate>* list, std::vector<float>* buffer) const {
  constexpr size_t kAhead = 3;
  for (size_t i = 0; i < std::min(kAhead, list->size()); ++i) Prefetch((*list)[i].id);
  for (size_t i = 0; i < list->size(); ++i) {
    if (i + kAhead < list->size()) Prefetch((*list)[i + kAhead].id);
    (*list)[i].score = Score(q, length, (*list)[i].id, buffer);
  }
  std::sort(list->begin(), list->end(), Better);
}

bool MayHaveDropped(Metric metric, int64_t dim, double q, double x, double worst, double last) {
  // A product is off by at most (d + 2) eps |q| |x|; then come the metric's own f32 inputs (|x|^2 rounded once). `worst` in the scan's scale: l2 without
  // |q|^2, cosine times |q|.
  constexpr double kEps = 0x1p-24;
  const double n = static_cast<double>(dim) + 4;
  double bound = 0;
  switch (metric) {
    case Metric::kIp:
      bound = (n + 1) * kEps * q * x + n * 0x1p-149;
      break;
    case Metric::kL2:
      bound = (2 * n + 2) * kEps * q * x + 3 * kEps * (x * x + q * q * 0x1p-14) + n * 0x1p-148;
      worst += q * q;
      break;
    case Metric::kCos:
      bound = (n + 4) * kEps * q;
      worst *= q;
      break;
  }
  return !(worst > last + bound);
}

}  // namespace tern

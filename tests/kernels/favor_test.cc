// Random-feature attention against its formulas in double, feature by feature and pair by pair; and the properties that the algebra promises.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/base/rng.h"
#include "engine/kernels/kernels.h"
#include "tests/kernels/guarded.h"
#include "tests/reference/random.h"

namespace tern {
namespace {

struct Problem {
  FavorShape shape;
  int64_t T = 0, S = 0;
  std::vector<float> p, q, k, v, mask;  // mask empty: none

  static Problem Make(FavorShape shape, int64_t T, int64_t S, uint64_t seed, double scale = 1) {
    Problem x;
    x.shape = shape, x.T = T, x.S = S;
    x.p = Random(shape.projected * shape.dh, seed), x.q = Random(T * shape.dh, seed + 1, scale), x.k = Random(S * shape.dh, seed + 2, scale);
    x.v = Random(S * shape.dv, seed + 3);
    return x;
  }
  double Largest() const {
    double m = 1e-30;
    for (float x : v) m = std::max(m, std::fabs(static_cast<double>(x)));
    return m;
  }
};

// Rows [begin, end) of the output; in the causal form M covers keys [0, seen).
std::vector<double> Reference(const Problem& x, int64_t begin, int64_t end, int64_t seen) {
  const FavorShape& s = x.shape;
  const int64_t m = s.features(), dh = s.dh;
  const double c = std::pow(static_cast<double>(dh), -0.25), r = s.kernel == FavorKernel::kSoftmax ? 1 / std::sqrt(static_cast<double>(m)) : 1;
  auto masked = [&](int64_t j) { return !x.mask.empty() && x.mask[static_cast<size_t>(j)] == 0; };
  auto counts = [&](int64_t j) { return !s.mask_keys || !masked(j); };
  auto project = [&](const float* row, double* h) {
    std::vector<double> y(static_cast<size_t>(m));
    *h = 0;
    for (int64_t d = 0; d < dh; ++d) *h += c * c * row[d] * row[d] / 2;
    for (int64_t f = 0; f < m; ++f) {
      if (s.kernel == FavorKernel::kNone) y[static_cast<size_t>(f)] = row[f];
      else
        for (int64_t d = 0; d < dh; ++d) y[static_cast<size_t>(f)] += c * x.p[static_cast<size_t>(f * dh + d)] * row[d];
    }
    return y;
  };
  auto map = [&](double y) {
    switch (s.kernel) {
      case FavorKernel::kRelu: return std::max(y, 0.0) + 1e-3;
      case FavorKernel::kElu1: return (y > 0 ? y + 1 : std::exp(y)) + 1e-3;
      case FavorKernel::kExp: return std::exp(std::min(y, 60.0)) + 1e-3;
      default: return 1 / (1 + std::exp(-y)) + 1e-3;
    }
  };
  double M = -INFINITY;
  std::vector<std::vector<double>> keys;
  std::vector<double> hs(static_cast<size_t>(seen));
  for (int64_t j = 0; j < seen; ++j) {
    keys.push_back(project(x.k.data() + j * dh, &hs[static_cast<size_t>(j)]));
    if (counts(j))
      for (double y : keys.back()) M = std::max(M, y);
  }
  std::vector<double> top(static_cast<size_t>(m), -INFINITY), total(static_cast<size_t>(m), 0);
  for (int64_t f = 0; f < m; ++f) {
    for (int64_t j = 0; j < seen; ++j)
      if (counts(j)) top[static_cast<size_t>(f)] = std::max(top[static_cast<size_t>(f)], keys[static_cast<size_t>(j)][static_cast<size_t>(f)]);
    for (int64_t j = 0; j < seen; ++j)
      if (counts(j)) total[static_cast<size_t>(f)] += std::exp(keys[static_cast<size_t>(j)][static_cast<size_t>(f)] - top[static_cast<size_t>(f)]);
  }
  for (int64_t j = 0; j < seen; ++j)
    for (int64_t f = 0; f < m; ++f) {
      double& y = keys[static_cast<size_t>(j)][static_cast<size_t>(f)];
      if (s.kernel == FavorKernel::kSoftmax) y = r * (std::exp(y - hs[static_cast<size_t>(j)] - M) + 1e-4);
      else if (s.kernel == FavorKernel::kNone) y = s.causal ? std::exp(y) : std::exp(y - top[static_cast<size_t>(f)]) / total[static_cast<size_t>(f)];
      else y = map(y);
      if (!counts(j)) y = 0;
    }
  std::vector<double> out;
  for (int64_t i = begin; i < end; ++i) {
    double h;
    std::vector<double> q = project(x.q.data() + i * dh, &h);
    const double largest = *std::max_element(q.begin(), q.end());
    double sum = 0;
    for (double& y : q) {
      if (s.kernel == FavorKernel::kSoftmax) y = r * (std::exp(y - h - largest) + 1e-4);
      else if (s.kernel == FavorKernel::kNone) y = std::exp(y - largest);
      else y = map(y);
      sum += y;
    }
    if (s.kernel == FavorKernel::kNone)
      for (double& y : q) y /= sum;
    std::vector<double> row(static_cast<size_t>(s.dv));
    double den = 0;
    for (int64_t j = 0; j < (s.causal ? i + 1 : seen); ++j) {
      double a = 0;
      for (int64_t f = 0; f < m; ++f) a += q[static_cast<size_t>(f)] * keys[static_cast<size_t>(j)][static_cast<size_t>(f)];
      den += a;
      if (!masked(j))
        for (int64_t d = 0; d < s.dv; ++d) row[static_cast<size_t>(d)] += a * x.v[static_cast<size_t>(j * s.dv + d)];
    }
    if (s.causal) den += 1e-6 * std::accumulate(q.begin(), q.end(), 0.0);
    for (double& o : row) out.push_back(o / den);
  }
  return out;
}

// The kernels on a problem; causal: in pieces, with the state carried on.
class Runner {
 public:
  Runner(const KernelTable& kernels, const Problem& x)
      : kernels_(kernels), x_(x), projection_(FavorProjectionBytes(x.shape.projected, x.shape.dh) / 4), state_(FavorStateBytes(x.shape) / 4),
        workspace_(FavorWorkspaceBytes(x.shape, std::max(x.T, x.S)) / 4), out_(x.T * x.shape.dv) {
    PackFavorProjection(kernels, x.p.data(), x.shape.dh, x.shape.projected, x.shape.dh, projection_.data());
    ResetFavor(x.shape, state_.data());
    std::fill_n(workspace_.data(), workspace_.size(), NAN);  // nothing may be read before it is written
  }
  FavorArgs Args(int64_t at) {
    FavorArgs a;
    a.q = x_.q.data() + at * x_.shape.dh, a.q_stride = x_.shape.dh;
    a.k = x_.k.data() + at * x_.shape.dh, a.k_stride = x_.shape.dh;
    a.v = x_.v.data() + at * x_.shape.dv, a.v_stride = x_.shape.dv;
    a.out = out_.data() + at * x_.shape.dv, a.out_stride = x_.shape.dv;
    a.projection = projection_.data();
    a.key_mask = x_.mask.empty() ? nullptr : x_.mask.data() + at;
    return a;
  }
  void Causal(int64_t at, int64_t n) { FavorCausal(kernels_, x_.shape, Args(at), n, state_.data(), workspace_.data()); }
  void Whole() {
    if (x_.shape.causal) return Causal(0, x_.T);
    FavorKeys(kernels_, x_.shape, Args(0), x_.S, state_.data(), workspace_.data());
    FavorFinishKeys(kernels_, x_.shape, state_.data());
    FavorQueries(kernels_, x_.shape, Args(0), 0, x_.T / 2, state_.data(), workspace_.data());
    FavorQueries(kernels_, x_.shape, Args(0), x_.T / 2, x_.T, state_.data(), workspace_.data());
  }
  void Check(int64_t begin, int64_t end, int64_t seen, double tolerance) {
    REQUIRE(out_.intact());
    REQUIRE(state_.intact());
    REQUIRE(workspace_.intact());
    const std::vector<double> want = Reference(x_, begin, end, seen);
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double error = std::fabs(out_[begin * x_.shape.dv + static_cast<int64_t>(i)] - want[i]);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
    CHECK(worst <= tolerance * x_.Largest());
  }
  Guarded<float>& out() { return out_; }
  Guarded<float>& state() { return state_; }

 private:
  const KernelTable& kernels_;
  const Problem& x_;
  Guarded<float> projection_, state_, workspace_, out_;
};

constexpr FavorKernel kAll[] = {FavorKernel::kSoftmax, FavorKernel::kRelu, FavorKernel::kElu1, FavorKernel::kExp, FavorKernel::kSigmoid, FavorKernel::kNone};
struct Size {
  int64_t T, S, m, dh, dv;
};
constexpr Size kSizes[] = {{1, 1, 1, 1, 1}, {2, 3, 5, 3, 2}, {3, 7, 16, 8, 8}, {4, 4, 17, 16, 15}, {63, 64, 31, 12, 17}, {65, 130, 40, 16, 16}, {129, 67, 110, 32, 33}, {200, 191, 64, 20, 48}};

TEST_CASE("random-feature attention agrees with its formulas in double, every kernel, causal and not, with and without a mask") {
  for (std::string_view target : KernelTargets())
    for (FavorKernel kernel : kAll)
      for (bool causal : {false, true})
        for (int masks : {0, 1, 2})
          for (const Size& size : kSizes) {
            FavorShape shape{kernel, causal, masks == 2, size.m, size.dh, size.dv};
            Problem x = Problem::Make(shape, size.T, causal ? size.T : size.S, 7 + static_cast<uint64_t>(size.T));
            if (masks > 0) {
              for (int64_t j = 0; j < x.S; ++j) x.mask.push_back(j % 3 == 1 || (j > x.S / 2 && j < x.S / 2 + 70) ? 0 : 1);
              x.mask[0] = 1;
            }
            INFO(target, " kernel ", static_cast<int>(kernel), " causal ", causal, " mask ", masks, " T ", size.T, " S ", x.S, " m ", size.m, " Dh ", size.dh, " Dv ", size.dv);
            Runner run(*KernelsFor(target), x);
            run.Whole();
            run.Check(0, x.T, x.S, 2e-5);
          }
}

TEST_CASE("a sequence fed in pieces gives each piece the rows of a run that ends with it") {
  for (std::string_view target : KernelTargets())
    for (FavorKernel kernel : kAll) {
      FavorShape shape{kernel, true, false, 44, 16, 20};
      Problem x = Problem::Make(shape, 263, 263, 3);
      INFO(target, " kernel ", static_cast<int>(kernel));
      Runner run(*KernelsFor(target), x);
      int64_t at = 0;
      for (int64_t piece : {1, 1, 2, 3, 4, 64, 7, 65, 1, 100, 15}) {
        run.Causal(at, piece);
        run.Check(at, at + piece, at + piece, 2e-5);
        at += piece;
      }
      REQUIRE(at == x.T);
    }
}

TEST_CASE("large keys and queries stay finite, and a maximum that grows late rescales what was summed") {
  for (std::string_view target : KernelTargets())
    for (FavorKernel kernel : {FavorKernel::kSoftmax, FavorKernel::kExp, FavorKernel::kNone})
      for (bool causal : {false, true}) {
        FavorShape shape{kernel, causal, false, 32, 8, 8};
        Problem x = Problem::Make(shape, 150, 150, 11, 3);
        for (int64_t d = 0; d < 8; ++d) x.k[static_cast<size_t>(140 * 8 + d)] *= 30, x.q[static_cast<size_t>(70 * 8 + d)] *= 1e4f;
        if (kernel == FavorKernel::kNone)
          for (int64_t d = 0; d < 8; ++d) x.k[static_cast<size_t>(100 * 8 + d)] = 300 + static_cast<float>(d);  // exp(300) is no float
        INFO(target, " kernel ", static_cast<int>(kernel), " causal ", causal);
        Runner run(*KernelsFor(target), x);
        run.Whole();
        for (int64_t i = 0; i < run.out().size(); ++i) REQUIRE(std::isfinite(run.out()[i]));
        if (kernel == FavorKernel::kSoftmax) run.Check(0, x.T, x.S, 2e-3);  // exponents of some hundreds carry that much of f32's rounding
      }
}

TEST_CASE("constant values come out as they are; keys in another order change nothing; the stabiliser acts through e alone") {
  const KernelTable& kernels = Kernels();
  FavorShape shape{FavorKernel::kSoftmax, false, false, 64, 16, 16};
  Problem x = Problem::Make(shape, 90, 133, 5, 0.7);
  Runner run(kernels, x);
  run.Whole();

  Problem permuted = x;
  for (int64_t j = 0; j < x.S; ++j) {
    const int64_t to = (j * 29 + 3) % x.S;  // 29 and 133 have no common factor
    std::copy_n(x.k.begin() + j * 16, 16, permuted.k.begin() + to * 16);
    std::copy_n(x.v.begin() + j * 16, 16, permuted.v.begin() + to * 16);
  }
  Runner other(kernels, permuted);
  other.Whole();
  for (int64_t i = 0; i < run.out().size(); ++i) CHECK(std::fabs(run.out()[i] - other.out()[i]) <= 3e-6);

  std::fill(x.v.begin(), x.v.end(), 0.75f);
  for (bool causal : {false, true}) {
    x.shape.causal = causal;
    x.S = causal ? x.T : 133;
    Runner constant(kernels, x);
    constant.Whole();
    // Causal: but for 1e-6 in a denominator that is m^-1/2 times the sum of features.
    for (int64_t i = 0; i < constant.out().size(); ++i) CHECK(std::fabs(constant.out()[i] - 0.75f) <= (causal ? 0.02f : 1e-5f));
  }
}

TEST_CASE("what comes after a position changes it through e alone, and not at all in kernels without a stabiliser") {
  for (FavorKernel kernel : {FavorKernel::kRelu, FavorKernel::kSigmoid, FavorKernel::kNone}) {
    FavorShape shape{kernel, true, false, 48, 16, 16};
    Problem x = Problem::Make(shape, 200, 200, 9), y = x;
    for (int64_t j = 150 * 16; j < 200 * 16; ++j) y.k[static_cast<size_t>(j)] = -y.k[static_cast<size_t>(j)], y.v[static_cast<size_t>(j)] += 9;
    Runner a(Kernels(), x), b(Kernels(), y);
    a.Whole(), b.Whole();
    double worst = 0;
    for (int64_t i = 0; i < 150 * 16; ++i) worst = std::max(worst, std::fabs(static_cast<double>(a.out()[i]) - b.out()[i]));
    CHECK(worst <= 1e-6 * x.Largest());
  }
}

TEST_CASE("feature maps: the same bits on every target that fuses, within bounds") {
  for (int64_t n : {0, 1, 3, 15, 16, 17, 63, 64, 65, 129, 266}) {
    const std::vector<float> x = Random(n, 21, 2);
    std::vector<float> shifts(static_cast<size_t>(n), 0.0f);
    for (int64_t i = 0; i < n; ++i) shifts[static_cast<size_t>(i)] = std::max(x[static_cast<size_t>(i)], 0.0f) + 0.25f;
    std::vector<float> first;
    for (std::string_view target : KernelTargets()) {
      const KernelTable& k = *KernelsFor(target);
      INFO(target, " n ", n);
      Guarded<float> a(n, 1), b(n, 2), c(n, 3);
      const float top = n > 0 ? *std::max_element(x.begin(), x.end()) : 0;
      std::vector<float> all{k.exp_features(x.data(), top, 1e-4f, n, a.data()), k.exp_columns(x.data(), shifts.data(), n, b.data()),
                             k.map_features(FavorKernel::kElu1, x.data(), 1e-3f, n, c.data())};
      REQUIRE((a.intact() && b.intact() && c.intact()));
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        CHECK((a[i] > 0 && a[i] <= 1.0002f));
        CHECK(std::fabs(b[i] - std::exp(static_cast<double>(x[static_cast<size_t>(i)]) - shifts[static_cast<size_t>(i)])) <= 3e-7);
        sum += a[i];
      }
      CHECK(std::fabs(all[0] - sum) <= 1e-5 * (1 + sum));
      for (Guarded<float>* g : {&a, &b, &c}) all.insert(all.end(), g->data(), g->data() + n);
      if (target == "baseline") continue;
      if (first.empty()) first = all;
      CHECK(SameBits(first.data(), all.data(), static_cast<int64_t>(all.size())));
    }
  }
}

}  // namespace
}  // namespace tern

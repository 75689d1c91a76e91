#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "engine/base/rng.h"
#include "engine/kernels/kernels.h"
#include "tests/kernels/guarded.h"
#include "tests/reference/kernels.h"

namespace tern {
namespace {

const int64_t kSizes[] = {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 131, 257, 1009};

Guarded<float> Normal(int64_t n, uint64_t seed, float scale = 1) {
  Rng rng(seed);
  Guarded<float> v(n, 1);
  for (int64_t i = 0; i < n; ++i) v[i] = scale * static_cast<float>(rng.Normal());
  return v;
}

// Targets with fused multiply-adds must agree bit for bit: remembers the first one's result.
struct SameOnFused {
  std::vector<float> first;
  void Check(std::string_view target, const Guarded<float>& y) {
    if (target == "baseline") return;
    if (first.empty())
      first = y.ToVector();
    else
      CHECK(SameBits(first.data(), y.data(), y.size()));
  }
};

// Distance in units in the last place of the nearest float to `want`.
double Ulps(float got, double want) {
  if (std::isinf(got) && static_cast<float>(want) == got) return 0;
  int exponent;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

TEST_CASE("exp is within 1.5 ULP, zero below -87.3, infinite above 88.72, and keeps NaN") {
  for (std::string_view target : KernelTargets()) {
    const KernelTable& k = *KernelsFor(target);
    INFO(target);
    double worst = 0;
    std::vector<float> x, y(4096);
    for (double v = -87.3; v <= 88.72; v += 0.00037) {
      x.push_back(static_cast<float>(v));
      if (x.size() < y.size()) continue;
      k.exp(x.data(), static_cast<int64_t>(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, Ulps(y[i], std::exp(static_cast<double>(x[i]))));
      x.clear();
    }
    CHECK(worst <= 1.5);
    const float edges[] = {-87.31f, -88, -104, -1e30f, -INFINITY, 88.73f, 89, 1e30f, INFINITY, 0, -0.0f, 1e-30f};
    float e[12];
    k.exp(edges, 12, e);
    for (int i = 0; i < 5; ++i) CHECK(e[i] == 0);
    for (int i = 5; i < 9; ++i) CHECK(e[i] == INFINITY);
    for (int i = 9; i < 12; ++i) CHECK(e[i] == 1);
    uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7fc00001, 0x7fffffff, 0xffc12345};
    float n[5], out[5];
    std::memcpy(n, nans, sizeof n);
    for (auto f : {k.exp, k.gelu, k.gelu_new, k.relu, k.silu, k.tanh, k.sigmoid}) {
      f(n, 5, out);
      for (float v : out) CHECK(std::isnan(v));
    }
  }
}

TEST_CASE("activations agree with double, in place too") {
  struct Case {
    const char* name;
    void (*RowKernels::*kernel)(const float*, int64_t, float*);
    double (*truth)(double);
    double absolute, relative;
  };
  const Case cases[] = {
      {"gelu", &RowKernels::gelu, [](double x) { return reference::Activate(Epilogue::kGelu, x); }, 1.5e-7, 2e-7},
      {"gelu_new", &RowKernels::gelu_new, [](double x) { return reference::Activate(Epilogue::kGeluNew, x); }, 2e-7,
       2e-7},
      {"relu", &RowKernels::relu, [](double x) { return reference::Activate(Epilogue::kRelu, x); }, 0, 0},
      {"silu", &RowKernels::silu, [](double x) { return reference::Activate(Epilogue::kSilu, x); }, 1e-37, 3e-7},
      {"tanh", &RowKernels::tanh, [](double x) { return std::tanh(x); }, 0, 3e-7},
      {"sigmoid", &RowKernels::sigmoid, [](double x) { return reference::Sigmoid(x); }, 1e-37, 3e-7},
  };
  std::vector<float> x;
  for (double v = -30; v <= 30; v += 0.0031) x.push_back(static_cast<float>(v));
  for (double v = 1e-30; v < 100; v *= 1.37) x.push_back(static_cast<float>(v)), x.push_back(static_cast<float>(-v));
  auto n = static_cast<int64_t>(x.size());
  for (const Case& c : cases) {
    SameOnFused same;
    for (std::string_view target : KernelTargets()) {
      INFO(c.name, " ", target);
      Guarded<float> y(n, 2);
      (KernelsFor(target)->*c.kernel)(x.data(), n, y.data());
      CHECK(y.intact());
      double worst = 0;
      for (int64_t i = 0; i < n; ++i)
        worst = std::max(worst, std::fabs(y[i] - c.truth(x[i])) - c.absolute - c.relative * std::fabs(c.truth(x[i])));
      CHECK(worst <= 0);
      same.Check(target, y);
      for (int64_t size : kSizes) {
        Guarded<float> in_place(size, 3);
        std::copy_n(x.data(), size, in_place.data());
        (KernelsFor(target)->*c.kernel)(in_place.data(), size, in_place.data());
        CHECK(in_place.intact());
        CHECK(SameBits(in_place.data(), y.data(), size));
      }
    }
  }
}

TEST_CASE("norms agree with double; the residual sum is written where asked") {
  for (int64_t n : kSizes) {
    if (n == 0) continue;
    for (float offset : {0.0f, 1000.0f}) {  // a large mean costs no digits that matter
      Guarded<float> x = Normal(n, 1, 2), r = Normal(n, 2), gamma = Normal(n, 3), beta = Normal(n, 4);
      for (int64_t i = 0; i < n; ++i) x[i] += offset;
      for (int form = 0; form < 8; ++form) {
        const float* res = form & 1 ? r.data() : nullptr;
        const float* g = form & 2 ? gamma.data() : nullptr;
        const float* b = form & 4 ? beta.data() : nullptr;
        std::vector<double> s(n);
        for (int64_t i = 0; i < n; ++i) s[i] = res ? x[i] + r[i] : x[i];
        std::vector<double> ln = reference::LayerNorm(s, g, b, 1e-5), rms = reference::RmsNorm(s, g, 1e-6);
        SameOnFused same_ln, same_rms;
        for (std::string_view target : KernelTargets()) {
          INFO(target, " n ", n, " form ", form, " offset ", offset);
          const KernelTable& k = *KernelsFor(target);
          Guarded<float> y(n, 3), z(n), sum(n, 2);
          k.layer_norm(x.data(), res, g, b, 1e-5f, n, sum.data(), y.data());
          k.rms_norm(x.data(), res, g, 1e-6f, n, nullptr, z.data());
          CHECK((y.intact() && sum.intact() && z.intact()));
          double worst_ln = 0, worst_rms = 0;
          for (int64_t i = 0; i < n; ++i) {
            CHECK(sum[i] == static_cast<float>(s[i]));
            worst_ln = std::max(worst_ln, std::fabs(y[i] - ln[i]));
            worst_rms = std::max(worst_rms, std::fabs(z[i] - rms[i]));
          }
          CHECK(worst_ln <= (n == 1 && offset != 0 ? 0.1 : offset != 0 ? 2e-3 : 3e-5));
          CHECK(worst_rms <= 1e-5);
          same_ln.Check(target, y);
          same_rms.Check(target, z);
          // In place, the sum over the input.
          Guarded<float> in = x, out(n);
          k.layer_norm(in.data(), res, g, b, 1e-5f, n, in.data(), out.data());
          CHECK(SameBits(out.data(), y.data(), n));
          CHECK(SameBits(in.data(), sum.data(), n));
          Guarded<float> over = x;
          k.layer_norm(over.data(), res, g, b, 1e-5f, n, nullptr, over.data());
          CHECK(SameBits(over.data(), y.data(), n));
        }
      }
    }
  }
}

TEST_CASE("softmax, log-softmax, log-sum-exp, sum and dot agree with double") {
  for (int64_t n : kSizes)
    for (float scale : {1.0f, 30.0f, 300.0f}) {
      Guarded<float> x = Normal(n, n + 1, scale), b = Normal(n, 9);
      std::vector<float> v = x.ToVector();
      std::vector<double> want = reference::Softmax(v);
      double lse = reference::LogSumExp(v), sum = 0, dot = 0, size = 1;
      for (int64_t i = 0; i < n; ++i)
        sum += v[i], dot += static_cast<double>(v[i]) * b[i], size += std::fabs(v[i]) * (1 + std::fabs(b[i]));
      SameOnFused same;
      for (std::string_view target : KernelTargets()) {
        INFO(target, " n ", n, " scale ", scale);
        const KernelTable& k = *KernelsFor(target);
        CHECK(std::fabs(k.sum(x.data(), n) - sum) <= 1e-6 * size);
        CHECK(std::fabs(k.dot(x.data(), b.data(), n) - dot) <= 1e-6 * size);
        Guarded<float> y(n, 1), z(n, 3);
        k.softmax(x.data(), n, y.data());
        k.log_softmax(x.data(), n, z.data());
        CHECK((y.intact() && z.intact()));
        same.Check(target, y);
        if (n == 0) {
          CHECK(k.log_sum_exp(x.data(), n) == -INFINITY);
          continue;
        }
        CHECK(std::fabs(k.log_sum_exp(x.data(), n) - lse) <= 2e-7 * (1 + std::fabs(lse)));
        double worst = 0, worst_log = 0;
        for (int64_t i = 0; i < n; ++i) {
          worst = std::max(worst, std::fabs(y[i] - want[i]) / (want[i] + 1e-9));
          worst_log = std::max(worst_log, std::fabs(z[i] - (v[i] - lse)) / (1 + std::fabs(v[i] - lse)));
        }
        CHECK(worst <= 2e-5);
        CHECK(worst_log <= 3e-7 * scale + 3e-7);
        k.softmax(x.data(), n, x.data());
        CHECK(SameBits(x.data(), y.data(), n));
        std::copy(v.begin(), v.end(), x.data());
      }
    }
}

TEST_CASE("softmax of masked rows: exact zeros, no denormals, rows of nothing, NaN everywhere") {
  for (std::string_view target : KernelTargets()) {
    const KernelTable& k = *KernelsFor(target);
    for (int64_t n : {1, 7, 16, 37, 200}) {
      Guarded<float> x(n), y(n);
      for (int64_t i = 0; i < n; ++i) x[i] = -INFINITY;
      k.softmax(x.data(), n, y.data());
      for (int64_t i = 0; i < n; ++i) CHECK(y[i] == 0);
      CHECK(k.log_sum_exp(x.data(), n) == -INFINITY);
      x[n / 2] = 3;
      k.softmax(x.data(), n, y.data());
      for (int64_t i = 0; i < n; ++i) CHECK(y[i] == (i == n / 2 ? 1 : 0));
      for (int64_t i = 0; i < n; ++i) x[i] = i == 0 ? 0.0f : -90.0f - static_cast<float>(i);
      k.softmax(x.data(), n, y.data());
      for (int64_t i = 1; i < n; ++i) CHECK(y[i] == 0);
      x[n - 1] = NAN;
      k.softmax(x.data(), n, y.data());
      for (int64_t i = 0; i < n; ++i) CHECK(std::isnan(y[i]));
      CHECK(std::isnan(k.log_sum_exp(x.data(), n)));
    }
  }
}

TEST_CASE("max, argmax and top-k: ties go to the lowest index, NaN never wins") {
  for (std::string_view target : KernelTargets()) {
    const KernelTable& k = *KernelsFor(target);
    for (int64_t n : kSizes) {
      INFO(target, " n ", n);
      Rng rng(n + 7);
      Guarded<float> x(n, 1);
      for (int64_t i = 0; i < n; ++i)
        x[i] = rng.Below(11) == 0 ? NAN : rng.Below(13) == 0 ? -INFINITY : static_cast<float>(rng.Below(20)) - 10.0f;
      std::vector<int32_t> order(n);
      std::iota(order.begin(), order.end(), 0);
      auto value = [&](int32_t i) { return std::isnan(x[i]) ? -INFINITY : x[i]; };
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
      float max = n == 0 ? -INFINITY : value(order[0]);
      CHECK(k.max(x.data(), n) == max);
      CHECK(k.argmax(x.data(), n) == (n == 0 ? -1 : max == -INFINITY ? 0 : order[0]));
      for (int64_t top : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{5}, int64_t{40}, n / 2, n}) {
        if (top > n) continue;
        Guarded<float> values(top);
        Guarded<int32_t> indices(top);
        k.top_k(x.data(), n, top, values.data(), indices.data());
        CHECK((values.intact() && indices.intact()));
        for (int64_t i = 0; i < top; ++i) {
          CHECK(indices[i] == order[i]);
          CHECK(values[i] == value(order[i]));
        }
      }
    }
  }
}

TEST_CASE("add, mul, scale, add_scaled") {
  for (int64_t n : kSizes) {
    Guarded<float> a = Normal(n, 1), b = Normal(n, 2);
    for (std::string_view target : KernelTargets()) {
      INFO(target, " n ", n);
      const KernelTable& k = *KernelsFor(target);
      Guarded<float> sum(n, 1), product(n, 2), scaled(n, 3), added = b;
      k.add(a.data(), b.data(), n, sum.data());
      k.mul(a.data(), b.data(), n, product.data());
      k.scale(a.data(), 0.7f, n, scaled.data());
      k.add_scaled(a.data(), 0.7f, n, added.data());
      CHECK((sum.intact() && product.intact() && scaled.intact() && added.intact()));
      for (int64_t i = 0; i < n; ++i) {
        CHECK(sum[i] == a[i] + b[i]);
        CHECK(product[i] == a[i] * b[i]);
        CHECK(scaled[i] == a[i] * 0.7f);
        CHECK(std::fabs(added[i] - (b[i] + static_cast<double>(a[i]) * 0.7f)) <=
              2e-7 * (std::fabs(a[i]) + std::fabs(b[i])));
      }
      Guarded<float> in_place = a;
      k.add(in_place.data(), b.data(), n, in_place.data());
      CHECK(SameBits(in_place.data(), sum.data(), n));
    }
  }
}

TEST_CASE("16-bit types are widened exactly and rounded as engine/base/dtype.h does") {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  std::vector<float> floats;
  Rng rng(3);
  for (int i = 0; i < 60000; ++i) {  // any bits, and the neighbourhood of ties
    auto u = static_cast<uint32_t>(rng.Bits());
    if (i % 3 == 1) u = (u & 0xffff0000) | 0x7fff | (u & 1) << 15;
    if (i % 3 == 2) u = (u & 0x8fffe000) | 0x38000000 | 0xfff | (u & 1) << 12;
    float f;
    std::memcpy(&f, &u, 4);
    floats.push_back(f);
  }
  for (float f : {65504.0f, 65519.0f, 65520.0f, 6e-8f, 2.9e-8f, 3e-8f, 5.96e-8f, 0.0f, -0.0f, INFINITY, -INFINITY, NAN})
    floats.push_back(f);
  for (std::string_view target : KernelTargets()) {
    const KernelTable& k = *KernelsFor(target);
    INFO(target);
    Guarded<float> wide(65536);
    int64_t wrong = 0;
    k.bf16_to_f32(all.data(), 65536, wide.data());
    for (int i = 0; i < 65536; ++i) {
      float f = Bf16ToF32(all[i]);
      wrong += std::isnan(f) ? !std::isnan(wide[i]) : !SameBits(&f, &wide[i], 1);
    }
    k.f16_to_f32(all.data(), 65536, wide.data());
    for (int i = 0; i < 65536; ++i) {
      float f = F16ToF32(all[i]);
      wrong += std::isnan(f) ? !std::isnan(wide[i]) : !SameBits(&f, &wide[i], 1);
    }
    CHECK(wrong == 0);
    auto n = static_cast<int64_t>(floats.size());
    Guarded<uint16_t> half(n, 1), brain(n, 3);
    k.f32_to_f16(floats.data(), n, half.data());
    k.f32_to_bf16(floats.data(), n, brain.data());
    for (int64_t i = 0; i < n; ++i) wrong += half[i] != F32ToF16(floats[i]) || brain[i] != F32ToBf16(floats[i]);
    CHECK(wrong == 0);
    for (int64_t size : kSizes) {
      Guarded<uint16_t> h(size, 1), b(size, 1);
      Guarded<float> f(size), g(size);
      k.f32_to_f16(floats.data(), size, h.data());
      k.f32_to_bf16(floats.data(), size, b.data());
      k.f16_to_f32(all.data(), size, f.data());
      k.bf16_to_f32(all.data(), size, g.data());
      CHECK((h.intact() && b.intact() && f.intact() && g.intact()));
      CHECK((SameBits(h.data(), half.data(), size) && SameBits(b.data(), brain.data(), size)));
    }
  }
}

}  // namespace
}  // namespace tern

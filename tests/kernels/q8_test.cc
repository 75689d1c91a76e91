#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/kernels/kernels.h"
#include "engine/kernels/q8_tile.h"
#include "tests/kernels/guarded.h"
#include "tests/reference/random.h"
#include "tests/reference/kernels.h"

namespace tern {
namespace {

struct Matrix {
  Guarded<uint8_t> bytes;
  PackedMatrix w;
  Matrix(const std::vector<float>& src, int64_t n, int64_t k) : bytes(PackedBytes(DType::i8, n, k).value()) {
    PackMatrix(DType::i8, src.data(), k, n, k, bytes.data());
    w = {bytes.data(), DType::i8, n, k};
  }
  int q(int64_t row, int64_t column) const {
    return static_cast<const int8_t*>(w.panel(row / 16))[column / 4 * 64 + row % 16 * 4 + column % 4];
  }
};

struct Rows {
  int64_t ld;
  Guarded<uint8_t> u;
  Guarded<float> scales;
  Rows(const KernelTable& kernels, const std::vector<float>& x, int64_t m, int64_t k)
      : ld((k + 3) / 4 * 4), u(m * ld), scales(m) {
    for (int64_t i = 0; i < m; ++i) kernels.quantize_row(x.data() + i * k, k, u.data() + i * ld, &scales[i]);
    CHECK((u.intact() && scales.intact()));
  }
};

TEST_CASE("rows are quantised to the nearest of 255 steps, the same bytes on every target") {
  for (int64_t k : {0, 1, 3, 4, 5, 15, 16, 17, 33, 131})
    for (float size : {1e-30f, 1.0f, 3e37f}) {
      std::vector<float> x = Random(k, k);
      for (float& f : x) f *= size;
      std::vector<uint8_t> first;
      float first_scale = 0;
      for (std::string_view target : KernelTargets()) {
        INFO(target, " k ", k, " size ", size);
        Rows r(*KernelsFor(target), x, 1, k);
        float largest = 0;
        for (float f : x) largest = std::max(largest, std::fabs(f));
        CHECK(r.scales[0] == largest / 127.0f);
        for (int64_t i = 0; i < r.ld; ++i) {
          CHECK(r.u[i] >= 1);
          double v = i < k ? x[i] / (largest / 127.0) : 0;
          CHECK(std::fabs(r.u[i] - 128 - v) <= 0.50002);
        }
        if (first.empty()) first = r.u.ToVector(), first_scale = r.scales[0];
        CHECK(SameBits(first.data(), r.u.data(), r.ld));
        CHECK(first_scale == r.scales[0]);
      }
    }
}

TEST_CASE("rows of zeros, nearly zeros, NaN and infinity") {
  for (std::string_view target : KernelTargets())
    for (int64_t at : {0, 5, 16, 20}) {
      std::vector<float> x(21, 0.0f);
      CHECK(Rows(*KernelsFor(target), x, 1, 21).scales[0] == 0);
      x[at] = 1e-37f;
      CHECK(Rows(*KernelsFor(target), x, 1, 21).scales[0] == 0);
      x[at] = NAN;
      CHECK(std::isnan(Rows(*KernelsFor(target), x, 1, 21).scales[0]));
      x[at] = -INFINITY;
      Rows r(*KernelsFor(target), x, 1, 21);
      CHECK(std::isnan(r.scales[0]));
      for (int64_t i = 0; i < r.ld; ++i) CHECK(r.u[i] == 128);
    }
}

Guarded<float> Run(const KernelTable& kernels, const Matrix& a, const Rows& x, int64_t m, const float* bias,
                   Epilogue epilogue, bool accumulate, int64_t step) {
  int64_t n = a.w.n;
  Guarded<float> y(m * n, 1);
  if (accumulate)
    for (int64_t i = 0; i < y.size(); ++i) y[i] = static_cast<float>(i % 5);
  for (int64_t p = 0; p < a.w.panels(); p += step) {
    GemmQ8Call call;
    call.x = x.u.data(), call.x_scales = x.scales.data(), call.ldx = x.ld, call.m = m, call.w = a.w;
    call.panel_begin = p, call.panel_end = std::min(a.w.panels(), p + step);
    call.bias = bias, call.epilogue = epilogue, call.accumulate = accumulate, call.y = y.data(), call.ldy = n;
    kernels.gemm_q8(call);
  }
  CHECK(y.intact());
  return y;
}

TEST_CASE("gemm_q8 has the exact integer sum, and the same bits on every target") {
  for (int64_t n : {1, 16, 17, 47, 130})
    for (int64_t k : {0, 1, 4, 7, 64, 301}) {
      std::vector<float> w = Random(n * k, n + k), bias = Random(n, 3);
      Matrix a(w, n, k);
      for (int64_t m : {0, 1, 2, 3, 5, 7, 13, 14, 15, 29, 61}) {
        std::vector<float> x = Random(m * k, m);
        for (std::string_view target : KernelTargets()) {
          INFO(target, " n ", n, " k ", k, " m ", m);
          const KernelTable& kernels = *KernelsFor(target);
          Rows r(kernels, x, m, k);
          bool accumulate = m % 2 == 1;
          Guarded<float> y = Run(kernels, a, r, m, bias.data(), Epilogue::kRelu, accumulate, 1000);
          int64_t wrong = 0;
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) {
              int32_t sum = 0;
              for (int64_t c = 0; c < k; ++c) sum += (r.u[i * r.ld + c] - 128) * a.q(j, c);
              float v = static_cast<float>(sum) * (r.scales[i] * a.w.scales()[j]);
              v += bias[j];
              v = v < 0 ? 0 : v;
              if (accumulate) v = static_cast<float>((i * n + j) % 5) + v;
              wrong += y[i * n + j] != v;
            }
          CHECK(wrong == 0);
          for (int64_t step : {1, 2, 3, 7}) {
            Guarded<float> parts = Run(kernels, a, r, m, bias.data(), Epilogue::kRelu, accumulate, step);
            CHECK(SameBits(parts.data(), y.data(), y.size()));
          }
        }
      }
    }
}

TEST_CASE("gemm_q8 is exact where 16 bits would saturate, and for the longest rows") {
  for (int64_t k : {8, 65536}) {
    const int64_t n = 16, m = 3;
    std::vector<float> w(n * k), x(m * k);
    for (int64_t i = 0; i < n * k; ++i) w[i] = i / k % 2 == 0 ? 1.0f : -1.0f;
    for (int64_t i = 0; i < m * k; ++i) x[i] = i / k == 0 ? 1.0f : i / k == 1 ? -1.0f : i % 2 == 0 ? 1.0f : -1.0f;
    Matrix a(w, n, k);
    for (std::string_view target : KernelTargets()) {
      INFO(target, " k ", k);
      Rows r(*KernelsFor(target), x, m, k);
      Guarded<float> y = Run(*KernelsFor(target), a, r, m, nullptr, Epilogue::kNone, false, 8);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          float sum = i == 2 ? 0 : static_cast<float>((i == 0 ? 1 : -1) * (j % 2 == 0 ? 1 : -1) * 127 * 127 * k);
          CHECK(y[i * n + j] == sum * (r.scales[i] * a.w.scales()[j]));
        }
    }
  }
}

TEST_CASE("every set of integer tiles this processor has gives the same sums") {
  const int64_t k = 132, panels = 8;
  std::vector<float> w = Random(panels * 16 * k, 1), x = Random(14 * k, 2);
  Matrix a(w, panels * 16, k);
  Rows r(Kernels(), x, 14, k);
  for (const Q8Tiles* tiles : {Q8TilesAvx512Vnni(), Q8TilesAvxVnni(), KernelsFor("avx2") ? Q8TilesAvx2() : nullptr}) {
    if (!tiles) continue;
    for (int log = 0; log < 4; ++log)
      for (int rows = 1; rows <= tiles->max_rows[log]; ++rows) {
        const int64_t width = int64_t{16} << log;
        Guarded<int32_t> out(rows * width);
        tiles->fn[log][rows - 1]({r.u.data(), r.ld, k / 4, static_cast<const int8_t*>(a.w.data), a.w.panel_bytes(),
                                  static_cast<const int8_t*>(a.w.data), a.w.column_sums(), out.data()});
        CHECK(out.intact());
        int64_t wrong = 0;
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < width; ++j) {
            int32_t sum = 0;
            for (int64_t c = 0; c < k; ++c) sum += (r.u[i * r.ld + c] - 128) * a.q(j, c);
            wrong += out[i * width + j] != sum;
          }
        INFO("log ", log, " rows ", rows);
        CHECK(wrong == 0);
      }
  }
}

TEST_CASE("gemm_q8 is near the product of the unquantised matrices") {
  const int64_t m = 9, n = 40, k = 256;
  std::vector<float> w = Random(n * k, 1), x = Random(m * k, 2), bias = Random(n, 3);
  Matrix a(w, n, k);
  std::vector<double> want = reference::Gemm(x, w, bias.data(), m, n, k, Epilogue::kGelu, nullptr);
  for (std::string_view target : KernelTargets()) {
    Rows r(*KernelsFor(target), x, m, k);
    Guarded<float> y = Run(*KernelsFor(target), a, r, m, bias.data(), Epilogue::kGelu, false, 8);
    double error = 0, size = 0;
    for (int64_t i = 0; i < m * n; ++i) error += (y[i] - want[i]) * (y[i] - want[i]), size += want[i] * want[i];
    CHECK(std::sqrt(error / size) < 0.02);
  }
}

}  // namespace
}  // namespace tern

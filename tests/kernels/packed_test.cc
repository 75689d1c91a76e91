#include "engine/kernels/packed.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/guarded.h"

namespace tern {
namespace {

TEST_CASE("sizes of packed matrices, and those that do not exist") {
  CHECK(PackedBytes(DType::f32, 17, 3) == 2 * 3 * 64);
  CHECK(PackedBytes(DType::bf16, 17, 3) == 2 * 2 * 64);
  CHECK(PackedBytes(DType::i8, 17, 5) == 2 * (2 * 64) + 32 * 8);
  CHECK(PackedBytes(DType::f32, 0, 3) == 0);
  CHECK(PackedBytes(DType::f32, 3, 0) == 0);
  CHECK(!PackedBytes(DType::f64, 3, 3));
  CHECK(!PackedBytes(DType::f32, -1, 3));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  for (DType type : {DType::f32, DType::f16, DType::i8})
    for (int64_t n : {int64_t{1}, int64_t{1} << 40, kMax})
      for (int64_t k : {int64_t{1} << 40, kMax - 1, kMax})
        if (auto bytes = PackedBytes(type, n, k))
          CHECK(static_cast<double>(*bytes) >= static_cast<double>(n) * static_cast<double>(k));
}

TEST_CASE("a packed matrix gives its rows back, rounded to nearest even, and its padding is zero") {
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    for (int64_t n : {1, 15, 16, 17, 40})
      for (int64_t k : {0, 1, 2, 5, 8}) {
        std::vector<float> src(n * (k + 2));
        for (size_t i = 0; i < src.size(); ++i)
          src[i] = std::sin(static_cast<float>(i) * 1.7f) * (i % 3 == 0 ? 1e-5f : 3.0f);
        Guarded<uint8_t> bytes(*PackedBytes(type, n, k));
        PackMatrix(type, src.data(), k + 2, n, k, bytes.data());
        CHECK(bytes.intact());
        PackedMatrix w{bytes.data(), type, n, k};
        CHECK(PaddingIsZero(w));
        for (int64_t r = 0; r < n; ++r) {
          Guarded<float> row(k);
          UnpackRow(w, r, row.data());
          CHECK(row.intact());
          for (int64_t c = 0; c < k; ++c) {
            float v = src[r * (k + 2) + c];
            CHECK(row[c] == (type == DType::f32    ? v
                             : type == DType::bf16 ? Bf16ToF32(F32ToBf16(v))
                                                   : F16ToF32(F32ToF16(v))));
          }
        }
        // One bit anywhere in the padding is seen.
        for (int64_t i = 0; i < bytes.size(); ++i) {
          int64_t line = i % w.panel_bytes() / 64, element = i % 64 / DTypeBytes(type), step = PanelInterleave(type);
          int64_t row = i / w.panel_bytes() * 16 + element / step, column = line * step + element % step;
          bytes[i] ^= 1;
          CHECK(PaddingIsZero(w) == (row < n && column < k));
          bytes[i] ^= 1;
        }
      }
}

TEST_CASE("int8 panels: scale, integers, column sums") {
  const int64_t n = 19, k = 7;
  std::vector<float> src(n * k);
  for (size_t i = 0; i < src.size(); ++i) src[i] = std::cos(static_cast<float>(i)) * static_cast<float>(i % 13);
  for (int64_t c = 0; c < k; ++c) src[4 * k + c] = 0;
  src[5 * k + 1] = NAN;
  Guarded<uint8_t> bytes(*PackedBytes(DType::i8, n, k));
  PackMatrix(DType::i8, src.data(), k, n, k, bytes.data());
  CHECK(bytes.intact());
  PackedMatrix w{bytes.data(), DType::i8, n, k};
  CHECK(PaddingIsZero(w));
  CHECK(w.scales()[4] == 0);
  CHECK(std::isnan(w.scales()[5]));
  for (int64_t r = 0; r < n; ++r) {
    if (r == 5) continue;
    float row[k], largest = 0;
    UnpackRow(w, r, row);
    float sum = 0;
    for (int64_t c = 0; c < k; ++c) largest = std::max(largest, std::fabs(src[r * k + c]));
    for (int64_t c = 0; c < k; ++c) {
      CHECK(std::fabs(row[c] - src[r * k + c]) <= largest / 127 * 0.5001);
      sum += row[c];
    }
    CHECK(sum == doctest::Approx(static_cast<double>(w.scales()[r]) * w.column_sums()[r]).epsilon(1e-5));
    if (largest > 0) CHECK(w.scales()[r] == largest / 127.0f);
  }
}

}  // namespace
}  // namespace tern

#include "engine/kernels/packed.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
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

TEST_CASE("int8 panels with split columns: the product stays, and the copies' mean is finer") {
  const int64_t n = 5, inputs = 6;
  const std::vector<int32_t> sources = {1, 1, 1, 4};
  const int64_t splits = static_cast<int64_t>(sources.size()), k = inputs + splits;
  std::vector<float> src(n * inputs), split(n * k), x(inputs), parts(k);
  for (size_t i = 0; i < src.size(); ++i) src[i] = std::cos(static_cast<float>(3 * i + 1));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 2.5f;
  x[1] = 40, x[4] = -17;
  for (int64_t r = 0; r < n; ++r) SplitWeights(src.data() + r * inputs, inputs, sources.data(), splits, split.data() + r * k);
  SplitInputs(x.data(), inputs, sources.data(), splits, parts.data());
  CHECK(parts[1] == 10.0f);
  CHECK(parts[6] == 10.0f);
  CHECK(parts[8] == 10.0f);
  CHECK(parts[4] == -8.5f);
  CHECK(parts[9] == -8.5f);
  Guarded<uint8_t> bytes(*PackedBytes(DType::i8, n, k, splits));
  PackMatrix(DType::i8, split.data(), k, n, k, bytes.data());
  PackedMatrix w{bytes.data(), DType::i8, n, k, splits};
  std::memcpy(const_cast<int32_t*>(w.split_sources()), sources.data(), sources.size() * 4);
  CHECK(bytes.intact());
  CHECK(w.inputs() == inputs);
  CHECK(PaddingIsZero(w));
  CHECK(CheckQ8(w) == nullptr);
  for (int64_t r = 0; r < n; ++r) {
    float row[inputs], largest = 0;
    UnpackRow(w, r, row);
    for (int64_t c = 0; c < inputs; ++c) largest = std::max(largest, std::fabs(src[r * inputs + c]));
    const float step = largest / 127;
    for (int64_t c = 0; c < inputs; ++c) {
      const float copies = c == 1 ? 4 : c == 4 ? 2 : 1;
      // At the largest weight itself half of the copies are cut off at 127: half a step's m-th part more at most.
      CHECK(std::fabs(row[c] - src[r * inputs + c]) <= step * (0.51f / copies + (copies > 1 ? 0.26f : 0.0f) * (std::fabs(src[r * inputs + c]) > 0.99f * largest)));
    }
    // What the integer product sees, in floating point: sum over all stored columns.
    double product = 0, expected = 0;
    for (int64_t c = 0; c < k; ++c) {
      const auto* panel = static_cast<const int8_t*>(w.panel(0));
      product += static_cast<double>(w.scales()[r]) * panel[(c / 4 * 16 + r) * 4 + c % 4] * parts[static_cast<size_t>(c)];
    }
    for (int64_t c = 0; c < inputs; ++c) expected += static_cast<double>(row[c]) * x[static_cast<size_t>(c)];
    CHECK(product == doctest::Approx(expected).epsilon(1e-5));
  }
  for (int32_t bad : {-1, 6, 100}) {
    const_cast<int32_t*>(w.split_sources())[3] = bad;
    CHECK(CheckSplitSources(w) != nullptr);
  }
}

}  // namespace
}  // namespace tern

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/base/torch_random.h"

using tern::TorchNormal;

TEST_CASE("torch's normal numbers: torch.manual_seed(seed); torch.randn(n)") {
  std::vector<float> x(16);
  TorchNormal(0, 16, x.data());
  for (auto [i, want] : {std::pair{0, -1.12583983f}, {1, -1.15236020f}, {2, -0.25057858f}, {3, -0.43387881f}}) CHECK(x[static_cast<size_t>(i)] == doctest::Approx(want).epsilon(1e-6));
  // Of the seed, the low 32 bits count.
  std::vector<float> y(16);
  TorchNormal(uint64_t{1} << 32, 16, y.data());
  CHECK(x == y);
}

TEST_CASE("a draw of few numbers, and one that does not end with a block of sixteen") {
  std::vector<float> few(15), many(40), more(48);
  TorchNormal(7, 15, few.data());
  TorchNormal(7, 40, many.data());
  TorchNormal(7, 48, more.data());
  const float want_few[] = {-0.146795094f, 0.786141276f, 0.94682163f, -1.114344f};
  const float want_many[] = {1.03910768f, -0.724510729f, -0.135436893f, 0.747118235f, 0.611815751f, 1.86778355f};  // from the 23rd
  for (size_t i = 0; i < 4; ++i) CHECK(few[i] == doctest::Approx(want_few[i]).epsilon(1e-6));
  for (size_t i = 0; i < 6; ++i) CHECK(many[22 + i] == doctest::Approx(want_many[i]).epsilon(1e-6));
  for (size_t i = 0; i < 24; ++i) CHECK(many[i] == more[i]);  // the last sixteen of 40 are drawn anew
  CHECK(many[24] != more[24]);
  for (int64_t n : {0, 1, 2, 15, 16, 17, 31, 4096}) {
    std::vector<float> v(static_cast<size_t>(n) + 1, -99.0f);
    TorchNormal(3, n, v.data());
    CHECK(v.back() == -99.0f);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double x = v[static_cast<size_t>(i)];
      REQUIRE(std::isfinite(x));
      sum += x, squares += x * x;
    }
    if (n < 4096) continue;
    CHECK(std::abs(sum / 4096) < 0.06);
    CHECK(squares / 4096 == doctest::Approx(1).epsilon(0.08));
  }
}

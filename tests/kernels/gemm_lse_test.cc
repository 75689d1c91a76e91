#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/kernels/kernels.h"
#include "tests/kernels/guarded.h"
#include "tests/reference/random.h"
#include "tests/reference/kernels.h"

namespace tern {
namespace {

Guarded<LsePart> Parts(const KernelTable& kernels, const PackedMatrix& w, const std::vector<float>& x,
                       const float* bias, const int64_t* targets, int64_t m, int64_t step) {
  Guarded<LsePart> parts(LseBlocks(w.n) * m);
  Guarded<uint8_t> scratch(GemmLseScratchBytes(w.type, m, w.k));
  for (int64_t b = 0; b < LseBlocks(w.n); b += step) {
    GemmLseCall call;
    call.x = x.data(), call.ldx = w.k, call.m = m, call.w = w, call.bias = bias;
    call.block_begin = b, call.block_end = std::min(LseBlocks(w.n), b + step);
    call.targets = targets, call.parts = parts.data(), call.scratch = scratch.data();
    kernels.gemm_lse(call);
  }
  CHECK(scratch.intact());
  CHECK(parts.intact());
  return parts;
}

TEST_CASE("gemm_lse: log-sum-exp, target logit and argmax of logits that are never written") {
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    for (int64_t n : {1, 15, 511, 512, 513, 1700})
      for (int64_t m : {1, 5, 37, 131}) {
        const int64_t k = 33;
        std::vector<float> src = Random(n * k, n), x = Random(m * k, m), bias = Random(n, 3), rounded(n * k);
        Guarded<uint8_t> bytes(PackedBytes(type, n, k).value());
        PackMatrix(type, src.data(), k, n, k, bytes.data());
        PackedMatrix w{bytes.data(), type, n, k};
        for (int64_t i = 0; i < n; ++i) UnpackRow(w, i, rounded.data() + i * k);
        std::vector<int64_t> targets(m);
        for (int64_t i = 0; i < m; ++i) targets[i] = i % 4 == 3 ? -1 : i * 7919 % n;
        std::vector<double> logits = reference::Gemm(x, rounded, bias.data(), m, n, k, Epilogue::kNone, nullptr);
        std::vector<LsePart> first;
        for (std::string_view target : KernelTargets()) {
          INFO(target, " ", DTypeName(type), " n ", n, " m ", m);
          Guarded<LsePart> parts = Parts(*KernelsFor(target), w, x, bias.data(), targets.data(), m, 100);
          Guarded<LsePart> split = Parts(*KernelsFor(target), w, x, bias.data(), targets.data(), m, 1);
          int64_t wrong = 0;
          for (int64_t i = 0; i < m; ++i) {
            std::vector<float> row(logits.begin() + i * n, logits.begin() + (i + 1) * n);
            LseRow got = JoinLse(parts.data() + i, LseBlocks(n), m), same = JoinLse(split.data() + i, LseBlocks(n), m);
            wrong += !(std::fabs(got.log_sum_exp - reference::LogSumExp(row)) <= 1e-5);
            wrong += got.argmax != std::max_element(row.begin(), row.end()) - row.begin();
            wrong += !(std::fabs(got.max - row[got.argmax]) <= 1e-5);
            wrong += got.has_target != (targets[i] >= 0);
            if (got.has_target) wrong += !(std::fabs(got.target - row[targets[i]]) <= 1e-5);
            wrong += got.log_sum_exp != same.log_sum_exp || got.argmax != same.argmax || got.target != same.target;
          }
          CHECK(wrong == 0);
          if (target == "baseline") continue;
          if (first.empty()) first = parts.ToVector();
          for (int64_t i = 0; i < parts.size(); ++i)
            wrong += parts[i].sum != first[i].sum || parts[i].max != first[i].max || parts[i].target != first[i].target;
          CHECK(wrong == 0);
        }
      }
}

TEST_CASE("gemm_lse: NaN shows, -infinity counts nothing, ties go to the lowest column") {
  const int64_t n = 1100, k = 1;
  std::vector<float> src(n, 1.0f), x = {1.0f};
  for (std::string_view target : KernelTargets()) {
    Guarded<uint8_t> bytes(PackedBytes(DType::f32, n, k).value());
    auto join = [&](const std::vector<float>& bias) {
      PackMatrix(DType::f32, src.data(), k, n, k, bytes.data());
      return JoinLse(Parts(*KernelsFor(target), {bytes.data(), DType::f32, n, k}, x, bias.data(), nullptr, 1, 2).data(),
                     LseBlocks(n), 1);
    };
    std::vector<float> bias(n, 0);
    CHECK(join(bias).argmax == 0);
    CHECK(join(bias).log_sum_exp == doctest::Approx(1 + std::log(1100.0)));
    bias.assign(n, -INFINITY);
    CHECK(join(bias).log_sum_exp == -INFINITY);
    bias[700] = bias[1050] = 2;
    CHECK(join(bias).argmax == 700);
    CHECK(join(bias).log_sum_exp == doctest::Approx(3 + std::log(2.0)));
    bias[3] = NAN;
    CHECK(std::isnan(join(bias).log_sum_exp));
    CHECK(join(bias).argmax == 700);
  }
}

TEST_CASE("activations are packed as PackMatrix packs them") {
  for (int64_t n : {0, 1, 15, 16, 17, 40})
    for (int64_t k : {0, 1, 3, 4, 7, 64, 65}) {
      std::vector<float> src = Random((n + k) * (n + k), n + k), columns(k * (n + 2));
      for (int64_t r = 0; r < n; ++r)
        for (int64_t c = 0; c < k; ++c) columns[c * (n + 2) + r] = src[r * (k + 1) + c];
      Guarded<float> want(PackedBytes(DType::f32, n, k).value() / 4);
      PackMatrix(DType::f32, src.data(), k + 1, n, k, want.data());
      for (std::string_view target : KernelTargets()) {
        Guarded<float> a(want.size()), b(want.size());
        KernelsFor(target)->pack_rows(src.data(), k + 1, n, k, a.data());
        KernelsFor(target)->pack_columns(columns.data(), n + 2, n, k, b.data());
        CHECK((a.intact() && b.intact()));
        CHECK(SameBits(a.data(), want.data(), want.size()));
        CHECK(SameBits(b.data(), want.data(), want.size()));
      }
    }
}

}  // namespace
}  // namespace tern

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

// A matrix, packed; `rounded` holds the values as the type keeps them.
struct Packed {
  Guarded<uint8_t> bytes;
  PackedMatrix w;
  std::vector<float> rounded;

  Packed(DType type, const std::vector<float>& src, int64_t n, int64_t k)
      : bytes(PackedBytes(type, n, k).value()), rounded(n * k) {
    PackMatrix(type, src.data(), k, n, k, bytes.data());
    w = {bytes.data(), type, n, k};
    for (int64_t i = 0; i < n; ++i) UnpackRow(w, i, rounded.data() + i * k);
  }
};

Guarded<float> Run(const KernelTable& kernels, const Packed& p, const std::vector<float>& x, int64_t m,
                   const float* bias, Epilogue epilogue, bool accumulate = false, int64_t extra = 0) {
  int64_t n = p.w.n, k = p.w.k;
  Guarded<float> y(std::max<int64_t>(0, m * (n + extra) - extra), 3);
  if (accumulate)
    for (int64_t i = 0; i < y.size(); ++i) y[i] = 0.25f * static_cast<float>(i % 7);
  Guarded<uint8_t> scratch(GemmScratchBytes(p.w.type, m, k));
  GemmCall call;
  call.x = x.data(), call.ldx = k, call.m = m;
  call.w = p.w, call.panel_end = p.w.panels();
  call.bias = bias, call.epilogue = epilogue, call.accumulate = accumulate;
  call.y = y.data(), call.ldy = n + extra, call.scratch = scratch.data();
  kernels.gemm(call);
  CHECK(scratch.intact());
  CHECK(y.intact());
  return y;
}

const DType kTypes[] = {DType::f32, DType::bf16, DType::f16};
const Epilogue kEpilogues[] = {Epilogue::kNone,    Epilogue::kRelu, Epilogue::kGelu,
                               Epilogue::kGeluNew, Epilogue::kSilu, Epilogue::kTanh};

TEST_CASE("gemm agrees with double over awkward sizes, types and epilogues, on every target") {
  const int64_t ms[] = {0, 1, 2, 3, 5, 7, 8, 13, 14, 15, 19, 20, 29, 43}, ns[] = {1, 15, 16, 17, 31, 33, 48, 65, 127},
                ks[] = {0, 1, 2, 3, 16, 37};
  int64_t turn = 0;
  for (DType type : kTypes)
    for (int64_t n : ns)
      for (int64_t k : ks) {
        Packed p(type, Random(n * k, n * 100 + k), n, k);
        CHECK(p.bytes.intact());
        CHECK(PaddingIsZero(p.w));
        std::vector<float> bias = Random(n, 5);
        for (int64_t m : ms) {
          std::vector<float> x = Random(m * k, m);
          Epilogue epilogue = kEpilogues[turn++ % 6];
          const float* b = turn % 5 == 0 ? nullptr : bias.data();
          std::vector<double> magnitude;
          std::vector<double> want = reference::Gemm(x, p.rounded, b, m, n, k, epilogue, &magnitude);
          for (std::string_view target : KernelTargets()) {
            INFO(target, " ", DTypeName(type), " m ", m, " n ", n, " k ", k, " epilogue ", static_cast<int>(epilogue));
            Guarded<float> y = Run(*KernelsFor(target), p, x, m, b, epilogue);
            int64_t wrong = 0;
            for (int64_t i = 0; i < m * n; ++i) wrong += !(std::fabs(y[i] - want[i]) <= 4e-7 * (1 + magnitude[i]));
            CHECK(wrong == 0);
          }
        }
      }
}

TEST_CASE("gemm gives the same bits for any number of rows, panel range and target with fused multiply-adds") {
  for (DType type : kTypes)
    for (int64_t k : {64, 301}) {
      const int64_t n = 333, most = 71;
      Packed p(type, Random(n * k, 1), n, k);
      std::vector<float> x = Random(most * k, 2), bias = Random(n, 3);
      Guarded<float> first = Run(*KernelsFor(KernelTargets()[0]), p, x, most, bias.data(), Epilogue::kGelu);
      for (std::string_view target : KernelTargets()) {
        const KernelTable& kernels = *KernelsFor(target);
        Guarded<float> whole = Run(kernels, p, x, most, bias.data(), Epilogue::kGelu);
        INFO(target, " ", DTypeName(type), " k ", k);
        if (target != "baseline") CHECK(SameBits(whole.data(), first.data(), most * n));
        for (int64_t m = 1; m < most; ++m) {
          Guarded<float> y = Run(kernels, p, x, m, bias.data(), Epilogue::kGelu);
          CHECK(SameBits(y.data(), whole.data(), m * n));
        }
        // Panels one range after the other, rows beginning anywhere.
        for (int64_t step : {1, 2, 3, 5}) {
          Guarded<float> y(most * n);
          Guarded<uint8_t> scratch(GemmScratchBytes(type, most, k));
          for (int64_t row : {int64_t{0}, int64_t{9}})
            for (int64_t at = 0; at < p.w.panels(); at += step) {
              GemmCall call;
              call.x = x.data() + row * k, call.ldx = k, call.m = row == 0 ? 9 : most - 9;
              call.w = p.w, call.panel_begin = at, call.panel_end = std::min(p.w.panels(), at + step);
              call.bias = bias.data(), call.epilogue = Epilogue::kGelu;
              call.y = y.data() + row * n, call.ldy = n, call.scratch = scratch.data();
              kernels.gemm(call);
            }
          CHECK(y.intact());
          CHECK(SameBits(y.data(), whole.data(), most * n));
        }
      }
    }
}

TEST_CASE("a deep product, taken in slices, is the chain of multiply-adds of one that is not") {
  const int64_t k = 9001, n = 75, most = 33;  // deeper than a slice on any machine with up to 4 MB of L2
  for (DType type : kTypes) {
    Packed p(type, Random(n * k, 1), n, k);
    const std::vector<float> x = Random(most * k, 2), bias = Random(n, 3);
    for (std::string_view target : KernelTargets()) {
      const KernelTable& kernels = *KernelsFor(target);
      INFO(target, " ", DTypeName(type));
      for (Epilogue epilogue : {Epilogue::kNone, Epilogue::kGelu}) {
        Guarded<float> whole = Run(kernels, p, x, most, bias.data(), epilogue);
        for (int64_t row : {0, 20, 32}) {  // one row alone is never sliced
          const std::vector<float> one(x.begin() + row * k, x.begin() + (row + 1) * k);
          Guarded<float> alone = Run(kernels, p, one, 1, bias.data(), epilogue);
          CHECK(SameBits(alone.data(), whole.data() + row * n, n));
        }
      }
    }
  }
}

TEST_CASE("rows that collide in L1 are packed first: the same bits as rows that do not") {
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    for (int64_t k : {513, 1024, 1031}) {
      const int64_t n = 300, most = 61, apart = 2048;
      Packed p(type, Random(n * k, 1), n, k);
      std::vector<float> x = Random(most * k, 2), far(static_cast<size_t>(most * apart), 7.0f), bias = Random(n, 3);
      for (int64_t r = 0; r < most; ++r) std::copy_n(x.begin() + r * k, k, far.begin() + r * apart);
      for (std::string_view target : KernelTargets()) {
        const KernelTable& kernels = *KernelsFor(target);
        for (int64_t m : {2, 8, 15, 29, 61}) {
          INFO(target, " ", DTypeName(type), " k ", k, " m ", m);
          Guarded<float> want(m * n), got(m * n);
          Guarded<uint8_t> scratch(GemmScratchBytes(type, m, k));
          GemmCall call;
          call.x = x.data(), call.ldx = k, call.m = m;
          call.w = p.w, call.panel_end = p.w.panels();
          call.bias = bias.data(), call.epilogue = Epilogue::kRelu;
          call.y = want.data(), call.ldy = n, call.scratch = scratch.data();
          if (type == DType::f32) call.scratch = nullptr;  // without scratch nothing is packed
          kernels.gemm(call);
          call.x = far.data(), call.ldx = apart, call.y = got.data(), call.scratch = scratch.data();
          kernels.gemm(call);
          CHECK(SameBits(got.data(), want.data(), m * n));
          CHECK(got.intact());
          CHECK(scratch.intact());
        }
      }
    }
}

TEST_CASE("gemm leaves the columns between rows alone, and accumulates") {
  const int64_t n = 50, k = 40, extra = 5;
  for (DType type : kTypes)
    for (int64_t m : {1, 4, 16, 33})
      for (std::string_view target : KernelTargets()) {
        Packed p(type, Random(n * k, 1), n, k);
        std::vector<float> x = Random(m * k, 2), bias = Random(n, 3);
        for (Epilogue epilogue : {Epilogue::kNone, Epilogue::kTanh}) {
          INFO(target, " ", DTypeName(type), " m ", m);
          Guarded<float> plain = Run(*KernelsFor(target), p, x, m, bias.data(), epilogue);
          Guarded<float> y = Run(*KernelsFor(target), p, x, m, bias.data(), epilogue, true, extra);
          for (int64_t i = 0; i < y.size(); ++i) {
            int64_t row = i / (n + extra), column = i % (n + extra);
            float before = 0.25f * static_cast<float>(i % 7);
            CHECK(y[i] == (column < n ? before + plain[row * n + column] : before));
          }
        }
      }
}

TEST_CASE("gemm writes large products around the caches with the same bits") {
  const int64_t m = 300, n = 16 * 1000, k = 8;
  Packed p(DType::f32, Random(n * k, 1), n, k);
  std::vector<float> x = Random(m * k, 2), bias = Random(n, 3);
  for (std::string_view target : KernelTargets()) {
    const KernelTable& kernels = *KernelsFor(target);
    Guarded<float> aligned(m * n), shifted(m * n, 1);
    for (Guarded<float>* y : {&aligned, &shifted}) {
      GemmCall call;
      call.x = x.data(), call.ldx = k, call.m = m, call.w = p.w, call.panel_end = p.w.panels(), call.bias = bias.data();
      call.y = y->data(), call.ldy = n;
      kernels.gemm(call);
      CHECK(y->intact());
    }
    CHECK(SameBits(aligned.data(), shifted.data(), m * n));
  }
}

TEST_CASE("gemm spreads NaN and infinity to the rows and columns they stand in, no further") {
  const int64_t m = 17, n = 40, k = 9;
  std::vector<float> w = Random(n * k, 1), x = Random(m * k, 2);
  x[3 * k + 2] = NAN;
  w[21 * k + 5] = INFINITY;
  Packed p(DType::f32, w, n, k);
  for (std::string_view target : KernelTargets()) {
    Guarded<float> y = Run(*KernelsFor(target), p, x, m, nullptr, Epilogue::kNone);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) CHECK(std::isfinite(y[i * n + j]) == (i != 3 && j != 21));
  }
}

TEST_CASE("targets are chosen by name") {
  REQUIRE(!KernelTargets().empty());
  CHECK(ChooseKernels("").value() == KernelsFor(KernelTargets()[0]));
  for (std::string_view target : KernelTargets()) CHECK(ChooseKernels(target).value()->target == target);
  Status unknown = ChooseKernels("sse9\n").status();
  CHECK(unknown.code() == Code::kUsage);
  CHECK(unknown.message().find("sse9") != std::string::npos);
  CHECK(unknown.message().find('\n') == std::string::npos);
  CHECK(KernelsFor("sse9") == nullptr);
}

}  // namespace
}  // namespace tern

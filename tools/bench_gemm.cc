// tern bench gemm: y [M, N] = x [M, K] W^T, W packed before the clock starts; with q8, quantising x is part of the product.
#include <algorithm>

#include "engine/base/checked.h"
#include "engine/kernels/kernels.h"
#include "engine/runtime/product_split.h"
#include "tools/bench.h"

namespace tern {
namespace {

struct Shape {
  int64_t m, n, k;
};

struct ProductPart {
  int64_t row, rows, panel_begin, panel_end;
};

class BenchGemm : public Command {
 public:
  void Declare(Arguments& args) override {
    args.Heading("Work");
    args.Integers("--m", &m_, 1, 1 << 20, "rows of x: one or several (default 1,4,16,64,128,512)");
    args.Integers("--n", &n_, 1, 1 << 20, "rows of W; with --k");
    args.Integers("--k", &k_, 1, 1 << 20, "columns of x and W; without both, four shapes of usual layers");
    args.Text("--type", &type_, "type of W: f32, bf16, f16 or q8").ValueName("TYPE");
    args.Integer("--cold-mb", &cold_mb_, 0, 1 << 20, "take matrices in turn that add up to so many megabytes: weights then come from memory");
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(const DType type, WeightType());
    if (type == DType::i8 && std::any_of(k_.begin(), k_.end(), [](int64_t k) { return k > kMostQ8Inputs; })) {
      return UsageError("too wide for q8").Where("--k").Got("more", Str("at most ", kMostQ8Inputs));
    }
    if (n_.empty() != k_.empty()) return UsageError("--n and --k are given together or not at all");
    TERN_ASSIGN(const KernelTable* kernels, ChosenKernels());
    std::vector<Shape> shapes = Shapes();
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, *kernels));
    const double q8_peak = type == DType::i8 ? static_cast<double>(flags_.threads) * PeakQ8Gops(*kernels) : 0;
    std::vector<BenchRow> rows;
    Progress progress(console, "measuring", static_cast<int64_t>(shapes.size()), "shapes");
    for (const Shape& shape : shapes) {
      progress.Update(static_cast<int64_t>(rows.size()));
      BenchRow row;
      Machine limits = machine;  // with the rate at which these weights, hot or cold, can be read
      TERN_ASSIGN(row.measured, Measure(shape, type, *kernels, console.cancel(), &limits.read_gbps));
      row.work = Str("M=", shape.m, " N=", shape.n, " K=", shape.k, " ", type_, cold_mb_ > 0 ? " cold" : "");
      const double flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
      if (type == DType::i8) limits.fma_gflops = q8_peak;
      SetBound(&row, flops, static_cast<double>(*PackedBytes(type, shape.n, shape.k)), limits);
      if (type == DType::i8 && row.bound == "FMA") row.bound = "int8";
      row.json = CommonJson("bench gemm", row.measured, machine);
      row.json["gflops"] = flops * 1e-9 / row.measured.Median();
      for (auto [key, value] : {std::pair("m", shape.m), std::pair("n", shape.n), std::pair("k", shape.k)}) row.json[key] = value;
      row.json["type"] = type_, row.json["target"] = kernels->target, row.json["threads"] = flags_.threads;
      rows.push_back(std::move(row));
    }
    return ReportBench("bench gemm", rows, machine, flags_, console);
  }

 private:
  Result<DType> WeightType() const {
    if (type_ == "f32") return DType::f32;
    if (type_ == "bf16") return DType::bf16;
    if (type_ == "f16") return DType::f16;
    if (type_ == "q8") return DType::i8;
    return UsageError("products of this type are not measured").Where("--type").Got("\"" + Printable(type_, 40) + "\"", "f32, bf16, f16 or q8");
  }

  std::vector<Shape> Shapes() const {
    std::vector<int64_t> ms = m_.empty() ? std::vector<int64_t>{1, 4, 16, 64, 128, 512} : m_;
    std::vector<Shape> shapes;
    auto add = [&](int64_t n, int64_t k) {
      for (int64_t m : ms) shapes.push_back({m, n, k});
    };
    if (n_.empty()) add(768, 768), add(3072, 768), add(768, 3072), add(4096, 1024);
    for (int64_t n : n_)
      for (int64_t k : k_) add(n, k);
    return shapes;
  }

  Result<Measured> Measure(const Shape& s, DType type, const KernelTable& kernels, const CancelToken& cancel, double* read_gbps) {
    const int threads = static_cast<int>(flags_.threads);
    const int64_t one = RoundUp(*PackedBytes(type, s.n, s.k), 64);  // at most 2^20 x 2^20 x 4: no overflow
    const int64_t copies = std::max<int64_t>(1, CeilDiv(cold_mb_ * 1'000'000, one));
    TERN_ASSIGN(Region weights, Allocate(one * copies));
    {
      TERN_ASSIGN(Region source, Allocate(s.n * s.k * 4));
      FillNormal(1, 0.05f, s.n * s.k, reinterpret_cast<float*>(source.data()));
      PackMatrix(type, reinterpret_cast<const float*>(source.data()), s.k, s.n, s.k, weights.data());
    }
    for (int64_t i = 1; i < copies; ++i) std::copy_n(weights.data(), one, weights.data() + i * one);
    TERN_ASSIGN(Region x, Allocate(s.m * s.k * 4));
    TERN_ASSIGN(Region y, Allocate(s.m * s.n * 4));
    FillNormal(2, 1, s.m * s.k, reinterpret_cast<float*>(x.data()));
    const bool q8 = type == DType::i8;
    const int64_t scratch_bytes = q8 ? 0 : RoundUp(GemmScratchBytes(type, s.m, s.k), 64);
    TERN_ASSIGN(Region scratch, Allocate(scratch_bytes * threads));
    const int64_t k4 = RoundUp(s.k, 4);
    TERN_ASSIGN(Region quantised, Allocate(q8 ? s.m * (k4 + 4) : 0));  // rows, then their scales

    if (double near = NearReadGbps(threads, kernels, weights.data(), one * copies); near > 0) *read_gbps = near;
    Gang gang(threads);
    int64_t turn = 0;
    auto product = [&]() -> Status {
      const PackedMatrix w{weights.data() + turn * one, type, s.n, s.k};
      turn = turn + 1 == copies ? 0 : turn + 1;
      auto* in = reinterpret_cast<const float*>(x.data());
      auto* out = reinterpret_cast<float*>(y.data());
      if (q8) {
        auto* scales = reinterpret_cast<float*>(quantised.data() + s.m * k4);
        gang.For(s.m, [&](int64_t r, int) { kernels.quantize_row(in + r * s.k, s.k, quantised.data() + r * k4, scales + r); });
        Split(w, s.m, k4, gang, [&](const ProductPart& part, int) {
          GemmQ8Call call;
          call.x = quantised.data() + part.row * k4, call.x_scales = scales + part.row, call.ldx = k4, call.m = part.rows;
          call.w = w, call.panel_begin = part.panel_begin, call.panel_end = part.panel_end;
          call.y = out + part.row * s.n, call.ldy = s.n;
          kernels.gemm_q8(call);
        });
        return {};
      }
      Split(w, s.m, s.k, gang, [&](const ProductPart& part, int worker) {
        GemmCall call;
        call.x = in + part.row * s.k, call.ldx = s.k, call.m = part.rows;
        call.w = w, call.panel_begin = part.panel_begin, call.panel_end = part.panel_end;
        call.y = out + part.row * s.n, call.ldy = s.n;
        call.scratch = scratch.data() + worker * scratch_bytes;
        kernels.gemm(call);
      });
      return {};
    };
    Result<Measured> measured = Status(Code::kInternal, "not run");
    gang.Run([&] { measured = Repeat(flags_, cancel, product); });
    return measured;
  }

  template <class Part>  // void(ProductPart, worker)
  static void Split(const PackedMatrix& w, int64_t m, int64_t ldx, Gang& gang, Part&& part) {
    const ProductSplit s = SplitProduct(m, w.n, w.k, ldx, gang.threads());
    gang.For(s.chunks(), [&](int64_t chunk, int worker) {
      const int64_t panel = chunk / s.row_chunks * s.panel_step, row = chunk % s.row_chunks * s.row_step;
      part(ProductPart{row, std::min(s.row_step, m - row), panel, std::min(w.panels(), panel + s.panel_step)}, worker);
    });
  }

  static constexpr int64_t kMostQ8Inputs = 65536;  // the sum of a row stays within 32 bits
  std::vector<int64_t> m_, n_, k_;
  std::string type_ = "f32";
  int64_t cold_mb_ = 0;
  RepeatFlags flags_;
};

}  // namespace

extern const Verb kBenchGemm = {"gemm", "Kinds", "matrix products over packed weights",
                                "tern bench gemm\ntern bench gemm --m 16 --n 3072 --k 768 --threads 2 --json", Make<BenchGemm>};

}  // namespace tern

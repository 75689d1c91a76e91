// tern bench gemm: y [M, N] = x [M, K] W^T, W packed before the clock starts.
#include <algorithm>

#include "engine/base/checked.h"
#include "engine/kernels/kernels.h"
#include "tools/bench.h"

namespace tern {
namespace {

struct Shape {
  int64_t m, n, k;
};

class BenchGemm : public Command {
 public:
  void Declare(Arguments& args) override {
    args.Heading("Work");
    args.Integers("--m", &m_, 1, 1 << 20, "rows of x: one or several (default 1,4,16,64,128,512)");
    args.Integers("--n", &n_, 1, 1 << 20, "rows of W; with --k");
    args.Integers("--k", &k_, 1, 1 << 20, "columns of x and W; without both, four shapes of usual layers");
    args.Text("--type", &type_, "type of W: f32, bf16 or f16").ValueName("TYPE");
    args.Integer("--cold-mb", &cold_mb_, 0, 1 << 20, "take matrices in turn that add up to so many megabytes: weights then come from memory");
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(const DType type, WeightType());
    if (n_.empty() != k_.empty()) return UsageError("--n and --k are given together or not at all");
    TERN_ASSIGN(const KernelTable* kernels, ChosenKernels());
    std::vector<Shape> shapes = Shapes();
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, *kernels));
    std::vector<BenchRow> rows;
    Progress progress(console, "measuring", static_cast<int64_t>(shapes.size()), "shapes");
    for (const Shape& shape : shapes) {
      progress.Update(static_cast<int64_t>(rows.size()));
      BenchRow row;
      Machine limits = machine;  // with the rate at which these weights, hot or cold, can be read
      TERN_ASSIGN(row.measured, Measure(shape, type, *kernels, console.cancel(), &limits.read_gbps));
      row.work = Str("M=", shape.m, " N=", shape.n, " K=", shape.k, " ", type_, cold_mb_ > 0 ? " cold" : "");
      const double flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
      SetBound(&row, flops, static_cast<double>(*PackedBytes(type, shape.n, shape.k)), limits);
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
    return UsageError("products of this type are not measured").Where("--type").Got("\"" + Printable(type_, 40) + "\"", "f32, bf16 or f16");
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
    const int64_t scratch_bytes = RoundUp(GemmScratchBytes(type, s.m, s.k), 64);
    TERN_ASSIGN(Region scratch, Allocate(scratch_bytes * threads));

    if (double near = NearReadGbps(threads, kernels, weights.data(), one * copies); near > 0) *read_gbps = near;
    Gang gang(threads);
    int64_t turn = 0;
    auto product = [&]() -> Status {
      GemmCall call;
      call.x = reinterpret_cast<const float*>(x.data()), call.ldx = s.k, call.m = s.m;
      call.w = {weights.data() + turn * one, type, s.n, s.k};
      call.y = reinterpret_cast<float*>(y.data()), call.ldy = s.n;
      call.scratch = scratch.data();
      turn = turn + 1 == copies ? 0 : turn + 1;
      Split(call, kernels, gang, scratch_bytes);
      return {};
    };
    Result<Measured> measured = Status(Code::kInternal, "not run");
    gang.Run([&] { measured = Repeat(flags_, cancel, product); });
    return measured;
  }

  // Panels (in pairs, what the widest register tile takes) go to whoever is free.
  static void Split(const GemmCall& call, const KernelTable& kernels, Gang& gang, int64_t scratch_bytes) {
    const int64_t pairs = CeilDiv(call.w.panels(), 2), macs = call.m * call.w.n * call.w.k;
    const int64_t wanted = gang.threads() > 1 && macs >= (1 << 19) ? 4 * gang.threads() : 1;
    const int64_t per_chunk = CeilDiv(pairs, std::min(pairs, wanted));
    gang.For(CeilDiv(pairs, per_chunk), [&](int64_t chunk, int worker) {
      GemmCall part = call;
      part.panel_begin = chunk * per_chunk * 2;
      part.panel_end = std::min(call.w.panels(), (chunk + 1) * per_chunk * 2);
      part.scratch = static_cast<uint8_t*>(call.scratch) + worker * scratch_bytes;
      kernels.gemm(part);
    });
  }

  std::vector<int64_t> m_, n_, k_;
  std::string type_ = "f32";
  int64_t cold_mb_ = 0;
  RepeatFlags flags_;
};

}  // namespace

extern const Verb kBenchGemm = {"gemm", "Kinds", "matrix products over packed weights",
                                "tern bench gemm\ntern bench gemm --m 16 --n 3072 --k 768 --threads 2 --json", Make<BenchGemm>};

}  // namespace tern

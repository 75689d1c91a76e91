// tern bench ops: the row and elementwise kernels, each over a matrix that, as a layer's activations do, stays in the second cache.
//
// The limit is reading the same memory: what the vectors of one core can take from there, with nothing to compute or write.
#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/kernels/kernels.h"
#include "tools/bench.h"

namespace tern {
namespace {

// One row's memory: a, b inputs, y output, c and d vectors shared by all rows.
struct RowData {
  const float *a, *b, *c, *d;
  float* y;
  int64_t n;
};

// How an op is called and how many bytes of a row it reads and writes per value (vectors that all rows share do not count).
struct OpBench {
  const char* name;
  int bytes_per_value;
  void (*run)(const KernelTable& k, const RowData& r);
};

volatile float sink;  // what a reduction gives must go somewhere

const OpBench kOps[] = {
    {"layer_norm", 8, [](const KernelTable& k, const RowData& r) { k.layer_norm(r.a, nullptr, r.c, r.d, 1e-5f, r.n, nullptr, r.y); }},
    {"layer_norm+residual", 12, [](const KernelTable& k, const RowData& r) { k.layer_norm(r.a, r.b, r.c, r.d, 1e-5f, r.n, nullptr, r.y); }},
    {"rms_norm", 8, [](const KernelTable& k, const RowData& r) { k.rms_norm(r.a, nullptr, r.c, 1e-6f, r.n, nullptr, r.y); }},
    {"softmax", 8, [](const KernelTable& k, const RowData& r) { k.softmax(r.a, r.n, r.y); }},
    {"log_softmax", 8, [](const KernelTable& k, const RowData& r) { k.log_softmax(r.a, r.n, r.y); }},
    {"log_sum_exp", 4, [](const KernelTable& k, const RowData& r) { sink = k.log_sum_exp(r.a, r.n); }},
    {"max", 4, [](const KernelTable& k, const RowData& r) { sink = k.max(r.a, r.n); }},
    {"argmax", 4, [](const KernelTable& k, const RowData& r) { sink = static_cast<float>(k.argmax(r.a, r.n)); }},
    {"top_k 40", 4,
     [](const KernelTable& k, const RowData& r) {
       float values[40];
       int32_t indices[40];
       k.top_k(r.a, r.n, std::min<int64_t>(40, r.n), values, indices);
       sink = values[0];
     }},
    {"sum", 4, [](const KernelTable& k, const RowData& r) { sink = k.sum(r.a, r.n); }},
    {"dot", 8, [](const KernelTable& k, const RowData& r) { sink = k.dot(r.a, r.b, r.n); }},
    {"exp", 8, [](const KernelTable& k, const RowData& r) { k.exp(r.a, r.n, r.y); }},
    {"gelu", 8, [](const KernelTable& k, const RowData& r) { k.gelu(r.a, r.n, r.y); }},
    {"gelu_new", 8, [](const KernelTable& k, const RowData& r) { k.gelu_new(r.a, r.n, r.y); }},
    {"relu", 8, [](const KernelTable& k, const RowData& r) { k.relu(r.a, r.n, r.y); }},
    {"silu", 8, [](const KernelTable& k, const RowData& r) { k.silu(r.a, r.n, r.y); }},
    {"tanh", 8, [](const KernelTable& k, const RowData& r) { k.tanh(r.a, r.n, r.y); }},
    {"sigmoid", 8, [](const KernelTable& k, const RowData& r) { k.sigmoid(r.a, r.n, r.y); }},
    {"add", 12, [](const KernelTable& k, const RowData& r) { k.add(r.a, r.b, r.n, r.y); }},
    {"mul", 12, [](const KernelTable& k, const RowData& r) { k.mul(r.a, r.b, r.n, r.y); }},
    {"scale", 8, [](const KernelTable& k, const RowData& r) { k.scale(r.a, 0.5f, r.n, r.y); }},
    {"bf16_to_f32", 6, [](const KernelTable& k, const RowData& r) { k.bf16_to_f32(reinterpret_cast<const uint16_t*>(r.a), r.n, r.y); }},
    {"f16_to_f32", 6, [](const KernelTable& k, const RowData& r) { k.f16_to_f32(reinterpret_cast<const uint16_t*>(r.a), r.n, r.y); }},
    {"f32_to_bf16", 6, [](const KernelTable& k, const RowData& r) { k.f32_to_bf16(r.a, r.n, reinterpret_cast<uint16_t*>(r.y)); }},
    {"f32_to_f16", 6, [](const KernelTable& k, const RowData& r) { k.f32_to_f16(r.a, r.n, reinterpret_cast<uint16_t*>(r.y)); }},
};

class BenchOps : public Command {
 public:
  void Declare(Arguments& args) override {
    args.Heading("Work");
    args.Texts("--op", &wanted_, "only this one; without it all").ValueName("NAME");
    args.Integer("--rows", &rows_, 1, 1 << 24, "rows of the matrix");
    args.Integer("--width", &width_, 1, 1 << 24, "values in a row");
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(std::vector<const OpBench*> chosen, Choose());
    TERN_ASSIGN(const KernelTable* kernels, ChosenKernels());
    const int64_t values = rows_ * width_;  // at most 2^48
    TERN_ASSIGN(Region memory, Allocate((3 * values + 2 * width_) * 4));
    auto* floats = reinterpret_cast<float*>(memory.data());
    FillNormal(1, 1, 2 * values + 2 * width_, floats);
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, *kernels));
    Machine near = machine;
    near.read_gbps = NearReadGbps(flags_.threads, *kernels, memory.data(), values * 8);
    std::vector<BenchRow> rows;
    Progress progress(console, "measuring", static_cast<int64_t>(chosen.size()), "ops");
    for (const OpBench* op : chosen) {
      progress.Update(static_cast<int64_t>(rows.size()), op->name);
      Gang gang(static_cast<int>(flags_.threads));
      auto pass = [&]() -> Status {
        constexpr int64_t kRowsPerChunk = 8;
        gang.For(CeilDiv(rows_, kRowsPerChunk), [&](int64_t chunk, int) {
          for (int64_t r = chunk * kRowsPerChunk; r < std::min(rows_, (chunk + 1) * kRowsPerChunk); ++r) {
            const float* shared = floats + 2 * values;
            op->run(*kernels, {floats + r * width_, floats + values + r * width_, shared, shared + width_, floats + 2 * values + 2 * width_ + r * width_, width_});
          }
        });
        return {};
      };
      Result<Measured> measured = Status(Code::kInternal, "not run");
      gang.Run([&] { measured = Repeat(flags_, console.cancel(), pass); });
      if (!measured.ok()) return measured.status();
      BenchRow row;
      row.work = Str(op->name, " ", rows_, "x", width_);
      row.measured = std::move(measured).value();
      SetBound(&row, 0, static_cast<double>(values) * op->bytes_per_value, near);
      row.extra = Fixed(row.measured.Median() * 1e9 / static_cast<double>(values), 2) + " ns/value";
      row.json = CommonJson("bench ops", row.measured, machine);
      row.json["op"] = op->name, row.json["rows"] = rows_, row.json["width"] = width_, row.json["gbps"] = row.rate;
      row.json["target"] = kernels->target, row.json["threads"] = flags_.threads;
      rows.push_back(std::move(row));
    }
    return ReportBench("bench ops", rows, machine, flags_, console);
  }

 private:
  Result<std::vector<const OpBench*>> Choose() const {
    std::vector<const OpBench*> chosen;
    std::vector<std::string> names;
    for (const OpBench& op : kOps) names.emplace_back(op.name);
    for (const std::string& name : wanted_) {
      auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) {
        std::string all, near = NearestName(name, names);
        for (const std::string& n : names) all += (all.empty() ? "" : ", ") + n;
        return UsageError("no such op").Where("--op").Got("\"" + Printable(name, 40) + "\"", all).Hint(near.empty() ? "" : "Did you mean " + near + "?");
      }
      chosen.push_back(&kOps[found - names.begin()]);
    }
    if (wanted_.empty())
      for (const OpBench& op : kOps) chosen.push_back(&op);
    return chosen;
  }

  std::vector<std::string> wanted_;
  int64_t rows_ = 128, width_ = 768;
  RepeatFlags flags_;
};

}  // namespace

extern const Verb kBenchOps = {"ops", "Kinds", "norms, softmax, activations and conversions over rows", "tern bench ops\ntern bench ops --op softmax --width 4096",
                               Make<BenchOps>};

}  // namespace tern

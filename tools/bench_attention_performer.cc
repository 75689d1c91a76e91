// tern bench attention --kind performer: random-feature attention with its feature maps, causal by prefix sums or not.
#include <algorithm>

#include "engine/base/checked.h"
#include "models/performer_features.h"
#include "tools/attention_work.h"

namespace tern {
namespace {

struct Memory {
  Region q, k, v, out, projection, states, workspace;
};
float* At(const Region& r) { return reinterpret_cast<float*>(r.data()); }

}  // namespace

Result<BenchRow> MeasurePerformerAttention(std::string_view kind, const AttentionWork& w, const AttentionBench& bench) {
  if (w.causal && w.t != w.s) return UsageError("the causal form takes as many queries as keys").Where("--query-length").Got(w.t, w.s);
  const KernelTable& kernels = bench.kernels;
  const int threads = static_cast<int>(bench.flags.threads);
  const FavorShape shape{FavorKernel::kSoftmax, w.causal, false, w.features, w.dim, w.dim};
  const int64_t heads = w.batch * w.heads, state_bytes = FavorStateBytes(shape), workspace_bytes = FavorWorkspaceBytes(shape, w.t);
  Memory m;
  auto fill = [](Region* region, uint64_t seed, double scale, int64_t n) -> Status {
    TERN_ASSIGN(*region, Allocate(n * 4));
    FillNormal(seed, static_cast<float>(scale), n, At(*region));
    return {};
  };
  TERN_RETURN_IF_ERROR(fill(&m.q, 1, w.sigma, heads * w.t * w.dim));
  TERN_RETURN_IF_ERROR(fill(&m.k, 2, w.sigma, heads * w.s * w.dim));
  TERN_RETURN_IF_ERROR(fill(&m.v, 3, 1, heads * w.s * w.dim));
  TERN_ASSIGN(m.out, Allocate(heads * w.t * w.dim * 4));
  TERN_ASSIGN(m.projection, Allocate(FavorProjectionBytes(w.features, w.dim)));
  TERN_ASSIGN(m.states, Allocate(heads * state_bytes));
  TERN_ASSIGN(m.workspace, Allocate(workspace_bytes * threads));
  PackFavorProjection(kernels, OrthogonalFeatures(w.features, w.dim, 0).data(), w.dim, w.features, w.dim, At(m.projection));

  auto args = [&](int64_t head) {
    FavorArgs a;
    a.q = At(m.q) + head * w.t * w.dim, a.k = At(m.k) + head * w.s * w.dim, a.v = At(m.v) + head * w.s * w.dim, a.out = At(m.out) + head * w.t * w.dim;
    a.q_stride = a.k_stride = a.v_stride = a.out_stride = w.dim;
    a.projection = At(m.projection);
    return a;
  };
  constexpr int64_t kRows = 4 * kFavorBlock;
  const int64_t blocks = CeilDiv(w.t, kRows);
  Gang gang(threads);
  auto step = [&]() -> Status {
    gang.For(heads, [&](int64_t head, int worker) {
      uint8_t *state = m.states.data() + head * state_bytes, *workspace = m.workspace.data() + worker * workspace_bytes;
      ResetFavor(shape, state);
      if (w.causal) return FavorCausal(kernels, shape, args(head), w.t, state, workspace);
      FavorKeys(kernels, shape, args(head), w.s, state, workspace);
      FavorFinishKeys(kernels, shape, state);
    });
    if (w.causal) return {};
    gang.For(heads * blocks, [&](int64_t i, int worker) {
      const int64_t head = i / blocks, begin = i % blocks * kRows;
      FavorQueries(kernels, shape, args(head), begin, std::min(w.t, begin + kRows), m.states.data() + head * state_bytes, m.workspace.data() + worker * workspace_bytes);
    });
    return {};
  };
  Result<Measured> measured = Status(Code::kInternal, "not run");
  gang.Run([&] { measured = Repeat(bench.flags, bench.cancel, step); });
  if (!measured.ok()) return measured.status();

  BenchRow row;
  row.measured = std::move(measured).value();
  row.work = Str(kind, w.causal ? " causal" : "", " B=", w.batch, " H=", w.heads, " T=", w.t, " S=", w.s, " D=", w.dim, " m=", w.features);
  const double md = static_cast<double>(w.features * w.dim), t = static_cast<double>(w.t), s = static_cast<double>(w.s);
  const double block = w.causal ? static_cast<double>(kFavorBlock * (w.features + w.dim)) : 0;
  const double flops = static_cast<double>(heads) * (t * (4 * md + block) + s * 4 * md);
  SetBound(&row, flops, 0, bench.machine);
  row.json = CommonJson("bench attention", row.measured, bench.machine);
  row.json["gflops"] = flops * 1e-9 / row.measured.Median();
  row.json["workspace_bytes"] = workspace_bytes * threads + heads * state_bytes;
  row.json["kind"] = kind, row.json["batch"] = w.batch, row.json["heads"] = w.heads, row.json["query_length"] = w.t, row.json["length"] = w.s;
  row.json["head_dim"] = w.dim, row.json["features"] = w.features, row.json["causal"] = w.causal, row.json["target"] = kernels.target, row.json["threads"] = bench.flags.threads;
  if (w.accuracy) {
    TERN_ASSIGN(row.json["relative_error"], ErrorAgainstExact(kernels, At(m.q), At(m.k), At(m.v), At(m.out), heads, w));
  }
  return row;
}

}  // namespace tern

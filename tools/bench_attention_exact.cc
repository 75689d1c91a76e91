// tern bench attention --kind exact|causal|xl: T new queries at the end of S keys.
//
// Timed as the engine does it in a step: the T new keys and values are written into the cache (panels), then the queries attend. What was there before the
// step - S - T cached keys, Transformer-XL's table of distances - is laid out before the clock starts.
#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "engine/kernels/attention.h"
#include "tools/attention_work.h"

namespace tern {
namespace {

class ExactBench {
 public:
  ExactBench(std::string_view kind, const AttentionWork& work, const AttentionBench& bench)
      : kind_(kind), batch_(work.batch), heads_(work.heads), head_dim_(work.dim), sigma_(static_cast<float>(work.sigma)), flags_(bench.flags), bench_(bench) {}

  // All memory of one case, one region each.
  struct Case {
    int64_t t, s, heads, dim;  // heads: B * H
    Region q, k, v, out, panels, distances, workspace;
    int64_t panel_bytes, distance_bytes, workspace_bytes;
    std::vector<float> u, w;
    KvPanels Head(int64_t h) { return MakeKvPanels(panels.data() + h * panel_bytes, s, dim, dim, DType::f32); }
  };

  Result<Case> Prepare(int64_t t, int64_t s) const {
    Case c;
    c.t = t, c.s = s, c.heads = batch_ * heads_, c.dim = head_dim_;  // at most 2^22 * 2^22 * 2^10 values: within 63 bits
    auto fill = [&](Region* region, uint64_t seed, int64_t n) -> Status {
      TERN_ASSIGN(*region, Allocate(n * 4));
      FillNormal(seed, seed <= 2 ? sigma_ : 1, n, reinterpret_cast<float*>(region->data()));
      return {};
    };
    TERN_RETURN_IF_ERROR(fill(&c.q, 1, c.heads * t * c.dim));
    TERN_RETURN_IF_ERROR(fill(&c.k, 2, c.heads * s * c.dim));
    TERN_RETURN_IF_ERROR(fill(&c.v, 3, c.heads * s * c.dim));
    TERN_ASSIGN(c.out, Allocate(c.heads * t * c.dim * 4));
    c.panel_bytes = KvBytes(s, c.dim, c.dim, DType::f32);
    TERN_ASSIGN(c.panels, Allocate(c.heads * c.panel_bytes));
    for (int64_t h = 0; h < c.heads; ++h) Append(c, h, 0, s);
    c.workspace_bytes = RoundUp(AttentionWorkspaceBytes(c.dim, c.dim, DType::f32), 64);
    TERN_ASSIGN(c.workspace, Allocate(c.workspace_bytes * flags_.threads));
    if (kind_ == "xl") {
      c.distance_bytes = RoundUp(DistancePanelsBytes(s - 1, c.dim), 64);
      TERN_ASSIGN(c.distances, Allocate(heads_ * c.distance_bytes));
      Region rk;
      TERN_RETURN_IF_ERROR(fill(&rk, 4, s * c.dim));
      for (int64_t h = 0; h < heads_; ++h) {
        PackDistances(reinterpret_cast<const float*>(rk.data()), c.dim, s - 1, c.dim, reinterpret_cast<float*>(c.distances.data() + h * c.distance_bytes));
      }
      c.u.resize(static_cast<size_t>(c.dim)), c.w.resize(static_cast<size_t>(c.dim));
      FillNormal(5, 1, c.dim, c.u.data()), FillNormal(6, 1, c.dim, c.w.data());
    }
    return c;
  }

  static void Append(Case& c, int64_t head, int64_t begin, int64_t end) {
    const int64_t row = (head * c.s + begin) * c.dim;
    AppendKv(c.Head(head), begin, end - begin, reinterpret_cast<const float*>(c.k.data()) + row, c.dim, reinterpret_cast<const float*>(c.v.data()) + row, c.dim);
  }

  AttentionArgs Args(Case& c, int64_t head) const {
    AttentionArgs a;
    a.q = reinterpret_cast<const float*>(c.q.data()) + head * c.t * c.dim;
    a.out = reinterpret_cast<float*>(c.out.data()) + head * c.t * c.dim;
    a.q_stride = a.out_stride = c.dim;
    a.n_tokens = c.t;
    a.q_position = c.s - c.t;
    a.kv = c.Head(head);
    a.scale = 1 / std::sqrt(static_cast<float>(c.dim));
    a.last_key = c.s - 1;
    a.causal = kind_ != "exact";
    if (kind_ == "xl") {
      a.distances = reinterpret_cast<const float*>(c.distances.data() + head % heads_ * c.distance_bytes);
      a.max_distance = c.s - 1;
      a.u = c.u.data(), a.v = c.w.data();
    }
    return a;
  }

  const std::string_view kind_;
  const int64_t batch_, heads_, head_dim_;
  const float sigma_;
  const RepeatFlags& flags_;
  const AttentionBench& bench_;

 public:
  Result<BenchRow> Measure(int64_t t, int64_t s) const {
    const KernelTable& kernels = bench_.kernels;
    const Machine& machine = bench_.machine;
    const AttentionKernels& attention = *AttentionFor(kernels.target);
    TERN_ASSIGN(Case c, Prepare(t, s));
    const int64_t block = std::max<int64_t>(1, AttentionBlockTokens(t, 1)), blocks = CeilDiv(t, block);
    Gang gang(static_cast<int>(flags_.threads));
    auto step = [&]() -> Status {
      gang.For(c.heads, [&](int64_t head, int) { Append(c, head, s - t, s); });
      // The last block of a causal head sees the most keys: the longest work goes first.
      gang.For(c.heads * blocks, [&](int64_t i, int worker) {
        const int64_t b = blocks - 1 - i / c.heads;
        attention.attend(Args(c, i % c.heads), b * block, std::min(t, (b + 1) * block), c.workspace.data() + worker * c.workspace_bytes);
      });
      return {};
    };
    Result<Measured> measured = Status(Code::kInternal, "not run");
    gang.Run([&] { measured = Repeat(flags_, bench_.cancel, step); });
    if (!measured.ok()) return measured.status();

    BenchRow row;
    row.measured = std::move(measured).value();
    row.work = Str(kind_, " B=", batch_, " H=", heads_, " T=", t, " S=", s, " D=", head_dim_);
    const double pairs_all = static_cast<double>(c.heads) * static_cast<double>(t) * static_cast<double>(s);
    const double hidden = static_cast<double>(c.heads) * static_cast<double>(t) * static_cast<double>(t - 1) / 2;  // pairs a causal mask removes
    const double pairs = kind_ == "exact" ? pairs_all : pairs_all - hidden;
    const double flops = (kind_ == "xl" ? 6.0 : 4.0) * pairs * static_cast<double>(head_dim_);
    // One query row reads every key and value once and does little with it.
    const double bytes = 8.0 * static_cast<double>(c.heads) * static_cast<double>(s) * static_cast<double>(head_dim_);
    Machine limits = machine;
    if (double near = NearReadGbps(flags_.threads, kernels, c.panels.data(), c.heads * c.panel_bytes); near > 0) limits.read_gbps = near;
    SetBound(&row, flops, bytes, limits);
    row.json = CommonJson("bench attention", row.measured, machine);
    row.json["gflops"] = flops * 1e-9 / row.measured.Median();
    // Scratch; with S = T nothing is cached beforehand, and the panels are scratch too.
    row.json["workspace_bytes"] = c.workspace_bytes * flags_.threads + (t == s ? c.heads * c.panel_bytes : 0);
    row.json["kind"] = kind_, row.json["batch"] = batch_, row.json["heads"] = heads_, row.json["query_length"] = t, row.json["length"] = s;
    row.json["head_dim"] = head_dim_, row.json["target"] = kernels.target, row.json["threads"] = flags_.threads;
    return row;
  }

};

}  // namespace

Result<BenchRow> MeasureExactAttention(std::string_view kind, const AttentionWork& work, const AttentionBench& bench) {
  return ExactBench(kind, work, bench).Measure(work.t, work.s);
}

Result<double> ErrorAgainstExact(const KernelTable& kernels, const float* q, const float* k, const float* v, const float* out, int64_t heads, const AttentionWork& w) {
  const int64_t some_heads = std::min<int64_t>(heads, 8), rows = std::min<int64_t>(w.t, 32);
  TERN_ASSIGN(Region panels, Allocate(KvBytes(w.s, w.dim, w.dim, DType::f32)));
  TERN_ASSIGN(Region workspace, Allocate(AttentionWorkspaceBytes(w.dim, w.dim, DType::f32)));
  std::vector<float> exact(static_cast<size_t>(w.dim));
  double wrong = 0, all = 0;
  for (int64_t h = 0; h < some_heads; ++h) {
    AttentionArgs a;
    a.kv = MakeKvPanels(panels.data(), w.s, w.dim, w.dim, DType::f32);
    AppendKv(a.kv, 0, w.s, k + h * w.s * w.dim, w.dim, v + h * w.s * w.dim, w.dim);
    a.out = exact.data();
    a.n_tokens = 1;
    a.scale = 1 / std::sqrt(static_cast<float>(w.dim));
    a.last_key = w.s - 1, a.causal = w.causal;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t t = (2 * i + 1) * w.t / (2 * rows);  // spread over the sequence
      a.q = q + (h * w.t + t) * w.dim;
      a.q_position = w.s - w.t + t;
      kernels.attend(a, 0, 1, workspace.data());
      const float* got = out + (h * w.t + t) * w.dim;
      for (int64_t d = 0; d < w.dim; ++d) {
        const double want = exact[static_cast<size_t>(d)];
        wrong += (got[d] - want) * (got[d] - want), all += want * want;
      }
    }
  }
  return std::sqrt(wrong / all);
}

}  // namespace tern

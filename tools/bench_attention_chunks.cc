// tern bench attention --kind lsh|local.
#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "engine/base/torch_random.h"
#include "engine/runtime/lsh_attention.h"
#include "tools/attention_work.h"

namespace tern {
namespace {

class Bench {
 public:
  Bench(bool lsh, const AttentionWork& work, const AttentionBench& bench) : lsh_(lsh), w_(work), flags_(bench.flags), kernels_(bench.kernels), cancel_(bench.cancel) {
    spec_.batch = w_.batch, spec_.heads = w_.heads, spec_.head_width = w_.dim;
    spec_.chunk = w_.chunk, spec_.num_hashes = w_.hashes, spec_.causal = w_.causal;
    spec_.max_positions = 1 << 20;
    buckets_ = BucketsFor(spec_, w_.s);
  }

  Status Prepare() {
    const int64_t n = w_.batch * w_.heads * w_.s * w_.dim;
    const int threads = static_cast<int>(flags_.threads);
    for (Region* r : {&q_, &v_, &out_}) {
      TERN_ASSIGN(*r, Allocate(n * 4));
    }
    FillNormal(1, static_cast<float>(w_.sigma), n, At(q_)), FillNormal(3, 1, n, At(v_));
    if (lsh_) {
      TERN_ASSIGN(rotations_, Allocate(w_.heads * w_.dim * w_.hashes * buckets_.directions() * 4));
      workspace_bytes_ = LshScratchBytes(spec_, w_.s, threads);
    } else {
      TERN_ASSIGN(k_, Allocate(n * 4));
      FillNormal(2, static_cast<float>(w_.sigma), n, At(k_));
      workspace_bytes_ = ChunkWorkspaceBytes(w_.dim, w_.chunk, 1, 0) * threads;
    }
    TERN_ASSIGN(workspace_, Allocate(workspace_bytes_));
    return {};
  }

  void Step(Gang* gang) { lsh_ ? Hashed(gang) : Local(gang); }
  int64_t workspace_bytes() const { return workspace_bytes_ + static_cast<int64_t>(rotations_.bytes()); }
  double flops() const {
    const double rows = static_cast<double>(w_.batch * w_.heads * w_.s), d = static_cast<double>(w_.dim);
    if (!lsh_) return 4 * rows * d * static_cast<double>(2 * w_.chunk);
    return rows * d * static_cast<double>(w_.hashes) * (4.0 * static_cast<double>(2 * w_.chunk) + 2.0 * static_cast<double>(buckets_.directions()));
  }

  // Hashed attention has no exact one beside it that means the same: its keys are its queries, and no token sees itself.
  Status AddError(Json* json) const {
    if (!w_.accuracy || lsh_) return {};
    TERN_ASSIGN((*json)["relative_error"], ErrorAgainstExact(kernels_, At(q_), At(k_), At(v_), At(out_), w_.batch * w_.heads, w_));
    return {};
  }

 private:
  static float* At(const Region& r) { return reinterpret_cast<float*>(r.data()); }
  int64_t per_head() const { return w_.s * w_.dim; }

  void Hashed(Gang* gang) {
    const int64_t per_rotation = w_.dim * w_.hashes * buckets_.directions();
    TorchNormal(0, w_.heads * per_rotation, At(rotations_));
    for (int64_t i = 0; i < w_.batch * w_.heads; ++i) {
      LshHead h;
      h.qk = At(q_) + i * per_head(), h.v = At(v_) + i * per_head(), h.out = At(out_) + i * per_head();
      h.qk_stride = h.v_stride = h.out_stride = w_.dim;
      h.length = w_.s;
      h.rotations = At(rotations_) + i % w_.heads * per_rotation;
      h.buckets = buckets_;
      AttendLshHead(gang, kernels_, &cancel_, spec_, h, workspace_.data(), static_cast<int>(flags_.threads), nullptr);
    }
  }

  void Local(Gang* gang) {
    ChunkAttention a;
    a.head_width = a.q_stride = a.k_stride = a.v_stride = a.out_stride = w_.dim;
    a.length = w_.s, a.chunk = std::min(w_.chunk, w_.s), a.before = w_.s > w_.chunk;
    a.scale = 1 / std::sqrt(static_cast<float>(w_.dim));
    a.causal = w_.causal;
    constexpr int64_t kChunksAtOnce = 8;
    const int64_t parts = CeilDiv(a.chunks(), kChunksAtOnce), bytes = workspace_bytes_ / flags_.threads;
    gang->For(w_.batch * w_.heads * parts, [&](int64_t i, int worker) {
      ChunkAttention one = a;
      const int64_t head = i / parts, part = i % parts;
      one.q = At(q_) + head * per_head(), one.k = At(k_) + head * per_head(), one.v = At(v_) + head * per_head();
      one.out = At(out_) + head * per_head();
      AttendChunks(kernels_, one, part * kChunksAtOnce, std::min(one.chunks(), (part + 1) * kChunksAtOnce), workspace_.data() + worker * bytes);
    });
  }

  const bool lsh_;
  const AttentionWork& w_;
  const RepeatFlags& flags_;
  const KernelTable& kernels_;
  const CancelToken& cancel_;
  LshSpec spec_;
  BucketFactors buckets_;
  Region q_, k_, v_, out_, rotations_, workspace_;
  int64_t workspace_bytes_ = 0;
};

}  // namespace

Result<BenchRow> MeasureChunkAttention(std::string_view kind, const AttentionWork& work, const AttentionBench& bench) {
  if (work.t != work.s) return UsageError("this kind takes as many queries as keys").Where("--query-length").Got(work.t, work.s);
  if (work.s > work.chunk && work.s % work.chunk != 0)
    return UsageError("this kind takes whole chunks").Where("--length").Got(work.s, Str("a multiple of --chunk ", work.chunk));
  const bool lsh = kind == "lsh";
  Bench layer(lsh, work, bench);
  TERN_RETURN_IF_ERROR(layer.Prepare());
  Gang gang(static_cast<int>(bench.flags.threads));
  Result<Measured> measured = Status(Code::kInternal, "not run");
  gang.Run([&] {
    measured = Repeat(bench.flags, bench.cancel, [&]() -> Status {
      layer.Step(&gang);
      return {};
    });
  });
  if (!measured.ok()) return measured.status();
  BenchRow row;
  row.measured = std::move(measured).value();
  row.work = Str(kind, work.causal ? " causal" : "", " B=", work.batch, " H=", work.heads, " S=", work.s, " D=", work.dim, " chunk ", work.chunk, lsh ? Str(", rounds ", work.hashes) : "");
  SetBound(&row, layer.flops(), 0, bench.machine);
  row.json = CommonJson("bench attention", row.measured, bench.machine);
  row.json["gflops"] = layer.flops() * 1e-9 / row.measured.Median();
  row.json["workspace_bytes"] = layer.workspace_bytes();
  row.json["kind"] = kind, row.json["batch"] = work.batch, row.json["heads"] = work.heads, row.json["query_length"] = work.t, row.json["length"] = work.s;
  row.json["head_dim"] = work.dim, row.json["chunk"] = work.chunk, row.json["causal"] = work.causal;
  if (lsh) row.json["hashes"] = work.hashes;
  row.json["target"] = bench.kernels.target, row.json["threads"] = bench.flags.threads;
  TERN_RETURN_IF_ERROR(layer.AddError(&row.json));
  return row;
}

}  // namespace tern

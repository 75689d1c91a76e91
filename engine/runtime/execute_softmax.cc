// The distribution over the vocabulary: plain and adaptive, whole rows or targets alone.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"

namespace tern {
namespace {

// The inputs of both softmax ops, by cluster.
struct Clusters {
  const OpCall& call;
  const SoftmaxSpec& spec;

  size_t per() const { return spec.inputs_per_cluster(); }
  const Operand& weight(int c) const { return call.in(1 + static_cast<size_t>(c) * per()); }
  const float* bias(int c) const { return spec.bias ? call.in(2 + static_cast<size_t>(c) * per()).f32() : nullptr; }
  const Operand& projection(int c) const { return call.in(static_cast<size_t>(c) * per() + per()); }
  const Operand& cluster_weight() const { return call.in(1 + static_cast<size_t>(spec.clusters) * per()); }
  const Operand& cluster_bias() const { return call.in(2 + static_cast<size_t>(spec.clusters) * per()); }
  const Operand& targets() const { return call.in(1 + static_cast<size_t>(spec.clusters) * per() + (spec.clusters > 1 ? 2 : 0)); }
  int tails() const { return spec.clusters - 1; }
  // The head's column of tail c (1-based): forward, or from the end in the original code.
  int column(int c) const { return spec.reversed ? tails() - c : c - 1; }
};

struct Scratch {
  float* projected;       // [rows, widest cluster]
  float* cluster_logits;  // [rows, C-1]
  float* gathered;        // [rows, D]           target form only, as all below
  float* head;            // [rows]              log-sum-exp of the head
  int64_t* targets;       // [rows]
  int32_t* order;         // [rows]
  LsePart* parts;         // [blocks, rows]
  uint8_t* product;       // per worker
  int64_t bytes;
};

Scratch CarveScratch(uint8_t* base, int64_t rows, int64_t width, int64_t widest, int64_t most_blocks, int clusters, bool target) {
  Carve carve(base);
  Scratch s{};
  s.projected = carve.Take<float>(rows * widest);
  s.cluster_logits = carve.Take<float>(rows * (clusters - 1));
  if (target) {
    s.gathered = carve.Take<float>(rows * width);
    s.head = carve.Take<float>(rows);
    s.targets = carve.Take<int64_t>(rows);
    s.order = carve.Take<int32_t>(rows);
    s.parts = carve.Take<LsePart>(rows * most_blocks);
  }
  s.product = carve.Take<uint8_t>(0);
  s.bytes = carve.bytes();
  return s;
}

Scratch ScratchOf(const Clusters& k, bool target) {
  int64_t widest = 0, blocks = 0;
  for (int c = 0; c < k.spec.clusters; ++c) {
    if (k.spec.projected) widest = std::max(widest, k.weight(c).cols);
    blocks = std::max(blocks, LseBlocks(k.weight(c).rows));
  }
  const Operand& h = k.call.in(0);
  return CarveScratch(k.call.workspace, h.rows, h.cols, widest, blocks, k.spec.clusters, target);
}

// h, or h projected to the width of cluster c.
struct Projected {
  const float* data;
  int64_t stride;
};
Projected Project(const Clusters& k, int c, const float* h, int64_t stride, int64_t rows, const Scratch& s) {
  if (!k.spec.projected) return {h, stride};
  const int64_t width = k.weight(c).cols;
  ParallelMatMul(k.call, h, stride, rows, k.projection(c).weight, nullptr, Activation::kNone, s.projected, width, s.product);
  return {s.projected, width};
}

void ClusterLogits(const Clusters& k, const Projected& head, int64_t rows, const Scratch& s) {
  if (k.tails() > 0)
    ParallelMatMul(k.call, head.data, head.stride, rows, k.cluster_weight().weight, k.cluster_bias().f32(), Activation::kNone, s.cluster_logits, k.tails(), s.product);
}

// log(exp(a) + exp(b)), of log-sum-exps.
double Join(double a, double b) {
  double high = std::max(a, b), low = std::min(a, b);
  return std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
}

// Log-sum-exp and target logit of every row over one cluster's own columns, without writing them.
void RunLse(const Clusters& k, int c, const Projected& x, int64_t rows, const Scratch& s) {
  const PackedMatrix w = Packed(k.weight(c).weight);
  const int64_t blocks = LseBlocks(w.n), scratch_bytes = RoundUp(GemmLseScratchBytes(w.type, rows, w.k), 64);
  k.call.run.gang->For(blocks, [&](int64_t block, int worker) {
    GemmLseCall g;
    g.x = x.data, g.ldx = x.stride, g.m = rows, g.w = w, g.bias = k.bias(c);
    g.block_begin = block, g.block_end = block + 1;
    g.targets = s.targets, g.parts = s.parts;
    g.scratch = s.product + worker * scratch_bytes;
    k.call.kernels().gemm_lse(g);
  });
}

}  // namespace

int64_t SoftmaxScratchBytes(const Graph& g, const Op& op, const SoftmaxSpec& spec, bool target, int threads, const std::function<DType(size_t)>& type_of) {
  auto value = [&](size_t i) -> const ValueSpec& { return g.values[static_cast<size_t>(op.inputs[i])]; };
  const size_t per = spec.inputs_per_cluster(), clusters = static_cast<size_t>(spec.clusters);
  const int64_t rows = g.Capacity(value(0).extent.rows), width = value(0).extent.cols;
  int64_t widest = 0, blocks = 0, product = 0;
  auto count = [&](size_t weight) {
    product = std::max(product, MatMulScratchBytes(type_of(weight), rows, value(weight).extent.cols, threads));
    if (target) product = std::max(product, RoundUp(GemmLseScratchBytes(type_of(weight), rows, value(weight).extent.cols), 64) * threads);
  };
  for (size_t c = 0; c < clusters; ++c) {
    count(1 + c * per);
    if (spec.projected) count(c * per + per), widest = std::max(widest, value(1 + c * per).extent.cols);
    blocks = std::max(blocks, LseBlocks(value(1 + c * per).extent.rows.scale));
  }
  if (clusters > 1) count(1 + clusters * per);
  return CarveScratch(nullptr, rows, width, widest, blocks, spec.clusters, target).bytes + product;
}

void Execute(const LogSoftmaxOp& op, const OpCall& call) {
  const Clusters k{call, op};
  const Scratch s = ScratchOf(k, false);
  const Operand &h = call.in(0), &out = call.out();
  int64_t begin = 0;
  for (int c = 0; c < op.clusters; ++c) {
    const Projected x = Project(k, c, h.f32(), h.stride, h.rows, s);
    ParallelMatMul(call, x.data, x.stride, h.rows, k.weight(c).weight, k.bias(c), Activation::kNone, out.f32() + begin, out.stride, s.product);
    if (c == 0) ClusterLogits(k, x, h.rows, s);
    begin += k.weight(c).rows;
  }
  call.run.gang->For(h.rows, [&](int64_t r, int) {
    float* row = out.f32() + r * out.stride;
    const int64_t head = k.weight(0).rows;
    if (op.clusters == 1) return call.kernels().log_softmax(row, head, row);
    const float* clusters = s.cluster_logits + r * k.tails();
    const double lse = Join(call.kernels().log_sum_exp(row, head), call.kernels().log_sum_exp(clusters, k.tails()));
    for (int64_t i = 0; i < head; ++i) row[i] = static_cast<float>(row[i] - lse);
    int64_t at = head;
    for (int c = 1; c < op.clusters; ++c) {
      const int64_t n = k.weight(c).rows;
      const double shift = clusters[k.column(c)] - lse - call.kernels().log_sum_exp(row + at, n);
      for (int64_t i = at; i < at + n; ++i) row[i] = static_cast<float>(row[i] + shift);
      at += n;
    }
  });
}

void Execute(const TargetLogProbOp& op, const OpCall& call) {
  const Clusters k{call, op};
  const Scratch s = ScratchOf(k, true);
  const Operand &h = call.in(0), &out = call.out();
  const int32_t* targets = k.targets().i32();
  const int64_t head = k.weight(0).rows;

  // Every row needs the head: its own log-probability, or that of its cluster.
  for (int64_t r = 0; r < h.rows; ++r) s.targets[r] = targets[r] >= 0 && targets[r] < head ? targets[r] : -1;
  const Projected x = Project(k, 0, h.f32(), h.stride, h.rows, s);
  ClusterLogits(k, x, h.rows, s);
  RunLse(k, 0, x, h.rows, s);
  for (int64_t r = 0; r < h.rows; ++r) {
    const LseRow row = JoinLse(s.parts + r, LseBlocks(head), h.rows);
    double lse = row.log_sum_exp;
    if (k.tails() > 0) lse = Join(lse, call.kernels().log_sum_exp(s.cluster_logits + r * k.tails(), k.tails()));
    s.head[r] = static_cast<float>(lse);
    out.f32()[r * out.stride] = targets[r] < 0 ? 0.0f : static_cast<float>((row.has_target ? row.target : 0.0) - lse);
  }

  // Only rows whose target lies in a tail need that tail.
  int64_t begin = head;
  for (int c = 1; c < op.clusters; ++c) {
    const int64_t n = k.weight(c).rows;
    int64_t count = 0;
    for (int64_t r = 0; r < h.rows; ++r)
      if (targets[r] >= begin && targets[r] < begin + n) {
        std::memcpy(s.gathered + count * h.cols, h.f32() + r * h.stride, static_cast<size_t>(h.cols) * 4);
        s.targets[count] = targets[r] - begin;
        s.order[count++] = static_cast<int32_t>(r);
      }
    if (count > 0) {
      const Projected tail = Project(k, c, s.gathered, h.cols, count, s);
      RunLse(k, c, tail, count, s);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t r = s.order[i];
        const LseRow row = JoinLse(s.parts + i, LseBlocks(n), count);
        out.f32()[r * out.stride] = static_cast<float>(s.cluster_logits[r * k.tails() + k.column(c)] - static_cast<double>(s.head[r]) + row.target - row.log_sum_exp);
      }
    }
    begin += n;
  }
}

}  // namespace tern

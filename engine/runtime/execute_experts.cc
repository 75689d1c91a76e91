// Top-1 mixture of experts (Switch Transformer, Fedus et al. 2021): route, sort the tokens by expert, two grouped products, scatter.
#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/routing.h"

namespace tern {
namespace {

// Everything that depends on the data, at its largest: one expert may get all rows.
struct Scratch : Routing {
  float* gate;        // [r]
  float* probabilities;  // [threads, E]
  float *gathered, *inner, *result;  // [r, D], [r, F], [r, D] in the order of `order`
  uint8_t* product;   // [threads] scratches of a product
  int64_t product_bytes, bytes;

  Scratch(uint8_t* base, const ExpertsOp& op, int64_t rows, int64_t width, DType type, int threads) {
    Carve carve(base);
    expert = carve.Take<int32_t>(rows), gate = carve.Take<float>(rows), order = carve.Take<int32_t>(rows);
    offsets = carve.Take<int32_t>(op.experts + 1), counts = carve.Take<int32_t>(op.experts), active = carve.Take<int32_t>(op.experts);
    probabilities = carve.Take<float>(threads * RoundUp(op.experts, 16));
    gathered = carve.Take<float>(rows * width), inner = carve.Take<float>(rows * op.inner), result = carve.Take<float>(rows * width);
    product_bytes = RoundUp(std::max(GemmScratchBytes(type, rows, width), GemmScratchBytes(type, rows, op.inner)), 64);
    product = carve.Take<uint8_t>(product_bytes * threads);
    bytes = carve.bytes();
  }
};

// The choice and its probability, row by row.
void Choose(const OpCall& call, const ExpertsOp& op, const Operand& logits, const Scratch& s) {
  constexpr int64_t kRows = 16;
  call.run.gang->For(CeilDiv(logits.rows, kRows), [&](int64_t chunk, int worker) {
    float* p = s.probabilities + worker * RoundUp(op.experts, 16);
    for (int64_t r = chunk * kRows; r < std::min(logits.rows, (chunk + 1) * kRows); ++r) {
      call.kernels().softmax(logits.f32() + r * logits.stride, op.experts, p);
      const int64_t e = call.kernels().argmax(p, op.experts);
      s.expert[r] = static_cast<int32_t>(e), s.gate[r] = p[e];
    }
  });
}

int64_t Sort(const OpCall& call, const ExpertsOp& op, int64_t rows, const Scratch& s) {
  if (!op.starts)
    return SortByExpert(s, rows, op.experts, op.capacity, op.policy, op.batch, [tokens = rows / op.batch](int64_t q) { return q * tokens; });
  const Operand& starts = call.in(4);
  return SortByExpert(s, rows, op.experts, op.capacity, op.policy, starts.rows - 1, [&](int64_t q) -> int64_t { return starts.i32()[q]; });
}

// y = act(x W_e^T) for the rows of every expert of the list; panels are shared out, so the bits do not depend on who computes them.
void Grouped(const OpCall& call, std::span<const int32_t> experts, const Scratch& s, std::span<const BoundWeight> weights, const float* x, Activation activation, float* y) {
  const PackedMatrix first = Packed(weights[0]);
  int64_t rows = 0;
  for (int32_t e : experts) rows += s.offsets[e + 1] - s.offsets[e];
  const int64_t pairs = CeilDiv(first.panels(), 2), wanted = call.threads > 1 && rows * first.n * first.k >= (1 << 19) ? 4 * call.threads : 1;
  const int64_t per_chunk = CeilDiv(pairs, std::min(pairs, wanted)), chunks = CeilDiv(pairs, per_chunk);
  call.run.gang->For(static_cast<int64_t>(experts.size()) * chunks, [&](int64_t i, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int32_t e = experts[static_cast<size_t>(i / chunks)];
    GemmCall g;
    g.w = Packed(weights[static_cast<size_t>(e)]);
    g.x = x + s.offsets[e] * first.k, g.ldx = first.k;
    g.m = s.offsets[e + 1] - s.offsets[e];
    g.panel_begin = i % chunks * per_chunk * 2, g.panel_end = std::min(g.w.panels(), g.panel_begin + per_chunk * 2);
    g.epilogue = static_cast<Epilogue>(activation);
    g.y = y + s.offsets[e] * first.n, g.ldy = first.n;
    g.scratch = s.product + worker * s.product_bytes;
    call.kernels().gemm(g);
  });
}

}  // namespace

int64_t ExpertsScratchBytes(const ExpertsOp& op, int64_t rows, int64_t width, DType type, int threads) {
  return Scratch(nullptr, op, rows, width, type, threads).bytes;
}

void Execute(const ExpertsOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &logits = call.in(1), &out = call.out();
  const std::span<const BoundWeight> wi = call.in(2).experts, wo = call.in(3).experts;
  const int64_t rows = x.rows, width = x.cols;
  const int64_t capacity = call.plan.graph.Capacity(call.plan.graph.values[static_cast<size_t>(call.op.inputs[0])].extent.rows);
  const Scratch s(call.workspace, op, capacity, width, wi[0].record->type, call.threads);
  Choose(call, op, logits, s);
  const int64_t active = Sort(call, op, rows, s);
  const int64_t kept = s.offsets[op.experts];
  constexpr int64_t kRows = 16;
  call.run.gang->For(CeilDiv(kept, kRows), [&](int64_t chunk, int) {
    for (int64_t i = chunk * kRows; i < std::min(kept, (chunk + 1) * kRows); ++i)
      std::memcpy(s.gathered + i * width, x.f32() + s.order[i] * x.stride, static_cast<size_t>(width) * sizeof(float));
  });
  // All at once, or as many as may be resident; every row has one expert, so the order does not matter.
  ExpertPager* pager = call.run.model->pager();
  std::span<int32_t> left(s.active, static_cast<size_t>(active));
  while (!left.empty()) {
    const std::span<int32_t> wave = left.first(static_cast<size_t>(pager->Wave(wi[0].layer, left)));
    pager->Need(wi[0].layer, wave);
    Grouped(call, wave, s, wi, s.gathered, op.activation, s.inner);
    Grouped(call, wave, s, wo, s.inner, Activation::kNone, s.result);
    left = left.subspan(wave.size());
  }
  pager->PrefetchAfter(wi[0].layer);
  call.run.gang->For(CeilDiv(rows, kRows), [&](int64_t chunk, int) {
    for (int64_t r = chunk * kRows; r < std::min(rows, (chunk + 1) * kRows); ++r) {
      if (s.expert[r] >= 0) continue;
      float* y = out.f32() + r * out.stride;
      if (op.policy == CapacityPolicy::kClone) call.kernels().scale(x.f32() + r * x.stride, s.gate[r], width, y);
      else std::fill_n(y, width, 0.0f);
    }
  });
  call.run.gang->For(CeilDiv(kept, kRows), [&](int64_t chunk, int) {
    for (int64_t i = chunk * kRows; i < std::min(kept, (chunk + 1) * kRows); ++i)
      call.kernels().scale(s.result + i * width, s.gate[s.order[i]], width, out.f32() + s.order[i] * out.stride);
  });
}

}  // namespace tern

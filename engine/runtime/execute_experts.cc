// Top-1 mixture of experts (Switch Transformer, Fedus et al. 2021): route, sort the tokens by expert, two grouped products, scatter.
#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/quantised_rows.h"
#include "engine/runtime/routing.h"

namespace tern {
namespace {

// Everything that depends on the data, at its largest: one expert may get all rows.
struct Scratch : Routing {
  float* gate;        // [r]
  float* probabilities;  // [threads, E]
  float *gathered, *inner, *result;  // [r, D], [r, F], [r, D] in the order of `order`
  uint8_t* product;  // of a product: [threads] scratches, or of int8 its quantised rows
  int64_t capacity, product_bytes, bytes;

  Scratch(uint8_t* base, const ExpertsOp& op, int64_t rows, int64_t width, DType wi, DType wo, int threads) : capacity(rows) {
    Carve carve(base);
    expert = carve.Take<int32_t>(rows), gate = carve.Take<float>(rows), order = carve.Take<int32_t>(rows);
    offsets = carve.Take<int32_t>(op.experts + 1), counts = carve.Take<int32_t>(op.experts), active = carve.Take<int32_t>(op.experts);
    probabilities = carve.Take<float>(threads * RoundUp(op.experts, 16));
    gathered = carve.Take<float>(rows * width), inner = carve.Take<float>(rows * op.inner), result = carve.Take<float>(rows * width);
    product_bytes = std::max(MatMulScratchBytes(wi, rows, width, threads), MatMulScratchBytes(wo, rows, op.inner, threads));
    product = carve.Take<uint8_t>(product_bytes);
    bytes = carve.bytes();
  }
};

// The choice and its probability, row by row.
void Choose(const OpCall& call, const ExpertsOp& op, const Operand& logits, const Scratch& s) {
  constexpr int64_t kRows = 16;
  call.run.gang->For(CeilDiv(logits.rows, kRows), [&](int64_t chunk, int worker) {
    float* p = s.probabilities + worker * RoundUp(op.experts, 16);
    for (int64_t r = chunk * kRows; r < std::min(logits.rows, (chunk + 1) * kRows); ++r) {
      const Choice choice = ChooseExpert(call.kernels(), logits.f32() + r * logits.stride, op.experts, p);
      s.expert[r] = choice.expert, s.gate[r] = choice.gate;
    }
  });
}

// A product over the rows of some experts: y = act(x W_e^T), x and y in the order of the sort.
struct GroupedProduct {
  const OpCall& call;
  std::span<const int32_t> experts;
  const Scratch& s;
  std::span<const BoundWeight> weights;
  const float* x;
  Activation activation;
  float* y;

  int64_t RowsOf(int32_t e) const { return s.offsets[e + 1] - s.offsets[e]; }

  // Panels are shared out, so the bits do not depend on who computes them. `multiply`: void(int32_t expert, const PackedMatrix&, int64_t panel_begin, end, int worker).
  template <class F>
  void ForPanels(int64_t k, F&& multiply) const {
    const PackedMatrix first = Packed(weights[0]);
    int64_t rows = 0;
    for (int32_t e : experts) rows += RowsOf(e);
    const int64_t pairs = CeilDiv(first.panels(), 2), wanted = call.threads > 1 && rows * first.n * k >= (1 << 19) ? 4 * call.threads : 1;
    const int64_t per_chunk = CeilDiv(pairs, std::min(pairs, wanted)), chunks = CeilDiv(pairs, per_chunk);
    call.run.gang->For(static_cast<int64_t>(experts.size()) * chunks, [&](int64_t i, int worker) {
      if (call.run.cancel && call.run.cancel->cancelled()) return;
      const int32_t e = experts[static_cast<size_t>(i / chunks)];
      const PackedMatrix w = Packed(weights[static_cast<size_t>(e)]);
      const int64_t begin = i % chunks * per_chunk * 2;
      multiply(e, w, begin, std::min(w.panels(), begin + per_chunk * 2), worker);
    });
  }

  void Run() const {
    const PackedMatrix first = Packed(weights[0]);
    if (first.type == DType::i8) return RunQ8();
    const int64_t scratch_bytes = RoundUp(GemmScratchBytes(first.type, s.capacity, first.k), 64);
    ForPanels(first.k, [&](int32_t e, const PackedMatrix& w, int64_t begin, int64_t end, int worker) {
      GemmCall g;
      g.w = w, g.panel_begin = begin, g.panel_end = end;
      g.x = x + s.offsets[e] * w.k, g.ldx = w.k, g.m = RowsOf(e);
      g.epilogue = static_cast<Epilogue>(activation);
      g.y = y + s.offsets[e] * w.n, g.ldy = w.n;
      g.scratch = s.product + worker * scratch_bytes;
      call.kernels().gemm(g);
    });
  }

  // Rows are quantised by what they hold, so a row's bits do not depend on those it is sorted with. Columns of experts are never split (Model::Bind).
  void RunQ8() const {
    const PackedMatrix first = Packed(weights[0]);
    const QuantisedRows q(s.product, s.capacity, first.k, call.threads);
    constexpr int64_t kRows = 16;
    int64_t most = 0;
    for (int32_t e : experts) most = std::max(most, RowsOf(e));
    const int64_t pieces = CeilDiv(most, kRows);
    call.run.gang->For(static_cast<int64_t>(experts.size()) * pieces, [&](int64_t i, int) {
      const int32_t e = experts[static_cast<size_t>(i / pieces)];
      const int64_t begin = s.offsets[e] + i % pieces * kRows, end = std::min<int64_t>(s.offsets[e + 1], begin + kRows);
      for (int64_t r = begin; r < end; ++r) call.kernels().quantize_row(x + r * first.k, first.k, q.u + r * q.stride, q.scales + r);
    });
    ForPanels(CeilDiv(first.k, 4), [&](int32_t e, const PackedMatrix& w, int64_t begin, int64_t end, int) {  // four products cost what one does in f32
      GemmQ8Call g;
      g.w = w, g.panel_begin = begin, g.panel_end = end;
      g.x = q.u + s.offsets[e] * q.stride, g.ldx = q.stride, g.x_scales = q.scales + s.offsets[e], g.m = RowsOf(e);
      g.epilogue = static_cast<Epilogue>(activation);
      g.y = y + s.offsets[e] * w.n, g.ldy = w.n;
      call.kernels().gemm_q8(g);
    });
  }
};

}  // namespace

int64_t ExpertsScratchBytes(const ExpertsOp& op, int64_t rows, int64_t width, DType wi, DType wo, int threads) {
  return Scratch(nullptr, op, rows, width, wi, wo, threads).bytes;
}

void Execute(const ExpertsOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &logits = call.in(1), &out = call.out();
  const std::span<const BoundWeight> wi = call.in(2).experts, wo = call.in(3).experts;
  const int64_t rows = x.rows, width = x.cols;
  const int64_t capacity = call.plan.graph.Capacity(call.plan.graph.values[static_cast<size_t>(call.op.inputs[0])].extent.rows);
  const Scratch s(call.workspace, op, capacity, width, wi[0].record->type, wo[0].record->type, call.threads);
  Choose(call, op, logits, s);
  const int32_t* starts = op.starts ? call.in(4).i32() : nullptr;
  const int64_t active = SortRows(op, s, rows, starts, starts ? call.in(4).rows - 1 : 0);
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
    GroupedProduct{call, wave, s, wi, s.gathered, op.activation, s.inner}.Run();
    GroupedProduct{call, wave, s, wo, s.inner, Activation::kNone, s.result}.Run();
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

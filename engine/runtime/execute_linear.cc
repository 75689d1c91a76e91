// Products, embeddings, norms and sums.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/product_split.h"
#include "engine/runtime/quantised_rows.h"

namespace tern {

static_assert(static_cast<int>(Activation::kGelu) == static_cast<int>(Epilogue::kGelu) && static_cast<int>(Activation::kTanh) == static_cast<int>(Epilogue::kTanh),
              "the graph's activations are the kernels' epilogues, in one order");

PackedMatrix Packed(const BoundWeight& w) {
  return {w.data, w.record->type, w.record->shape[0], w.record->shape[1] + w.record->splits, w.record->splits};
}

namespace {

constexpr int64_t kRowsPerChunk = 8;

template <class F>  // void(int64_t row)
void ForRows(const OpCall& call, int64_t rows, F&& f) {
  call.run.gang->For(CeilDiv(rows, kRowsPerChunk), [&](int64_t chunk, int) {
    for (int64_t r = chunk * kRowsPerChunk; r < std::min(rows, (chunk + 1) * kRowsPerChunk); ++r) f(r);
  });
}

// The same product over int8 panels: rows are quantised by what they hold, then multiplied as integers. The sums are exact, so the bits depend on no split.
void ParallelMatMulQ8(const OpCall& call, const float* x, int64_t x_stride, int64_t rows, const PackedMatrix& w, const float* bias, Activation activation, float* y,
                      int64_t y_stride, uint8_t* scratch) {
  if (rows == 0) return;  // nothing was selected
  const QuantisedRows q(scratch, rows, w.k, call.threads);
  const int64_t per_chunk = rows * w.k < (1 << 15) ? rows : std::max<int64_t>(1, CeilDiv(rows, 4 * call.threads));
  call.run.gang->For(CeilDiv(rows, per_chunk), [&](int64_t chunk, int worker) {
    for (int64_t r = chunk * per_chunk; r < std::min(rows, (chunk + 1) * per_chunk); ++r) {
      const float* row = x + r * x_stride;
      if (w.splits > 0) {
        float* split = q.split + worker * q.split_stride;
        SplitInputs(row, w.inputs(), w.split_sources(), w.splits, split);
        row = split;
      }
      call.kernels().quantize_row(row, w.k, q.u + r * q.stride, q.scales + r);
    }
  });
  const ProductSplit split = SplitProduct(rows, w.n, CeilDiv(w.k, 4), CeilDiv(q.stride, 4), call.threads);  // four products cost what one does in f32
  call.run.gang->For(split.panel_chunks * split.row_chunks, [&](int64_t chunk, int) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t panel = chunk / split.row_chunks * split.panel_step, row = chunk % split.row_chunks * split.row_step;
    GemmQ8Call g;
    g.x = q.u + row * q.stride, g.ldx = q.stride, g.x_scales = q.scales + row;
    g.m = std::min(rows - row, split.row_step);
    g.w = w;
    g.panel_begin = panel, g.panel_end = std::min(w.panels(), panel + split.panel_step);
    g.bias = bias;
    g.epilogue = static_cast<Epilogue>(activation);
    g.y = y + row * y_stride, g.ldy = y_stride;
    call.kernels().gemm_q8(g);
  });
}

}  // namespace

void LookUpRow(const KernelTable& kernels, const BoundWeight& table, int64_t id, float* out) {
  const TensorRecord& r = *table.record;
  if (r.layout == Layout::kPanel16) return UnpackRow(Packed(table), id, out);
  const int64_t width = r.shape[1];
  if (r.layout == Layout::kRowsQ8) {
    const uint8_t* row = static_cast<const uint8_t*>(table.data) + id * (4 + width);
    float scale;
    std::memcpy(&scale, row, sizeof scale);
    const auto* q = reinterpret_cast<const int8_t*>(row + 4);
    for (int64_t c = 0; c < width; ++c) out[c] = scale * static_cast<float>(q[c]);
    return;
  }
  const uint8_t* row = static_cast<const uint8_t*>(table.data) + id * width * DTypeBytes(r.type);
  if (r.type == DType::f32) std::memcpy(out, row, static_cast<size_t>(width) * 4);
  else if (r.type == DType::bf16) kernels.bf16_to_f32(reinterpret_cast<const uint16_t*>(row), width, out);
  else kernels.f16_to_f32(reinterpret_cast<const uint16_t*>(row), width, out);
}

int64_t MatMulScratchBytes(DType type, int64_t rows, int64_t k, int threads) {
  if (type == DType::i8) return QuantisedRows(nullptr, rows, k, threads).bytes;
  return RoundUp(GemmScratchBytes(type, rows, k), 64) * threads;
}

void ParallelMatMul(const OpCall& call, const float* x, int64_t x_stride, int64_t rows, const PackedMatrix& packed, const float* bias, Activation activation,
                    float* y, int64_t y_stride, uint8_t* scratch, bool accumulate) {
  if (packed.type == DType::i8) return ParallelMatMulQ8(call, x, x_stride, rows, packed, bias, activation, y, y_stride, scratch);  // accumulates never
  const int64_t scratch_bytes = RoundUp(GemmScratchBytes(packed.type, rows, packed.k), 64);
  const ProductSplit split = SplitProduct(rows, packed.n, packed.k, x_stride, call.threads);
  call.run.gang->For(split.chunks(), [&](int64_t chunk, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t panel = chunk / split.row_chunks * split.panel_step, row = chunk % split.row_chunks * split.row_step;
    GemmCall g;
    g.x = x + row * x_stride, g.ldx = x_stride;
    g.m = std::min(rows - row, split.row_step);
    g.w = packed;
    g.panel_begin = panel, g.panel_end = std::min(packed.panels(), panel + split.panel_step);
    g.bias = bias;
    g.epilogue = static_cast<Epilogue>(activation);
    g.accumulate = accumulate;
    g.y = y + row * y_stride, g.ldy = y_stride;
    g.scratch = scratch + worker * scratch_bytes;
    call.kernels().gemm(g);
  });
}

void Execute(const MatMulOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  ParallelMatMul(call, x.f32(), x.stride, x.rows, call.in(1).weight, op.bias ? call.in(2).f32() : nullptr, op.activation, out.f32(), out.stride, call.workspace);
}

void Execute(const EmbedOp& op, const OpCall& call) {
  const Operand &ids = call.in(0), &out = call.out();
  const size_t per = op.projected ? 2 : 1;
  if (!op.projected) {
    ForRows(call, out.rows, [&](int64_t r) {
      int64_t id = ids.i32()[r];
      size_t c = 0;
      while (id >= call.in(1 + c).rows) id -= call.in(1 + c++).rows;
      float* row = out.f32() + r * out.stride;
      LookUpRow(call.kernels(), call.in(1 + c).weight, id, row);
      if (op.scale != 1) call.kernels().scale(row, op.scale, out.cols, row);
    });
    return;
  }
  // Rows of one cluster are gathered, projected together and scattered.
  Carve carve(call.workspace);
  int64_t widest = 0;
  for (int c = 0; c < op.clusters; ++c) widest = std::max(widest, call.in(1 + static_cast<size_t>(c) * per).cols);
  int32_t* order = carve.Take<int32_t>(out.rows);
  float* gathered = carve.Take<float>(out.rows * widest);
  float* projected = carve.Take<float>(out.rows * out.cols);
  uint8_t* scratch = carve.Take<uint8_t>(0);
  int64_t begin = 0;
  for (int c = 0; c < op.clusters; ++c) {
    const Operand &table = call.in(1 + static_cast<size_t>(c) * per), &projection = call.in(2 + static_cast<size_t>(c) * per);
    int64_t count = 0;
    for (int64_t r = 0; r < out.rows; ++r)
      if (int64_t id = ids.i32()[r] - begin; id >= 0 && id < table.rows) order[count++] = static_cast<int32_t>(r);
    ForRows(call, count, [&](int64_t i) { LookUpRow(call.kernels(), table.weight, ids.i32()[order[i]] - begin, gathered + i * table.cols); });
    if (count > 0) ParallelMatMul(call, gathered, table.cols, count, projection.weight, nullptr, Activation::kNone, projected, out.cols, scratch);
    ForRows(call, count, [&](int64_t i) { call.kernels().scale(projected + i * out.cols, op.scale, out.cols, out.f32() + order[i] * out.stride); });
    begin += table.rows;
  }
}

namespace {

// out = x + the rows of `table` that `row_of` names. scratch: a row per worker if the table is not plain f32.
template <class F>  // int64_t(int64_t row)
void AddRows(const OpCall& call, const Operand& table, F&& row_of) {
  const Operand &x = call.in(0), &out = call.out();
  const bool plain = table.weight.record->type == DType::f32 && table.weight.record->layout == Layout::kRows;
  call.run.gang->For(CeilDiv(out.rows, kRowsPerChunk), [&](int64_t chunk, int worker) {
    for (int64_t r = chunk * kRowsPerChunk; r < std::min(out.rows, (chunk + 1) * kRowsPerChunk); ++r) {
      const float* row = table.f32() + row_of(r) * table.cols;
      if (!plain) {
        float* wide = call.scratch() + worker * table.cols;
        LookUpRow(call.kernels(), table.weight, row_of(r), wide);
        row = wide;
      }
      call.kernels().add(x.f32() + r * x.stride, row, out.cols, out.f32() + r * out.stride);
    }
  });
}

}  // namespace

void Execute(const AddPositionsOp&, const OpCall& call) {
  const int64_t tokens = call.run.tokens(), first = call.run.position - call.run.segment_begin;
  AddRows(call, call.in(1), [&](int64_t r) { return first + r % tokens; });
}

void Execute(const AddLookupOp&, const OpCall& call) {
  const Operand &x = call.in(0), &ids = call.in(1), &out = call.out();
  if (ids.data) return AddRows(call, call.in(2), [&](int64_t r) { return int64_t{ids.i32()[r]}; });
  if (x.data != out.data) ForRows(call, out.rows, [&](int64_t r) { std::memcpy(out.f32() + r * out.stride, x.f32() + r * x.stride, static_cast<size_t>(out.cols) * 4); });
}

void Execute(const LayerNormOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &residual = call.in(op.residual ? 1 : 0), &out = call.out();
  const float *gamma = call.in(op.residual ? 2 : 1).f32(), *beta = call.in(op.residual ? 3 : 2).f32();
  ForRows(call, out.rows, [&](int64_t r) {
    call.kernels().layer_norm(x.f32() + r * x.stride, op.residual ? residual.f32() + r * residual.stride : nullptr, gamma, beta, op.epsilon, out.cols, nullptr,
                              out.f32() + r * out.stride);
  });
}

void Execute(const AddOp&, const OpCall& call) {
  const Operand &a = call.in(0), &b = call.in(1), &out = call.out();
  ForRows(call, out.rows, [&](int64_t r) { call.kernels().add(a.f32() + r * a.stride, b.f32() + r * b.stride, out.cols, out.f32() + r * out.stride); });
}

void Execute(const RmsNormOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const float* gamma = call.in(1).f32();
  ForRows(call, out.rows, [&](int64_t r) { call.kernels().rms_norm(x.f32() + r * x.stride, nullptr, gamma, op.epsilon, out.cols, nullptr, out.f32() + r * out.stride); });
}

void Execute(const ScaleOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  ForRows(call, out.rows, [&](int64_t r) { call.kernels().scale(x.f32() + r * x.stride, op.factor, out.cols, out.f32() + r * out.stride); });
}

void Execute(const MulOp&, const OpCall& call) {
  const Operand &a = call.in(0), &b = call.in(1), &out = call.out();
  ForRows(call, out.rows, [&](int64_t r) { call.kernels().mul(a.f32() + r * a.stride, b.f32() + r * b.stride, out.cols, out.f32() + r * out.stride); });
}

void Execute(const TakeRowsOp&, const OpCall& call) {
  const Operand &x = call.in(0), &rows = call.in(1), &out = call.out();
  ForRows(call, out.rows, [&](int64_t i) { std::memcpy(out.f32() + i * out.stride, x.f32() + rows.i32()[i] * x.stride, static_cast<size_t>(out.cols) * 4); });
}

void Execute(const MeanRowsOp&, const OpCall& call) {
  const Operand &x = call.in(0), &starts = call.in(1), &out = call.out();
  ForRows(call, out.rows, [&](int64_t s) {
    float* sum = out.f32() + s * out.stride;
    std::fill_n(sum, out.cols, 0.0f);
    const int64_t begin = starts.i32()[s], end = starts.i32()[s + 1];
    for (int64_t r = begin; r < end; ++r) call.kernels().add(sum, x.f32() + r * x.stride, out.cols, sum);
    call.kernels().scale(sum, end > begin ? 1.0f / static_cast<float>(end - begin) : 0.0f, out.cols, sum);
  });
}

void Execute(const NormalizeOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  ForRows(call, out.rows, [&](int64_t r) {
    const float* row = x.f32() + r * x.stride;
    const float norm = std::sqrt(call.kernels().dot(row, row, x.cols));
    call.kernels().scale(row, 1.0f / std::max(norm, op.epsilon), x.cols, out.f32() + r * out.stride);
  });
}

void Execute(const LastRowsOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const int64_t tokens = x.rows / op.batch;
  for (int64_t lane = 0; lane < op.batch; ++lane)
    std::memcpy(out.f32() + lane * out.stride, x.f32() + ((lane + 1) * tokens - 1) * x.stride, static_cast<size_t>(out.cols) * 4);
}

}  // namespace tern

// What encoder-decoders add to attention: keys and values of a source, the lanes that read them, and T5's bias by distance.
#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "engine/runtime/execute.h"

namespace tern {
namespace {

float ScaleOf(float scale, int64_t head_width) { return scale != 0 ? scale : 1.0f / std::sqrt(static_cast<float>(head_width)); }

// Raffel et al. 2020, in the public code's f32 arithmetic. `a`: the distance, `n`: buckets of its direction.
int64_t Bucket(int64_t a, int64_t n, int64_t max_distance) {
  const int64_t exact = n / 2;
  if (a < exact) return a;
  const float log_a = std::log(static_cast<float>(a) / static_cast<float>(exact));
  const float log_most = static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  const int64_t beyond = exact + static_cast<int64_t>(log_a / log_most * static_cast<float>(n - exact));
  return std::min(n - 1, beyond);
}

}  // namespace

void Execute(const RelativeBiasOp& op, const OpCall& call) {
  const Operand &table = call.in(0), &out = call.out();
  const int64_t n = op.bidirectional ? op.buckets / 2 : op.buckets;
  for (int64_t c = 0; c < out.cols; ++c) {
    const int64_t d = c - op.max_distance;  // key - query
    const int64_t bucket = (d > 0 ? n : 0) + Bucket(std::abs(d), n, op.max_distance);
    for (int64_t h = 0; h < out.rows; ++h) out.f32()[h * out.stride + c] = table.f32()[bucket * table.stride + h];
  }
}

void Execute(const StoreKvOp&, const OpCall& call) {
  const StateSpec& s = call.state();
  const Operand &k = call.in(0), &v = call.in(1), &starts = call.in(2);
  call.run.gang->For((starts.rows - 1) * s.heads, [&](int64_t i, int) {
    const int64_t lane = i / s.heads, head = i % s.heads, row = starts.i32()[lane], column = head * s.head_width;
    AppendKv(KvHead(s, call.state_data(), lane, head), 0, starts.i32()[lane + 1] - row, k.f32() + row * k.stride + column, k.stride, v.f32() + row * v.stride + column, v.stride);
  });
}

void Execute(const AttendCrossOp& op, const OpCall& call) {
  const StateSpec& s = call.state();
  const Operand &q = call.in(0), &lane_starts = call.in(1), &lengths = call.in(2), &out = call.out();
  const int64_t tokens = call.run.tokens(), workspace_bytes = AttentionWorkspaceBytes(op.head_width, op.head_width, DType::f32);
  // All lanes of one source are rows against the same keys, which are read once.
  call.run.gang->For(lengths.rows * op.heads, [&](int64_t i, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t source = i / op.heads, head = i % op.heads, column = head * op.head_width;
    const int64_t row = lane_starts.i32()[source] * tokens, rows = lane_starts.i32()[source + 1] * tokens - row;
    if (rows == 0) return;
    AttentionArgs a;
    a.q = q.f32() + row * q.stride + column, a.q_stride = q.stride;
    a.out = out.f32() + row * out.stride + column, a.out_stride = out.stride;
    a.n_tokens = rows;
    a.kv = KvHead(s, call.state_data(), source, head);
    a.scale = ScaleOf(op.scale, op.head_width);
    a.last_key = lengths.i32()[source] - 1;
    const int64_t block = AttentionBlockTokens(rows, 1);
    for (int64_t at = 0; at < rows; at += block) call.run.model->attention().attend(a, at, std::min(rows, at + block), call.workspace + worker * workspace_bytes);
  });
}

}  // namespace tern

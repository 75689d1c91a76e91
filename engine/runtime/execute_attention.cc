// Attention with its state, and the constant tables it reads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/execute.h"

namespace tern {
namespace {

// A ring holds the kept rows and one chunk; the attention kernel wants 15 slots more, so that a panel is never new and old at once.
int64_t RingPositions(const StateSpec& s) { return RoundUp(s.slots + 15, 16); }

// Room for every page of every lane: what is needed when none are shared.
int64_t PooledPositions(const StateSpec& s) { return s.lanes * RoundUp(s.slots, 16); }

// Query blocks per (lane, head): a function of shapes alone.
struct Split {
  int64_t block, blocks, heads, lanes;
  int64_t chunks() const { return blocks * heads * lanes; }
};
Split SplitQueries(int64_t tokens, int64_t heads, int64_t lanes) {
  int64_t block = std::max<int64_t>(1, AttentionBlockTokens(tokens, 1));
  return {block, CeilDiv(tokens, block), heads, lanes};
}

}  // namespace

int64_t KvHeadBytes(const StateSpec& s) { return KvBytes(s.paged ? PooledPositions(s) : RingPositions(s), s.head_width, s.head_width, DType::f32); }

KvPanels KvHead(const StateSpec& s, uint8_t* state, int64_t lane, int64_t head, const RunContext* run) {
  if (s.paged) {
    KvPanels kv = MakeKvPanels(state + head * KvHeadBytes(s), PooledPositions(s), s.head_width, s.head_width, DType::f32);
    kv.n_panels = run->pages_per_lane;
    kv.pages = run->pages + lane * run->pages_per_lane;
    return kv;
  }
  return MakeKvPanels(state + (lane * s.heads + head) * KvHeadBytes(s), RingPositions(s), s.head_width, s.head_width, DType::f32);
}

void CopyKvPage(const StateSpec& s, uint8_t* state, int32_t from, int32_t to) {
  for (int64_t head = 0; head < s.heads; ++head) {
    const KvPanels kv = MakeKvPanels(state + head * KvHeadBytes(s), PooledPositions(s), s.head_width, s.head_width, DType::f32);
    for (auto [base, width] : {std::pair{kv.k, kv.dh}, std::pair{kv.v, RoundUp(kv.dv, 16)}}) {
      const size_t bytes = static_cast<size_t>(width) * 16 * sizeof(float);
      uint8_t* at = static_cast<uint8_t*>(base);
      std::memcpy(at + static_cast<size_t>(to) * bytes, at + static_cast<size_t>(from) * bytes, bytes);
    }
  }
}

void ResetState(const StateSpec& s, uint8_t* state, const float* row) {
  if (s.elements > 0) {
    std::memset(state, 0, static_cast<size_t>(s.lanes * s.elements) * sizeof(float));
    return;
  }
  if (s.initial == 0) return;  // what was there before is never read
  const std::vector<float> zeros(static_cast<size_t>(s.head_width));
  for (int64_t lane = 0; lane < s.lanes; ++lane)
    for (int64_t head = 0; head < s.heads; ++head) {
      const float* k = row ? row + head * s.head_width : zeros.data();
      const float* v = row ? row + (s.heads + head) * s.head_width : zeros.data();
      KvPanels kv = KvHead(s, state, lane, head);
      for (int64_t p = 0; p < s.initial; ++p) AppendKv(kv, p, 1, k, 0, v, 0);
    }
}

void Execute(const AppendKvOp&, const OpCall& call) {
  const StateSpec& s = call.state();
  const Operand &k = call.in(0), &v = call.in(1);
  call.run.gang->For(s.lanes * s.heads, [&](int64_t i, int) {
    const int64_t lane = i / s.heads, head = i % s.heads;
    const int64_t row = lane * call.run.tokens(), column = head * s.head_width;
    AppendKv(KvHead(s, call.state_data(), lane, head, &call.run), call.run.position, call.run.tokens(), k.f32() + row * k.stride + column, k.stride,
             v.f32() + row * v.stride + column, v.stride);
  });
}

void Execute(const AttendXlOp& op, const OpCall& call) {
  const StateSpec& s = call.state();
  const Operand &q = call.in(0), &u = call.in(1), &v = call.in(2), &positions = call.in(3), &out = call.out();
  const int64_t tokens = call.run.tokens();
  const Split split = SplitQueries(tokens, op.heads, op.batch);
  const int64_t table_bytes = DistancePanelsBytes(op.distances - 1, op.head_width);
  const int64_t workspace_bytes = AttentionWorkspaceBytes(op.head_width, op.head_width, DType::f32);
  // A chunk sees its kept rows and itself. Chunks with the most keys first would even out causal work; here every query sees about as many.
  const int64_t first_kept = std::max<int64_t>(0, call.run.segment_begin - s.keep);
  call.run.gang->For(split.chunks(), [&](int64_t i, int worker) {
    const int64_t head = i / split.blocks % split.heads, lane = i / (split.blocks * split.heads), block = i % split.blocks;
    const int64_t column = head * op.head_width;
    AttentionArgs a;
    a.q = q.f32() + lane * tokens * q.stride + column;
    a.out = out.f32() + lane * tokens * out.stride + column;
    a.q_stride = q.stride, a.out_stride = out.stride;
    a.n_tokens = tokens;
    a.q_position = call.run.position;
    a.kv = KvHead(s, call.state_data(), lane, head);
    a.scale = 1.0f / std::sqrt(static_cast<float>(op.head_width));
    // Without a window everything kept at the chunk's start stays visible; with one, the window decides, and the ring holds all it can reach.
    a.first_key = op.window > 0 ? std::max<int64_t>(0, call.run.position - op.window + 1) : first_kept;
    a.last_key = call.run.position + tokens - 1;
    a.causal = true;
    a.window = op.window;
    a.distances = reinterpret_cast<const float*>(positions.data + head * table_bytes);
    a.max_distance = op.distances - 1;
    a.u = u.f32() + column, a.v = v.f32() + column;
    call.run.model->attention().attend(a, block * split.block, std::min(tokens, (block + 1) * split.block), call.workspace + worker * workspace_bytes);
  });
}

void Execute(const AttendCausalOp& op, const OpCall& call) {
  const StateSpec& s = call.state();
  const Operand &q = call.in(0), &out = call.out();
  const int64_t tokens = call.run.tokens();
  const Split split = SplitQueries(tokens, op.heads, op.batch);
  const int64_t workspace_bytes = AttentionWorkspaceBytes(op.head_width, op.head_width, DType::f32);
  call.run.gang->For(split.chunks(), [&](int64_t i, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t head = i / split.blocks % split.heads, lane = i / (split.blocks * split.heads), block = i % split.blocks;
    const int64_t column = head * op.head_width;
    AttentionArgs a;
    a.q = q.f32() + lane * tokens * q.stride + column, a.q_stride = q.stride;
    a.out = out.f32() + lane * tokens * out.stride + column, a.out_stride = out.stride;
    a.n_tokens = tokens;
    a.q_position = call.run.position;
    a.kv = KvHead(s, call.state_data(), lane, head, &call.run);
    a.scale = op.scale;
    if (op.bias.on) {
      const Operand& lines = call.in(1);
      a.relative_bias = lines.f32() + head * lines.stride, a.relative_min = op.bias.least, a.relative_max = op.bias.most;
    }
    a.first_key = call.run.segment_begin;
    a.last_key = call.run.position + tokens - 1;
    a.causal = true;
    call.run.model->attention().attend(a, block * split.block, std::min(tokens, (block + 1) * split.block), call.workspace + worker * workspace_bytes);
  });
}

void Execute(const AttendPackedOp& op, const OpCall& call) {
  const Operand &q = call.in(0), &k = call.in(1), &v = call.in(2), &starts = call.in(3), &out = call.out();
  const size_t key_inputs = call.op.inputs.size() - (op.bias.on ? 1 : 0);
  const float* key_bias = key_inputs > 4 ? call.in(4).f32() : nullptr;  // null also if the caller bound nothing
  const Operand* lines = op.bias.on ? &call.in(key_inputs) : nullptr;
  const int64_t longest = std::min(op.longest, call.plan.graph.Capacity(call.plan.graph.values[static_cast<size_t>(call.op.inputs[0])].extent.rows));
  const int64_t kv_bytes = KvBytes(longest, op.head_width, op.head_width, DType::f32);
  const int64_t per_worker = RoundUp(kv_bytes + AttentionWorkspaceBytes(op.head_width, op.head_width, DType::f32), 64);
  const int64_t sequences = starts.rows - 1;
  call.run.gang->For(sequences * op.heads, [&](int64_t i, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t s = i / op.heads, column = i % op.heads * op.head_width;
    const int64_t row = starts.i32()[s], length = starts.i32()[s + 1] - row;
    if (length == 0) return;
    uint8_t* memory = call.workspace + worker * per_worker;
    AttentionArgs a;
    a.kv = MakeKvPanels(memory, length, op.head_width, op.head_width, DType::f32);
    AppendKv(a.kv, 0, length, k.f32() + row * k.stride + column, k.stride, v.f32() + row * v.stride + column, v.stride);
    a.q = q.f32() + row * q.stride + column, a.q_stride = q.stride;
    a.out = out.f32() + row * out.stride + column, a.out_stride = out.stride;
    a.n_tokens = length;
    a.scale = op.scale != 0 ? op.scale : 1.0f / std::sqrt(static_cast<float>(op.head_width));
    if (lines) a.relative_bias = lines->f32() + i % op.heads * lines->stride, a.relative_min = op.bias.least, a.relative_max = op.bias.most;
    a.last_key = length - 1;
    a.key_bias = key_bias ? key_bias + row : nullptr;
    const int64_t block = AttentionBlockTokens(length, 1);
    for (int64_t at = 0; at < length; at += block) call.run.model->attention().attend(a, at, std::min(length, at + block), memory + kv_bytes);
  });
}

void Execute(const SinusoidOp&, const OpCall& call) {
  const Operand &inv_freq = call.in(0), &out = call.out();
  const int64_t half = inv_freq.cols;
  call.run.gang->For(out.rows, [&](int64_t p, int) {
    float* row = out.f32() + p * out.stride;
    for (int64_t k = 0; k < half; ++k) {
      // The public code rounds the angle to f32 before sin and cos; in double it would be another angle at large distances.
      const float angle = static_cast<float>(p) * inv_freq.f32()[k];
      row[k] = static_cast<float>(std::sin(static_cast<double>(angle)));
      row[half + k] = static_cast<float>(std::cos(static_cast<double>(angle)));
    }
  });
}

void Execute(const PackXlPositionsOp& op, const OpCall& call) {
  const Operand &rk = call.in(0), &out = call.out();
  const int64_t bytes = DistancePanelsBytes(rk.rows - 1, op.head_width);
  call.run.gang->For(op.heads, [&](int64_t head, int) {
    PackDistances(rk.f32() + head * op.head_width, rk.stride, rk.rows - 1, op.head_width, reinterpret_cast<float*>(out.data + head * bytes));
  });
}

}  // namespace tern

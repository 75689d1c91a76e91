// RETRO: norms, rotary positions, and attention to and from retrieved neighbours. Results do not depend on how many threads share the work, nor on how a
// text is cut into runs.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/execute.h"

namespace tern {
namespace {

constexpr int64_t kRowsPerChunk = 8;

template <class F>  // void(int64_t row, int worker)
void ForRows(const OpCall& call, int64_t rows, F&& f) {
  call.run.gang->For(CeilDiv(rows, kRowsPerChunk), [&](int64_t chunk, int worker) {
    for (int64_t r = chunk * kRowsPerChunk; r < std::min(rows, (chunk + 1) * kRowsPerChunk); ++r) f(r, worker);
  });
}

// The entries of a `chunks` input (ops.h).
struct Chunks {
  const int32_t* v;
  int64_t ring_row() const { return v[0]; }  // of the run's first token
  int64_t first() const { return v[1]; }     // token that completes the first chunk
  int64_t last_row() const { return v[2]; }  // ring row of that token
};

void AttendBlocks(const OpCall& call, const AttentionArgs& a, uint8_t* workspace) {
  const int64_t block = AttentionBlockTokens(a.n_tokens, 1);
  for (int64_t at = 0; at < a.n_tokens; at += block)
    call.run.model->attention().attend(a, at, std::min(a.n_tokens, at + block), workspace);
}

AttentionArgs QueriesOf(const Operand& q, const Operand& out, int64_t row, int64_t rows, int64_t column, int64_t head_width) {
  AttentionArgs a;
  a.q = q.f32() + row * q.stride + column, a.q_stride = q.stride;
  a.out = out.f32() + row * out.stride + column, a.out_stride = out.stride;
  a.n_tokens = rows;
  a.scale = 1.0f / std::sqrt(static_cast<float>(head_width));
  return a;
}

int64_t ScratchPerWorker(int64_t keys, int64_t head_width) {
  return RoundUp(KvBytes(keys, head_width, head_width, DType::f32) + AttentionWorkspaceBytes(head_width, head_width, DType::f32), 64);
}

}  // namespace

int64_t ScratchBytes(const AttendChunkOp& op, int threads) { return ScratchPerWorker(op.chunk, op.head_width) * threads; }
int64_t ScratchBytes(const AttendNeighborsOp& op, const StateSpec& state, int threads) {
  return ScratchPerWorker(state.slots, op.head_width) * threads;
}
int64_t ScratchBytes(const ClampedRmsNormOp& op, int64_t cols, int threads) { return op.gated ? RoundUp(cols * 4, 64) * threads : 0; }

void Execute(const ClampedRmsNormOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &gamma = call.in(1), &out = call.out();
  const KernelTable& k = call.kernels();
  const int64_t n = out.cols;
  const float root = std::sqrt(static_cast<float>(n));
  ForRows(call, out.rows, [&](int64_t r, int worker) {
    const float* row = x.f32() + r * x.stride;
    float* y = out.f32() + r * out.stride;
    const float rms = std::sqrt(k.dot(row, row, n)) / root;
    float* gate = nullptr;
    if (op.gated) {  // before y is written: it may lie over x
      gate = reinterpret_cast<float*>(call.workspace + worker * RoundUp(n * 4, 64));
      k.mul(row, call.in(2).f32(), n, gate);
      k.sigmoid(gate, n, gate);
    }
    k.scale(row, 1.0f / std::max(rms, op.epsilon), n, y);
    k.mul(y, gamma.f32(), n, y);
    if (gate) k.mul(y, gate, n, y);
  });
}

void Execute(const ResidualOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &y = call.in(1), &out = call.out();
  const float* active = call.op.inputs.size() > 2 ? call.in(2).f32() : nullptr;
  const KernelTable& k = call.kernels();
  ForRows(call, out.rows, [&](int64_t r, int) {
    float* row = out.f32() + r * out.stride;
    k.scale(x.f32() + r * x.stride, op.scale, out.cols, row);
    if (!active || active[r] != 0) k.add(row, y.f32() + r * y.stride, out.cols, row);
  });
}

void Execute(const OnePlusOp&, const OpCall& call) {
  const Operand &w = call.in(0), &out = call.out();
  for (int64_t r = 0; r < out.rows; ++r)
    for (int64_t i = 0; i < out.cols; ++i) out.f32()[r * out.stride + i] = 1.0f + w.f32()[r * w.stride + i];
}

void Execute(const RotaryTableOp&, const OpCall& call) {
  const Operand &positions = call.in(0), &inv_freq = call.in(1), &out = call.out();
  const int64_t half = inv_freq.cols;
  ForRows(call, out.rows, [&](int64_t r, int) {
    float* row = out.f32() + r * out.stride;
    for (int64_t i = 0; i < half; ++i) {
      // Rounded to f32 before cos and sin, as the public code does.
      const double angle = static_cast<double>(static_cast<float>(positions.i32()[r]) * inv_freq.f32()[i]);
      row[i] = static_cast<float>(std::cos(angle));
      row[half + i] = static_cast<float>(std::sin(angle));
    }
  });
}

void Execute(const RotaryOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &table = call.in(1), &out = call.out();
  const int64_t half = table.cols / 2, rotated = 2 * half;
  ForRows(call, out.rows, [&](int64_t r, int) {
    const float *cos = table.f32() + r * table.stride, *sin = cos + half;
    for (int64_t h = 0; h < op.heads; ++h) {
      const float* in = x.f32() + r * x.stride + h * op.head_width;
      float* y = out.f32() + r * out.stride + h * op.head_width;
      for (int64_t i = 0; i < half; ++i) y[i] = in[i] * cos[i] - in[half + i] * sin[i];
      for (int64_t i = 0; i < half; ++i) y[half + i] = in[half + i] * cos[i] + in[i] * sin[i];
      if (op.head_width > rotated) std::memcpy(y + rotated, in + rotated, static_cast<size_t>(op.head_width - rotated) * 4);
    }
  });
}

void Execute(const KeepChunkOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const Chunks c{call.in(1).i32()};
  const int64_t tokens = call.run.tokens(), completed = out.rows / (op.batch * op.chunk);
  const size_t bytes = static_cast<size_t>(x.cols) * 4;
  for (int64_t lane = 0; lane < op.batch; ++lane) {
    float* ring = reinterpret_cast<float*>(call.state_data()) + lane * op.chunk * x.cols;
    const float* rows = x.f32() + lane * tokens * x.stride;
    for (int64_t e = 0; e < completed; ++e) {
      const int64_t last = c.first() + e * op.chunk, last_row = e == 0 ? c.last_row() : op.chunk - 1;
      for (int64_t j = 0; j < op.chunk; ++j) {
        float* to = out.f32() + ((lane * completed + e) * op.chunk + j) * out.stride;
        const int64_t token = last - last_row + j;
        if (j > last_row) std::memset(to, 0, bytes);
        else std::memcpy(to, token >= 0 ? rows + token * x.stride : ring + j * x.cols, bytes);
      }
    }
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t row = t <= c.first() ? c.ring_row() + t : (t - c.first() - 1) % op.chunk;
      std::memcpy(ring + row * x.cols, rows + t * x.stride, bytes);
    }
  }
}

void Execute(const AttendChunkOp& op, const OpCall& call) {
  const Operand &q = call.in(0), &k = call.in(1), &v = call.in(2), &starts = call.in(3), &out = call.out();
  const int64_t chunks = k.rows / op.chunk, per_worker = ScratchPerWorker(op.chunk, op.head_width);
  const int64_t kv_bytes = KvBytes(op.chunk, op.head_width, op.head_width, DType::f32);
  call.run.gang->For(chunks * op.heads, [&](int64_t i, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t c = i / op.heads, column = i % op.heads * op.head_width;
    const int64_t begin = starts.i32()[c * op.neighbors], end = starts.i32()[(c + 1) * op.neighbors];
    if (begin == end) return;
    uint8_t* memory = call.workspace + worker * per_worker;
    AttentionArgs a = QueriesOf(q, out, begin, end - begin, column, op.head_width);
    a.kv = MakeKvPanels(memory, op.chunk, op.head_width, op.head_width, DType::f32);
    AppendKv(a.kv, 0, op.chunk, k.f32() + c * op.chunk * k.stride + column, k.stride, v.f32() + c * op.chunk * v.stride + column, v.stride);
    a.last_key = op.chunk - 1;
    AttendBlocks(call, a, memory + kv_bytes);
  });
}

namespace {

// Chunked cross-attention of one run: what its groups of tokens attend to.
class NeighborAttention {
 public:
  NeighborAttention(const AttendNeighborsOp& op, const OpCall& call)
      : op_(op),
        call_(call),
        completed_((call.in(3).rows - 1) / (op.batch * op.neighbors)),
        first_(completed_ > 0 ? Chunks{call.in(4).i32()}.first() : call.run.tokens()),
        per_worker_(ScratchPerWorker(call.state().slots, op.head_width)),
        counts_(reinterpret_cast<float*>(call.run.states + call.plan.state_offset[static_cast<size_t>(op.count)])) {}

  void Run() {
    // All groups that do not leave their keys behind, then the last, whose keys go straight into the state.
    const int64_t heads = op_.batch * op_.heads, groups = std::max<int64_t>(1, completed_);
    call_.run.gang->For(heads * groups, [&](int64_t i, int worker) { Group(i / heads, i % heads, call_.workspace + worker * per_worker_); });
    if (completed_ == 0) return;
    call_.run.gang->For(heads, [&](int64_t i, int worker) { Last(i, call_.workspace + worker * per_worker_); });
    for (int64_t lane = 0; lane < op_.batch; ++lane) counts_[lane] = static_cast<float>(Keys(lane, completed_ - 1) + 1);
  }

 private:
  // Neighbour rows of completed chunk e of a lane.
  int64_t Begin(int64_t lane, int64_t e) const { return call_.in(3).i32()[(lane * completed_ + e) * op_.neighbors]; }
  int64_t Keys(int64_t lane, int64_t e) const { return Begin(lane, e + 1) - Begin(lane, e) + (op_.null ? 1 : 0); }

  void Fill(const KvPanels& kv, int64_t lane, int64_t e, int64_t column) const {
    const Operand &k = call_.in(1), &v = call_.in(2);
    int64_t at = 0;
    if (op_.null) AppendKv(kv, at++, 1, call_.in(5).f32() + column, 0, call_.in(6).f32() + column, 0);
    const int64_t begin = Begin(lane, e), rows = Begin(lane, e + 1) - begin;
    if (rows > 0) AppendKv(kv, at, rows, k.f32() + begin * k.stride + column, k.stride, v.f32() + begin * v.stride + column, v.stride);
  }

  void Attend(const KvPanels& kv, int64_t keys, int64_t lane, int64_t token, int64_t tokens, int64_t column, uint8_t* workspace) const {
    AttentionArgs a = QueriesOf(call_.in(0), call_.out(), lane * call_.run.tokens() + token, tokens, column, op_.head_width);
    a.kv = kv;
    a.last_key = keys - 1;
    AttendBlocks(call_, a, workspace);
  }

  // Group 0: the tokens before the first completed chunk, with the state's neighbours; group g: those of completed chunk g - 1.
  void Group(int64_t g, int64_t lane_head, uint8_t* memory) const {
    if (call_.run.cancel && call_.run.cancel->cancelled()) return;
    const int64_t lane = lane_head / op_.heads, head = lane_head % op_.heads, column = head * op_.head_width;
    const StateSpec& s = call_.state();
    if (g == 0) {
      if (first_ == 0) return;
      const int64_t keys = std::clamp<int64_t>(static_cast<int64_t>(counts_[lane]) - 1, 0, s.slots);
      return Attend(KvHead(s, call_.state_data(), lane, head), keys, lane, 0, first_, column, memory);
    }
    const KvPanels kv = MakeKvPanels(memory, s.slots, op_.head_width, op_.head_width, DType::f32);
    Fill(kv, lane, g - 1, column);
    Attend(kv, Keys(lane, g - 1), lane, first_ + (g - 1) * op_.chunk, op_.chunk, column,
           memory + KvBytes(s.slots, op_.head_width, op_.head_width, DType::f32));
  }

  void Last(int64_t lane_head, uint8_t* workspace) const {
    if (call_.run.cancel && call_.run.cancel->cancelled()) return;
    const int64_t lane = lane_head / op_.heads, head = lane_head % op_.heads, column = head * op_.head_width;
    const int64_t token = first_ + (completed_ - 1) * op_.chunk;
    const KvPanels kv = KvHead(call_.state(), call_.state_data(), lane, head);
    Fill(kv, lane, completed_ - 1, column);
    Attend(kv, Keys(lane, completed_ - 1), lane, token, call_.run.tokens() - token, column, workspace);
  }

  const AttendNeighborsOp& op_;
  const OpCall& call_;
  int64_t completed_, first_, per_worker_;
  float* counts_;
};

}  // namespace

void Execute(const AttendNeighborsOp& op, const OpCall& call) { NeighborAttention(op, call).Run(); }

}  // namespace tern

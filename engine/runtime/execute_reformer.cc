// Reformer's ops (specs: Kitaev et al. 2020): embedding with axial positions, local and hashed attention, feed-forward by blocks of rows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/torch_random.h"
#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/lsh_attention.h"
#include "engine/runtime/lsh_step.h"

namespace tern {
namespace {

constexpr int64_t kRowsAtOnce = 16;

template <class F>  // void(int64_t row)
void ForRowBlocks(const OpCall& call, int64_t rows, F&& f) {
  call.run.gang->For(CeilDiv(rows, kRowsAtOnce), [&](int64_t block, int) {
    for (int64_t r = block * kRowsAtOnce; r < std::min(rows, (block + 1) * kRowsAtOnce); ++r) f(r);
  });
}

// What stands behind the given tokens is padding and no key; so is what the caller's mask says. Null if all are keys.
const uint8_t* MaskOfLane(const Operand& mask, int64_t lane, int64_t tokens, int64_t padded, uint8_t* out) {
  const int32_t* given = mask.i32();
  if (!given && tokens == padded) return nullptr;
  bool any = tokens < padded;
  for (int64_t t = 0; t < padded; ++t) {
    out[t] = t >= tokens || (given && given[lane * tokens + t] == 0);
    any = any || out[t] != 0;
  }
  return any ? out : nullptr;
}

int64_t ChunkScratchBytes(const LocalAttentionOp& op, int64_t length) {
  return length <= op.chunk ? ChunkWorkspaceBytes(op.head_width, length, 0, 0) : ChunkWorkspaceBytes(op.head_width, op.chunk, op.before, op.after);
}

}  // namespace

int64_t LocalScratchBytes(const LocalAttentionOp& op, int64_t length, int threads) {
  const int64_t step = RoundUp(op.head_width * 4, 64) + AttentionWorkspaceBytes(op.head_width, op.head_width, DType::f32);
  return RoundUp(length, 64) * op.batch + std::max(ChunkScratchBytes(op, length), RoundUp(step, 64)) * threads;
}

int64_t LshOpScratchBytes(const LshSpec& spec, int64_t length, int threads) {
  Carve carve;
  carve.Take<uint8_t>(length);
  carve.Take<int32_t>(spec.context > 0 ? MostBuckets(spec, length) + 2 : 0);
  carve.Take<int32_t>(spec.context > 0 ? spec.num_hashes * length : 0);
  carve.Take<int32_t>(spec.context > 0 ? spec.batch * spec.heads : 0);
  return carve.bytes() + std::max(LshScratchBytes(spec, length, threads), LshStepScratchBytes(spec) * threads);
}

void Execute(const AxialEmbedOp& op, const OpCall& call) {
  const Operand &ids = call.in(0), &words = call.in(1), &out = call.out();
  const int64_t tokens = ids.rows / op.batch, padded = out.rows / op.batch;
  call.run.gang->For(CeilDiv(out.rows, kRowsAtOnce), [&](int64_t block, int worker) {
    float* position = call.scratch() + worker * RoundUp(out.cols, 16);
    for (int64_t r = block * kRowsAtOnce; r < std::min(out.rows, (block + 1) * kRowsAtOnce); ++r) {
      const int64_t lane = r / padded, s = r % padded;
      // Row-major over the axes: the last one runs fastest.
      int64_t rest = call.run.position + s, column = out.cols;
      for (size_t a = call.op.inputs.size(); a-- > 2;) {
        const Operand& table = call.in(a);
        column -= table.cols;
        LookUpRow(call.kernels(), table.weight, rest % table.rows, position + column);
        rest /= table.rows;
      }
      float* row = out.f32() + r * out.stride;
      LookUpRow(call.kernels(), words.weight, s < tokens ? ids.i32()[lane * tokens + s] : op.pad_token_id, row);
      call.kernels().add(row, position, out.cols, row);
    }
  });
}

namespace {

// What later tokens will see.
void KeepLocal(const LocalAttentionOp& op, const OpCall& call) {
  const StateSpec& s = call.state();
  const Operand &k = call.in(1), &v = call.in(2);
  const int64_t padded = k.rows / op.batch, tokens = call.run.tokens(), kept = std::min(tokens, s.slots);
  call.run.gang->For(op.batch * op.heads, [&](int64_t i, int) {
    const int64_t lane = i / op.heads, head = i % op.heads, row = lane * padded + tokens - kept, column = head * op.head_width;
    AppendKv(KvHead(s, call.state_data(), lane, head), call.run.position + tokens - kept, kept, k.f32() + row * k.stride + column, k.stride,
             v.f32() + row * v.stride + column, v.stride);
  });
}

// One new token. The first key is the public implementation's: a slice of the cache that begins `before` chunks before the token's own, where a negative
// beginning counts from the cache's end.
void StepLocal(const LocalAttentionOp& op, const OpCall& call) {
  KeepLocal(op, call);
  const StateSpec& s = call.state();
  const Operand &q = call.in(0), &out = call.out();
  const int64_t cached = call.run.position, start = (cached / op.chunk - op.before) * op.chunk;
  const int64_t first = start >= 0 ? start : -start < cached ? cached + start : 0;
  const int64_t workspace_bytes = RoundUp(RoundUp(op.head_width * 4, 64) + AttentionWorkspaceBytes(op.head_width, op.head_width, DType::f32), 64);
  call.run.gang->For(op.batch * op.heads, [&](int64_t i, int worker) {
    const int64_t lane = i / op.heads, head = i % op.heads, column = head * op.head_width;
    uint8_t* workspace = call.workspace + worker * workspace_bytes;
    float* query = reinterpret_cast<float*>(workspace);  // the output may lie where the queries are
    std::memcpy(query, q.f32() + lane * q.stride + column, static_cast<size_t>(op.head_width) * 4);
    AttentionArgs a;
    a.q = query, a.q_stride = op.head_width;
    a.out = out.f32() + lane * out.stride + column, a.out_stride = out.stride;
    a.n_tokens = 1;
    a.q_position = cached;
    a.kv = KvHead(s, call.state_data(), lane, head);
    a.scale = 1.0f / std::sqrt(static_cast<float>(op.head_width));
    a.first_key = first, a.last_key = cached;
    call.run.model->attention().attend(a, 0, 1, workspace + RoundUp(op.head_width * 4, 64));
  });
}

}  // namespace

void Execute(const LocalAttentionOp& op, const OpCall& call) {
  if (call.op.state >= 0) {
    if (call.run.position > 0) return StepLocal(op, call);
    KeepLocal(op, call);
  }
  const Operand &q = call.in(0), &k = call.in(1), &v = call.in(2), &mask = call.in(3), &out = call.out();
  const int64_t padded = q.rows / op.batch, tokens = call.run.tokens();
  uint8_t* masks = call.workspace;
  uint8_t* workspace = call.workspace + RoundUp(padded, 64) * op.batch;
  const int64_t workspace_bytes = ChunkScratchBytes(op, padded);
  ChunkAttention shape;
  shape.head_width = op.head_width, shape.length = padded;
  shape.chunk = std::min(op.chunk, padded);
  if (padded > op.chunk) shape.before = op.before, shape.after = op.after;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(op.head_width));
  shape.causal = op.causal;
  shape.q_stride = q.stride, shape.k_stride = k.stride, shape.v_stride = v.stride, shape.out_stride = out.stride;
  constexpr int64_t kChunksAtOnce = 8;
  const int64_t parts = CeilDiv(shape.chunks(), kChunksAtOnce);
  for (int64_t lane = 0; lane < op.batch; ++lane) {
    const uint8_t* masked = MaskOfLane(mask, lane, tokens, padded, masks + lane * RoundUp(padded, 64));
    call.run.gang->For(op.heads * parts, [&](int64_t i, int worker) {
      if (call.run.cancel && call.run.cancel->cancelled()) return;
      const int64_t head = i / parts, part = i % parts, column = head * op.head_width, row = lane * padded;
      ChunkAttention a = shape;
      a.q = q.f32() + row * q.stride + column, a.k = k.f32() + row * k.stride + column, a.v = v.f32() + row * v.stride + column;
      a.out = out.f32() + row * out.stride + column;
      a.masked = masked;
      AttendChunks(call.kernels(), a, part * kChunksAtOnce, std::min(a.chunks(), (part + 1) * kChunksAtOnce), workspace + worker * workspace_bytes);
    });
  }
}

void Execute(const DrawRotationsOp& op, const OpCall& call) {
  float* out = call.out().f32();
  auto draw = [&](int64_t length) {
    const int64_t n = op.width() * op.num_hashes * BucketsFor(op, length).directions();
    TorchNormal(op.seed, n, out);
    return n;
  };
  if (call.op.inputs.empty()) return void(draw(0));
  // The number of buckets follows the length: drawn by the call that first hashes, and kept for those that go on from there.
  int32_t* drawn = call.op.state >= 0 ? reinterpret_cast<int32_t*>(call.state_data()) : nullptr;
  const bool step = call.run.position > 0;
  const int64_t most = call.out().rows * call.out().cols;  // a restored state says how many there are
  const int64_t length = step ? call.run.position + 1 : call.run.lengths[1];
  if (drawn && step && *drawn > 0 && *drawn <= most) return void(std::memcpy(out, drawn + LshSpec::kNotes, static_cast<size_t>(*drawn) * 4));
  if (drawn) *drawn = 0;
  if (step ? length < op.chunk : length <= op.chunk) return;
  const int64_t n = draw(length);
  if (drawn) *drawn = static_cast<int32_t>(n), std::memcpy(drawn + LshSpec::kNotes, out, static_cast<size_t>(n) * 4);
}

namespace {

struct LshOp {
  const LshAttentionOp& op;
  const OpCall& call;
  const Operand &qk = call.in(0), &v = call.in(1), &mask = call.in(2), &drawn = call.in(3), &given = call.in(4), &out = call.out();
  const int64_t padded = qk.rows / op.batch, tokens = call.run.tokens();

  bool has_state() const { return call.op.state >= 0; }
  LshState State(int64_t lane) const { return LshState(op, call.state_data() + lane * op.state_elements() * 4); }
  const float* Rotations(int64_t head, const BucketFactors& b) const {
    return (given.data ? given.f32() : drawn.f32()) + head * op.head_width * op.num_hashes * b.directions();
  }
  bool cancelled() const { return call.run.cancel && call.run.cancel->cancelled(); }

  // A whole sequence per lane.
  void Whole() const {
    Carve carve(call.workspace);
    uint8_t* masks = carve.Take<uint8_t>(padded);
    int32_t* counts = carve.Take<int32_t>(op.context > 0 ? MostBuckets(op, padded) + 2 : 0);
    int32_t* ids = carve.Take<int32_t>(op.context > 0 ? op.num_hashes * padded : 0);
    uint8_t* scratch = carve.Take<uint8_t>(0);
    LshHead head;
    head.qk_stride = qk.stride, head.v_stride = v.stride, head.out_stride = out.stride;
    head.length = padded;
    head.buckets = BucketsFor(op, padded);
    // Ids of a round start where those of the round before end; what is masked anywhere in the batch has an id of its own.
    bool any_masked = false;
    for (int64_t lane = 0; lane < op.batch && has_state(); ++lane) any_masked = any_masked || MaskOfLane(mask, lane, tokens, padded, masks);
    const int64_t stride = head.buckets.buckets() + any_masked;
    for (int64_t lane = 0; lane < op.batch; ++lane) {
      head.masked = MaskOfLane(mask, lane, tokens, padded, masks);
      for (int64_t h = 0; h < op.heads; ++h) {
        const int64_t column = h * op.head_width, row = lane * padded;
        head.qk = qk.f32() + row * qk.stride + column, head.v = v.f32() + row * v.stride + column;
        head.out = out.f32() + row * out.stride + column;
        head.rotations = Rotations(h, head.buckets);
        AttendLshHead(call.run.gang, call.kernels(), call.run.cancel, op, head, scratch, call.threads, has_state() ? ids : nullptr);
        if (cancelled()) return;
        if (has_state() && padded > op.chunk) KeepIds(lane, h, ids, stride, counts);
      }
      if (has_state()) KeepRows(lane, head.buckets);
    }
  }

  void KeepIds(int64_t lane, int64_t head, const int32_t* ids, int64_t stride, int32_t* counts) const {
    LshState state = State(lane);
    if (head == 0) state.largest_id() = -1;
    for (int64_t r = 0; r < op.num_hashes; ++r) {
      int32_t* line = state.ids + (head * op.num_hashes + r) * op.context;
      SortByBucket(ids + r * padded, tokens, BucketsFor(op, padded).buckets() + 1, counts, state.order + (head * op.num_hashes + r) * op.context);
      for (int64_t t = 0; t < tokens; ++t) {
        line[t] = ids[r * padded + t] + static_cast<int32_t>(r * stride);
        state.largest_id() = std::max(state.largest_id(), line[t]);
      }
    }
  }
  void KeepRows(int64_t lane, const BucketFactors& buckets) const {
    LshState state = State(lane);
    call.run.gang->For(CeilDiv(tokens, kRowsAtOnce), [&](int64_t block, int) {
      for (int64_t t = block * kRowsAtOnce; t < std::min(tokens, (block + 1) * kRowsAtOnce); ++t) KeepRow(state, t, lane * padded + t);
    });
    const bool hashed = padded > op.chunk;
    state.set_hashed(hashed), state.hashed_at() = -1;
    state.ordered() = static_cast<int32_t>(hashed ? tokens : 0);
    if (!hashed) state.largest_id() = -1;
    state.set_buckets(buckets);
  }
  void KeepRow(LshState& state, int64_t t, int64_t row) const {
    std::memcpy(state.qk + t * op.width(), qk.f32() + row * qk.stride, static_cast<size_t>(op.width()) * 4);
    std::memcpy(state.v + t * op.width(), v.f32() + row * v.stride, static_cast<size_t>(op.width()) * 4);
  }

  // One new token per lane.
  void Step() const {
    const int64_t position = call.run.position, scratch_bytes = LshStepScratchBytes(op);
    bool hashed = false;
    int32_t largest_before = -1;
    for (int64_t lane = 0; lane < op.batch; ++lane) {
      LshState state = State(lane);
      ForgetFrom(op, state, position);  // of a cancelled call
      KeepRow(state, position, lane);
      hashed = state.hashed();
      largest_before = std::max(largest_before, state.largest_id());
    }
    LshStep step;
    step.kernels = &call.kernels(), step.spec = &op;
    step.position = position;
    step.buckets = hashed ? State(0).buckets(op) : BucketsFor(op, position + 1);
    // As published: a masked token's id is recognised among the cached ones by its size.
    const int64_t buckets = step.buckets.buckets();
    step.stride = buckets + (hashed && largest_before > op.num_hashes * buckets - 1);
    Carve carve(call.workspace);
    int32_t* largest = carve.Take<int32_t>(op.batch * op.heads);
    uint8_t* scratch = carve.Take<uint8_t>(0);
    call.run.gang->For(op.batch * op.heads, [&](int64_t i, int worker) {
      LshState state = State(i / op.heads);
      LshStep s = step;
      s.head = i % op.heads;
      s.rotations = Rotations(s.head, s.buckets);
      s.out = out.f32() + i / op.heads * out.stride + s.head * op.head_width;
      largest[i] = StepLshHead(s, state, scratch + worker * scratch_bytes);
    });
    for (int64_t lane = 0; lane < op.batch; ++lane) {
      LshState state = State(lane);
      for (int64_t h = 0; h < op.heads; ++h) state.largest_id() = std::max(state.largest_id(), largest[lane * op.heads + h]);
      if (!hashed && position + 1 >= op.chunk) state.set_hashed(true), state.hashed_at() = static_cast<int32_t>(position), state.set_buckets(step.buckets);
      if (state.hashed()) state.ordered() = static_cast<int32_t>(position + 1);
    }
  }
};

}  // namespace

void Execute(const LshAttentionOp& op, const OpCall& call) {
  const LshOp lsh{op, call};
  if (lsh.has_state() && call.run.position > 0) lsh.Step();
  else lsh.Whole();
}

void Execute(const ChunkedFeedForwardOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &residual = call.in(1), &gamma = call.in(2), &beta = call.in(3), &w1 = call.in(4), &b1 = call.in(5), &w2 = call.in(6), &b2 = call.in(7);
  const Operand& out = call.out();
  Carve carve(call.workspace);
  const int64_t most = std::min(x.rows, ChunkedFeedForwardOp::kRows), inner_width = w1.rows;
  float* normed = carve.Take<float>(most * x.cols);  // later the second product
  float* inner = carve.Take<float>(most * inner_width);
  uint8_t* scratch = carve.Take<uint8_t>(0);
  for (int64_t begin = 0; begin < x.rows; begin += most) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const int64_t rows = std::min(most, x.rows - begin);
    ForRowBlocks(call, rows, [&](int64_t r) {
      call.kernels().layer_norm(x.f32() + (begin + r) * x.stride, nullptr, gamma.f32(), beta.f32(), op.epsilon, x.cols, nullptr, normed + r * x.cols);
    });
    ParallelMatMul(call, normed, x.cols, rows, w1.weight, b1.f32(), op.activation, inner, inner_width, scratch);
    ParallelMatMul(call, inner, inner_width, rows, w2.weight, b2.f32(), Activation::kNone, normed, x.cols, scratch);
    ForRowBlocks(call, rows, [&](int64_t r) {
      call.kernels().add(residual.f32() + (begin + r) * residual.stride, normed + r * x.cols, x.cols, out.f32() + (begin + r) * out.stride);
    });
  }
}

void Execute(const CutRowsOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const int64_t padded = x.rows / op.batch, tokens = call.run.tokens(), kept = op.keep == CutRowsOp::Keep::kAll ? tokens : 1;
  const int64_t first = op.keep == CutRowsOp::Keep::kLast ? tokens - 1 : 0;
  ForRowBlocks(call, out.rows, [&](int64_t r) {
    const int64_t from = r / kept * padded + first + r % kept;
    std::memcpy(out.f32() + r * out.stride, x.f32() + from * x.stride, static_cast<size_t>(x.cols) * 4);
    if (op.joined) std::memcpy(out.f32() + r * out.stride + x.cols, call.in(1).f32() + from * call.in(1).stride, static_cast<size_t>(call.in(1).cols) * 4);
  });
}

}  // namespace tern

// The ops of the Performer: random-feature attention with its prefix sums, local windows beside it, and the small ops around them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/carve.h"
#include "engine/runtime/execute.h"

namespace tern {

static_assert(static_cast<int>(FavorOp::Kernel::kRelu) == static_cast<int>(FavorKernel::kRelu) && static_cast<int>(FavorOp::Kernel::kNone) == static_cast<int>(FavorKernel::kNone),
              "the graph's feature maps are the kernels', in one order");

namespace {

template <class F>  // void(int64_t row)
void ForRows(const OpCall& call, int64_t rows, F&& f) {
  constexpr int64_t kRows = 8;
  call.run.gang->For(CeilDiv(rows, kRows), [&](int64_t chunk, int) {
    for (int64_t r = chunk * kRows; r < std::min(rows, (chunk + 1) * kRows); ++r) f(r);
  });
}

void Copy(const float* from, int64_t n, float* to) {
  if (n > 0) std::memcpy(to, from, static_cast<size_t>(n) * 4);
}

// Whether row r counts; `mask` may be null.
bool Counts(const float* mask, int64_t r) { return !mask || mask[r] != 0; }

}  // namespace

void Execute(const PositionsOp& op, const OpCall& call) {
  const int64_t tokens = call.run.tokens();
  int32_t* out = reinterpret_cast<int32_t*>(call.out().data);
  for (int64_t r = 0; r < call.out().rows; ++r) {
    int64_t index = (call.run.position - call.run.segment_begin + r % tokens) / op.divide;
    if (op.modulo > 0) index %= op.modulo;
    out[r] = static_cast<int32_t>(std::min(index, op.entries - 1));  // whoever feeds the tokens refuses more than there are positions
  }
}

void Execute(const GluOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const KernelTable& k = call.kernels();
  ForRows(call, out.rows, [&](int64_t r) {
    const float *a = x.f32() + r * x.stride, *b = a + out.cols;
    float* y = out.f32() + r * out.stride;
    switch (op.activation) {
      case Activation::kNone: Copy(a, out.cols, y); break;
      case Activation::kRelu: k.relu(a, out.cols, y); break;
      case Activation::kGelu: k.gelu(a, out.cols, y); break;
      case Activation::kGeluNew: k.gelu_new(a, out.cols, y); break;
      case Activation::kSilu: k.silu(a, out.cols, y); break;
      case Activation::kTanh: k.tanh(a, out.cols, y); break;
    }
    k.mul(y, b, out.cols, y);
  });
}

void Execute(const GainOp&, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const float g = call.in(1).f32()[0];
  ForRows(call, out.rows, [&](int64_t r) { call.kernels().scale(x.f32() + r * x.stride, g, out.cols, out.f32() + r * out.stride); });
}

void Execute(const ShiftTokensOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &out = call.out();
  const float* mask = op.masked ? call.in(1).f32() : nullptr;
  const int64_t tokens = call.run.tokens(), group = x.cols / (op.causal ? 2 : 3);
  float* state = op.causal ? reinterpret_cast<float*>(call.state_data()) : nullptr;
  const int64_t per_lane = op.causal ? call.state().elements : 0;
  // Columns [first, first + group) of the token `step` before (+1) or behind (-1).
  auto shift = [&](int64_t r, int64_t step, int64_t first) {
    const int64_t lane = r / tokens, from = r % tokens - step;
    float* to = out.f32() + r * out.stride + first;
    if (from >= 0 && from < tokens) {
      if (Counts(mask, r - step)) return Copy(x.f32() + (r - step) * x.stride + first, group, to);
    } else if (state) {
      return Copy(state + lane * per_lane, group, to);
    }
    std::fill_n(to, group, 0.0f);
  };
  ForRows(call, out.rows, [&](int64_t r) {
    Copy(x.f32() + r * x.stride, x.cols, out.f32() + r * out.stride);
    shift(r, 1, (op.causal ? 1 : 2) * group);
    if (!op.causal) shift(r, -1, 0);
  });
  for (int64_t lane = 0; state && lane < op.batch; ++lane) {
    const int64_t last = (lane + 1) * tokens - 1;
    if (Counts(mask, last)) Copy(x.f32() + last * x.stride + group, group, state + lane * per_lane);
    else std::fill_n(state + lane * per_lane, group, 0.0f);
  }
}

void Execute(const RotaryPairsOp& op, const OpCall& call) {
  const Operand &x = call.in(0), &angles = call.in(1), &out = call.out();
  const int64_t half = op.head_width / 2;
  ForRows(call, out.rows, [&](int64_t r) {
    const float *sine = angles.f32() + r * angles.stride, *cosine = sine + half;
    for (int64_t h = 0; h < op.heads; ++h) {
      const float* from = x.f32() + r * x.stride + h * op.head_width;
      float* to = out.f32() + r * out.stride + h * op.head_width;
      for (int64_t j = 0; j < half; ++j) {
        const float a = from[2 * j], b = from[2 * j + 1];
        to[2 * j] = a * cosine[j] - b * sine[j];
        to[2 * j + 1] = b * cosine[j] + a * sine[j];
      }
    }
  });
}

void Execute(const PackFavorOp&, const OpCall& call) {
  const Operand& p = call.in(0);
  PackFavorProjection(call.kernels(), p.f32(), p.cols, p.rows, p.cols, call.out().f32());
}

// ---- Random-feature attention ----

namespace {

FavorShape ShapeOf(const FavorOp& op) {
  return {static_cast<FavorKernel>(op.kernel), op.causal, op.mask_keys, op.features, op.head_width, op.head_width};
}

}  // namespace

int64_t ScratchBytes(const FavorOp& op, int64_t rows, int threads) {
  const FavorShape shape = ShapeOf(op);
  const int64_t states = op.causal ? 0 : op.batch * op.heads * FavorStateBytes(shape);
  return states + FavorWorkspaceBytes(shape, rows / op.batch) * threads;
}

void Execute(const FavorOp& op, const OpCall& call) {
  const Operand &q = call.in(0), &k = call.in(1), &v = call.in(2), &out = call.out();
  const bool projected = op.kernel != FavorOp::Kernel::kNone;
  const FavorShape shape = ShapeOf(op);
  const int64_t tokens = q.rows / op.batch, keys = k.rows / op.batch, tasks = op.batch * op.heads;
  const int64_t state_bytes = FavorStateBytes(shape);
  const int64_t capacity = call.plan.graph.Capacity(call.plan.graph.values[static_cast<size_t>(call.op.inputs[0])].extent.rows) / op.batch;
  const int64_t workspace_bytes = FavorWorkspaceBytes(shape, capacity);
  uint8_t* states = op.causal ? call.state_data() : call.workspace;
  uint8_t* workspaces = op.causal ? call.workspace : call.workspace + tasks * state_bytes;
  auto args = [&](int64_t task) {
    const int64_t lane = task / op.heads, column = task % op.heads * op.head_width;
    FavorArgs a;
    a.q = q.f32() + lane * tokens * q.stride + column, a.q_stride = q.stride;
    a.k = k.f32() + lane * keys * k.stride + column, a.k_stride = k.stride;
    a.v = v.f32() + lane * keys * v.stride + column, a.v_stride = v.stride;
    a.out = out.f32() + lane * tokens * out.stride + column, a.out_stride = out.stride;
    a.projection = projected ? call.in(3).f32() : nullptr;
    const float* mask = op.masked ? call.in(projected ? 4 : 3).f32() : nullptr;
    a.key_mask = mask ? mask + lane * keys : nullptr;
    return a;
  };
  if (op.causal) {
    call.run.gang->For(tasks, [&](int64_t task, int worker) {
      if (call.run.cancel && call.run.cancel->cancelled()) return;
      FavorCausal(call.kernels(), shape, args(task), tokens, states + task * state_bytes, workspaces + worker * workspace_bytes);
    });
  } else {
    call.run.gang->For(tasks, [&](int64_t task, int worker) {
      if (call.run.cancel && call.run.cancel->cancelled()) return;
      uint8_t* state = states + task * state_bytes;
      ResetFavor(shape, state);
      FavorKeys(call.kernels(), shape, args(task), keys, state, workspaces + worker * workspace_bytes);
      FavorFinishKeys(call.kernels(), shape, state);
    });
    constexpr int64_t kRows = 4 * kFavorBlock;  // a fixed split: any thread gives the same bits
    const int64_t blocks = CeilDiv(tokens, kRows);
    call.run.gang->For(tasks * blocks, [&](int64_t i, int worker) {
      const int64_t task = i / blocks, begin = i % blocks * kRows;
      FavorQueries(call.kernels(), shape, args(task), begin, std::min(tokens, begin + kRows), states + task * state_bytes, workspaces + worker * workspace_bytes);
    });
  }
  const int64_t behind = out.cols - op.heads * op.head_width;  // filled by the local heads; no garbage meanwhile
  for (int64_t r = 0; behind > 0 && r < out.rows; ++r) std::fill_n(out.f32() + r * out.stride + out.cols - behind, behind, 0.0f);
}

// ---- Local windows ----

namespace {

// Scratch of one worker.
struct WindowScratch {
  uint8_t* panels;
  float *k, *v, *q, *bias;  // [slots, Dh] twice, [w, Dh], [slots]
  uint8_t* attention;
  int64_t bytes;
};
WindowScratch CarveWindows(const LocalWindowsOp& op, uint8_t* base) {
  const int64_t slots = (op.causal ? 2 : 3) * op.window, dh = op.head_width;
  Carve carve(base);
  WindowScratch s{};
  s.panels = carve.Take<uint8_t>(KvBytes(slots, dh, dh, DType::f32));
  s.k = carve.Take<float>(slots * dh), s.v = carve.Take<float>(slots * dh);
  s.q = carve.Take<float>(op.window * dh);
  s.bias = carve.Take<float>(slots);
  s.attention = carve.Take<uint8_t>(AttentionWorkspaceBytes(dh, dh, DType::f32));
  s.bytes = carve.bytes();
  return s;
}

// One head of one lane over one call. Positions are absolute; the call holds [begin, begin + tokens).
class Windows {
 public:
  Windows(const LocalWindowsOp& op, const OpCall& call, int64_t lane, int64_t head, const WindowScratch& scratch)
      : op_(op), call_(call), s_(scratch), lane_(lane), column_(head * op.head_width), tokens_(call.run.tokens()), begin_(call.run.position), w_(op.window),
        slots_((op.causal ? 2 : 3) * op.window), dh_(op.head_width) {
    mask_ = op.masked && call.in(4).data ? call.in(4).f32() + lane * tokens_ : nullptr;
    if (op.causal) ring_ = reinterpret_cast<float*>(call.state_data()) + lane * call.state().elements + head * 4 * w_ * dh_;
  }

  void Run() {
    const int64_t end = begin_ + tokens_;
    for (int64_t window = begin_ / w_; window * w_ < end; ++window) {
      GatherKeys(window);
      const int64_t first = std::max(begin_, window * w_), last = std::min(end, (window + 1) * w_);
      Attend(window, first, last);
      if (mask_) FillUnseen(window, first, last);
    }
    for (int64_t p = std::max(begin_, end - 2 * w_); ring_ && p < end; ++p) {
      Copy(Row(1, p), dh_, Kept(0, p));
      Copy(Row(2, p), dh_, Kept(1, p));
    }
  }

 private:
  // A row of the call's q, k or v.
  const float* Row(size_t input, int64_t p) const {
    const Operand& o = call_.in(input);
    return o.f32() + (lane_ * tokens_ + p - begin_) * o.stride + column_;
  }
  float* Out(int64_t p) const {
    const Operand& o = call_.out();
    return o.f32() + (lane_ * tokens_ + p - begin_) * o.stride + o.cols - op_.heads * dh_ + column_;
  }
  float* Kept(int64_t which, int64_t p) const { return ring_ + (which * 2 * w_ + p % (2 * w_)) * dh_; }
  bool Masked(int64_t p) const { return mask_ && (p < begin_ || p >= begin_ + tokens_ || mask_[p - begin_] == 0); }

  // Slots that exist: none before the first window, none behind the last one (which zeros fill up).
  int64_t FirstSlot(int64_t window) const { return window == 0 ? w_ : 0; }
  int64_t LastSlot(int64_t window) const { return op_.causal || (window + 1) * w_ < begin_ + tokens_ ? slots_ - 1 : 2 * w_ - 1; }

  // x rotated by halves to the angle of `slot`.
  void Rotate(const float* x, int64_t slot, float* y) const {
    const int64_t half = dh_ / 2;
    const float *sine = call_.in(3).f32() + slot * call_.in(3).stride, *cosine = sine + half;
    for (int64_t j = 0; j < half; ++j) {
      y[j] = x[j] * cosine[j] - x[half + j] * sine[j];
      y[half + j] = x[half + j] * cosine[j] + x[j] * sine[j];
    }
  }

  void GatherKeys(int64_t window) {
    const int64_t first = FirstSlot(window), last = LastSlot(window);
    for (int64_t slot = first; slot <= last; ++slot) {
      const int64_t p = (window - 1) * w_ + slot;
      float *k = s_.k + slot * dh_, *v = s_.v + slot * dh_;
      if (p >= begin_ + tokens_) {
        std::fill_n(k, dh_, 0.0f), std::fill_n(v, dh_, 0.0f);
      } else {
        Rotate(p < begin_ ? Kept(0, p) : Row(1, p), slot, k);
        Copy(p < begin_ ? Kept(1, p) : Row(2, p), dh_, v);
      }
      if (mask_) s_.bias[slot] = Masked(p) ? -INFINITY : 0.0f;
    }
    AppendKv(MakeKvPanels(s_.panels, slots_, dh_, dh_, DType::f32), first, last - first + 1, s_.k + first * dh_, dh_, s_.v + first * dh_, dh_);
  }

  void Attend(int64_t window, int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) Rotate(Row(0, p), slots_ - w_ + p - window * w_, s_.q + (p - first) * dh_);
    AttentionArgs a;
    a.q = s_.q, a.q_stride = dh_;
    a.out = Out(first), a.out_stride = call_.out().stride;
    a.n_tokens = last - first;
    a.q_position = w_ + first - window * w_;
    a.kv = MakeKvPanels(s_.panels, slots_, dh_, dh_, DType::f32);
    a.scale = 1 / std::sqrt(static_cast<float>(dh_));
    a.first_key = FirstSlot(window), a.last_key = LastSlot(window);
    a.causal = op_.causal;
    a.key_bias = mask_ ? s_.bias + a.first_key : nullptr;
    const int64_t block = AttentionBlockTokens(a.n_tokens, 1);
    for (int64_t at = 0; at < a.n_tokens; at += block) call_.run.model->attention().attend(a, at, std::min(a.n_tokens, at + block), s_.attention);
  }

  // The public code masks with the lowest number, so a query that sees no key takes the mean over all slots; those that do not exist hold -1.
  void FillUnseen(int64_t window, int64_t first, int64_t last) {
    const int64_t from = FirstSlot(window), to = LastSlot(window);
    for (int64_t p = first; p < last; ++p) {
      bool seen = false;
      for (int64_t slot = from; slot <= (op_.causal ? p - (window - 1) * w_ : to) && !seen; ++slot) seen = s_.bias[slot] == 0;
      if (seen) continue;
      float* out = Out(p);
      std::fill_n(out, dh_, -static_cast<float>(slots_ - (to - from + 1)));
      for (int64_t slot = from; slot <= to; ++slot) call_.kernels().add(out, s_.v + slot * dh_, dh_, out);
      call_.kernels().scale(out, 1 / static_cast<float>(slots_), dh_, out);
    }
  }

  const LocalWindowsOp& op_;
  const OpCall& call_;
  const WindowScratch& s_;
  const int64_t lane_, column_, tokens_, begin_, w_, slots_, dh_;
  const float* mask_ = nullptr;  // of this lane
  float* ring_ = nullptr;        // [2][2 w][Dh]: keys, values, at position mod 2 w
};

}  // namespace

int64_t ScratchBytes(const LocalWindowsOp& op, int threads) { return CarveWindows(op, nullptr).bytes * threads; }

void Execute(const LocalWindowsOp& op, const OpCall& call) {
  const int64_t bytes = CarveWindows(op, nullptr).bytes;
  call.run.gang->For(op.batch * op.heads, [&](int64_t task, int worker) {
    if (call.run.cancel && call.run.cancel->cancelled()) return;
    const WindowScratch scratch = CarveWindows(op, call.workspace + worker * bytes);
    Windows(op, call, task / op.heads, task % op.heads, scratch).Run();
  });
  const Operand& out = call.out();
  if (!op.based) return;
  const Operand& base = call.in(4 + op.masked);
  if (base.data == out.data) return;  // in place
  for (int64_t r = 0; r < out.rows; ++r) Copy(base.f32() + r * base.stride, out.cols - op.heads * op.head_width, out.f32() + r * out.stride);
}

}  // namespace tern

// What happens to a finished tile that may not go straight to y: bias, activation, accumulation, columns beyond N.
#include "engine/kernels/math-inl.h"

#if defined(TERN_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_EPILOGUE_INL_H_
#undef TERN_EPILOGUE_INL_H_
#else
#define TERN_EPILOGUE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

template <Epilogue kEpilogue>
HWY_INLINE V Activate(V v) {
  if constexpr (kEpilogue == Epilogue::kRelu) return Relu(v);
  if constexpr (kEpilogue == Epilogue::kGelu) return Gelu(v);
  if constexpr (kEpilogue == Epilogue::kGeluNew) return GeluNew(v);
  if constexpr (kEpilogue == Epilogue::kSilu) return Silu(v);
  if constexpr (kEpilogue == Epilogue::kTanh) return Tanh(v);
  return v;
}

// tile [rows, columns] (leading dimension ld, a multiple of 16, >= columns) -> y. bias [columns] or null.
struct FinishArgs {
  const float* tile;
  int64_t ld;
  int64_t rows, columns;
  const float* bias;
  bool accumulate;
  float* y;
  int64_t ldy;
};

template <Epilogue kEpilogue>
void FinishTile(const FinishArgs& f) {
  const int64_t whole = f.columns / kLanes * kLanes;
  HWY_ALIGN float last_bias[kLanes] = {};
  if (f.bias)
    for (int64_t c = whole; c < f.columns; ++c) last_bias[c - whole] = f.bias[c];
  for (int64_t r = 0; r < f.rows; ++r) {
    const float* from = f.tile + r * f.ld;
    float* to = f.y + r * f.ldy;
    for (int64_t c = 0; c < whole; c += kLanes) {
      V v = hn::LoadU(kD, from + c);
      if (f.bias) v = hn::Add(v, hn::LoadU(kD, f.bias + c));
      v = Activate<kEpilogue>(v);
      if (f.accumulate) v = hn::Add(hn::LoadU(kD, to + c), v);
      hn::StoreU(v, kD, to + c);
    }
    if (whole == f.columns) continue;
    HWY_ALIGN float part[kLanes];
    V v = hn::LoadU(kD, from + whole);
    if (f.bias) v = hn::Add(v, hn::Load(kD, last_bias));
    hn::Store(Activate<kEpilogue>(v), kD, part);
    for (int64_t c = whole; c < f.columns; ++c) to[c] = f.accumulate ? to[c] + part[c - whole] : part[c - whole];
  }
}

HWY_INLINE void Finish(Epilogue epilogue, const FinishArgs& f) {
  switch (epilogue) {
    case Epilogue::kNone:
      return FinishTile<Epilogue::kNone>(f);
    case Epilogue::kRelu:
      return FinishTile<Epilogue::kRelu>(f);
    case Epilogue::kGelu:
      return FinishTile<Epilogue::kGelu>(f);
    case Epilogue::kGeluNew:
      return FinishTile<Epilogue::kGeluNew>(f);
    case Epilogue::kSilu:
      return FinishTile<Epilogue::kSilu>(f);
    case Epilogue::kTanh:
      return FinishTile<Epilogue::kTanh>(f);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // TERN_EPILOGUE_INL_H_

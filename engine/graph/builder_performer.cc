// The builder's methods for the ops of the Performer.
#include "engine/graph/builder.h"

namespace tern {

Value Builder::Positions(Value ids, const PositionsOp& attributes) {
  Value v = AddOp_(attributes, {ids}, {extent(ids).rows, 1});
  if (v.valid()) graph_.values[static_cast<size_t>(v.id)].type = DType::i32;
  return v;
}

Value Builder::Glu(Value x, Activation activation) {
  Check(extent(x).cols % 2 == 0, "glu", "an odd number of columns has no halves");
  return AddOp_(GluOp{activation}, {x}, {extent(x).rows, extent(x).cols / 2});
}

Value Builder::Gain(Value x, Value g) {
  Check(extent(g).cols == 1, "gain", "g is no number");
  return AddOp_(GainOp{}, {x, g}, extent(x));
}

Value Builder::ShiftTokens(Value x, Value mask, ShiftTokensOp attributes, int32_t state) {
  std::vector<Value> in{x};
  attributes.masked = mask.valid();
  if (mask.valid()) in.push_back(mask);
  Check(extent(x).cols >= (attributes.causal ? 2 : 3), "shift_tokens", "too few columns to shift");
  return AddOp_(attributes, std::move(in), extent(x), state);
}

Value Builder::RotaryPairs(Value x, Value angles, const RotaryPairsOp& attributes) {
  Check(extent(x).cols == attributes.heads * attributes.head_width && extent(angles) == Extent{extent(x).rows, attributes.head_width}, "rotary_pairs",
        "the angles do not fit the heads");
  return AddOp_(attributes, {x, angles}, extent(x));
}

Value Builder::PackFavor(Value projection) { return AddOp_(PackFavorOp{}, {projection}, extent(projection), -1, true); }

Value Builder::Favor(Value q, Value k, Value v, Value projection, Value mask, int64_t width, FavorOp attributes, int32_t state) {
  Check(extent(q).cols == attributes.heads * attributes.head_width && extent(k).cols == extent(q).cols && extent(v) == extent(k) && extent(q).cols <= width, "favor",
        "q, k and v do not fit the heads");
  Check(attributes.causal == (state >= 0), "favor", "the causal form has a state, the other none");
  std::vector<Value> in{q, k, v};
  attributes.masked = mask.valid();
  if (attributes.kernel != FavorOp::Kernel::kNone) in.push_back(projection);
  if (mask.valid()) in.push_back(mask);
  return AddOp_(attributes, std::move(in), {extent(q).rows, width}, state);
}

Value Builder::LocalWindows(Value q, Value k, Value v, Value table, Value mask, Value base, int64_t width, LocalWindowsOp attributes, int32_t state) {
  Check(extent(q).cols == attributes.heads * attributes.head_width && extent(k) == extent(q) && extent(v) == extent(q) && extent(q).cols <= width, "local_windows",
        "q, k and v do not fit the heads");
  Check(!base.valid() || extent(base) == Extent{extent(q).rows, width}, "local_windows", "the other heads' output does not fit");
  std::vector<Value> in{q, k, v, table};
  attributes.masked = mask.valid(), attributes.based = base.valid();
  if (mask.valid()) in.push_back(mask);
  if (base.valid()) in.push_back(base);
  return AddOp_(attributes, std::move(in), {extent(q).rows, width}, state);
}

}  // namespace tern

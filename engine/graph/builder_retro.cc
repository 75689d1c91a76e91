// The operations of RETRO; see ops.h.
#include "engine/graph/builder.h"

namespace tern {

Value Builder::ClampedRmsNorm(Value x, Value gamma, Value gate) {
  Check(extent(gamma).cols == extent(x).cols, "clamped_rms_norm", "gamma does not fit");
  std::vector<Value> in{x, gamma};
  if (gate.valid()) in.push_back(gate), Check(extent(gate).cols == extent(x).cols, "clamped_rms_norm", "the gate does not fit");
  return AddOp_(ClampedRmsNormOp{gate.valid()}, std::move(in), extent(x));
}

Value Builder::Residual(Value x, Value y, Value active, float scale) {
  Check(extent(x) == extent(y), "residual", "the shapes differ");
  std::vector<Value> in{x, y};
  if (active.valid()) in.push_back(active), Check(extent(active).rows == extent(x).rows, "residual", "`active` has other rows");
  return AddOp_(ResidualOp{scale}, std::move(in), extent(x));
}

Value Builder::OnePlus(Value w) { return AddOp_(OnePlusOp{}, {w}, extent(w)); }

Value Builder::RotaryTable(Value positions, Value inv_freq) {
  return AddOp_(RotaryTableOp{}, {positions, inv_freq}, {extent(positions).rows, 2 * extent(inv_freq).cols});
}

Value Builder::Rotary(Value x, Value table, int64_t heads, int64_t head_width) {
  Check(extent(x).cols == heads * head_width && extent(table).cols <= head_width, "rotary", "x or the table does not fit the heads");
  Check(extent(x).rows == extent(table).rows, "rotary", "the table has other rows");
  return AddOp_(RotaryOp{heads, head_width}, {x, table}, extent(x));
}

Value Builder::KeepChunk(int32_t state, Value x, Value chunks, Dim rows, const KeepChunkOp& attributes) {
  const StateSpec& s = graph_.states[static_cast<size_t>(state)];
  Check(s.elements == attributes.chunk * extent(x).cols && s.lanes == attributes.batch, "keep_chunk", "x does not fit the state");
  return AddOp_(attributes, {x, chunks}, {rows, extent(x).cols}, state);
}

Value Builder::AttendChunk(Value q, Value k, Value v, Value starts, const AttendChunkOp& attributes) {
  const int64_t a = attributes.heads * attributes.head_width;
  Check(extent(q).cols == a && extent(k).cols == a && extent(v) == extent(k), "attend_chunk", "q, k and v do not fit the heads");
  return AddOp_(attributes, {q, k, v, starts}, extent(q));
}

Value Builder::AttendNeighbors(int32_t state, Value q, Value k, Value v, Value starts, Value chunks, Value null_k, Value null_v,
                               AttendNeighborsOp attributes) {
  const int64_t a = attributes.heads * attributes.head_width;
  Check(extent(q).cols == a && extent(k).cols == a && extent(v) == extent(k), "attend_neighbors", "q, k and v do not fit the heads");
  std::vector<Value> in{q, k, v, starts, chunks};
  attributes.null = null_k.valid();
  if (attributes.null) {
    Check(extent(null_k).cols == a && extent(null_v).cols == a, "attend_neighbors", "the null key or value does not fit the heads");
    in.push_back(null_k), in.push_back(null_v);
  }
  return AddOp_(attributes, std::move(in), extent(q), state);
}

}  // namespace tern

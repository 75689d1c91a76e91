// The ops of Reformer.
#include "engine/graph/builder.h"

namespace tern {

Value Builder::AxialEmbed(Value ids, Value words, const std::vector<Value>& positions, Dim padded_rows, const AxialEmbedOp& attributes) {
  Use(words, false, true);
  std::vector<Value> in{ids, words};
  int64_t width = 0;
  for (Value p : positions) Use(p, false, true), in.push_back(p), width += extent(p).cols;
  Check(width == extent(words).cols, "axial_embed", "the position tables side by side are not as wide as the model");
  return AddOp_(attributes, std::move(in), {padded_rows, width});
}

Value Builder::LocalAttention(Value q, Value k, Value v, Value mask, const LocalAttentionOp& attributes, int32_t state) {
  Check(extent(q).cols == attributes.heads * attributes.head_width && extent(k) == extent(q) && extent(v) == extent(q), "local_attention", "q, k and v do not fit the heads");
  return AddOp_(attributes, {q, k, v, mask}, extent(q), state);
}

Value Builder::DrawRotations(const LshSpec& spec, int64_t directions, Value per_call, int32_t state) {
  std::vector<Value> in;
  if (per_call.valid()) in.push_back(per_call);
  return AddOp_(DrawRotationsOp{spec}, std::move(in), {spec.width(), spec.num_hashes * directions}, state);
}

Value Builder::LshAttention(Value qk, Value v, Value mask, Value rotations, Value given, const LshSpec& spec, int32_t state) {
  Check(extent(qk).cols == spec.heads * spec.head_width && extent(v) == extent(qk), "lsh_attention", "qk and v do not fit the heads");
  // Buckets are decided by small differences: int8 in this one product would move one token in a hundred into another.
  if (const int32_t producer = qk.valid() ? graph_.values[static_cast<size_t>(qk.id)].producer : -1; producer >= 0) {
    const Op& product = graph_.ops[static_cast<size_t>(producer)];
    if (std::holds_alternative<MatMulOp>(product.spec)) Use({product.inputs[1]}, true, false);
  }
  return AddOp_(LshAttentionOp{spec}, {qk, v, mask, rotations, given}, extent(qk), state);
}

Value Builder::ChunkedFeedForward(Value x, Value residual, Value gamma, Value beta, Value w1, Value b1, Value w2, Value b2, const ChunkedFeedForwardOp& attributes) {
  Use(w1, true, true), Use(w2, true, true);
  Check(extent(x) == extent(residual) && extent(w1).cols == extent(x).cols && extent(w2) == Extent{extent(x).cols, extent(w1).rows.scale} &&
            extent(b1).cols == extent(w1).rows.scale && extent(b2).cols == extent(x).cols,
        "chunked_feed_forward", "the weights do not fit");
  return AddOp_(attributes, {x, residual, gamma, beta, w1, b1, w2, b2}, extent(x));
}

Value Builder::CutRows(Value x, Value y, Dim rows, const CutRowsOp& attributes) {
  Check(attributes.joined == y.valid(), "cut_rows", "a second matrix is there or it is not");
  std::vector<Value> in{x};
  if (y.valid()) in.push_back(y);
  return AddOp_(attributes, std::move(in), {attributes.keep == CutRowsOp::Keep::kAll ? rows : Dim(attributes.batch), extent(x).cols + (y.valid() ? extent(y).cols : 0)});
}

}  // namespace tern

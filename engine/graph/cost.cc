#include "engine/graph/cost.h"

namespace tern {
namespace {

struct Coster {
  const Graph& g;
  const Op& op;
  std::span<const int64_t> lengths;
  double visible;

  const ValueSpec& in(size_t i) const { return g.values[static_cast<size_t>(op.inputs[i])]; }
  double Rows(size_t i) const {
    const Dim& d = in(i).extent.rows;
    return static_cast<double>(d.constant() ? d.scale : d.scale * lengths[static_cast<size_t>(d.length)]);
  }
  double Cols(size_t i) const { return static_cast<double>(in(i).extent.cols); }
  Cost Product(double rows, size_t weight) const {
    double elements = Rows(weight) * Cols(weight);
    return {2 * rows * elements, 4 * elements};
  }

  Cost operator()(const MatMulOp&) const { return Product(Rows(0), 1); }
  Cost operator()(const EmbedOp& e) const {
    Cost c{0, 4 * Rows(0) * Cols(1)};
    if (e.projected) c += Product(Rows(0), 2);  // every token takes one cluster's projection; the first is the largest
    return c;
  }
  Cost operator()(const AttendXlOp& a) const {
    // q.k, (q+v).rk and p.v, each 2 * visible * Dh per head and row
    return {6 * Rows(0) * visible * static_cast<double>(a.heads * a.head_width), 0};
  }
  Cost operator()(const AddPositionsOp&) const { return {0, 4 * Rows(0) * Cols(0)}; }
  Cost operator()(const AttendCausalOp& a) const { return {4 * Rows(0) * visible * static_cast<double>(a.heads * a.head_width), 0}; }
  Cost operator()(const AddLookupOp&) const { return {0, 4 * Rows(0) * Cols(0)}; }
  Cost operator()(const MemoryTablesOp&) const { return {}; }
  Cost operator()(const RememberRowsOp&) const { return {}; }
  // A segment's update, spread over its tokens.
  Cost operator()(const UpdateMemoryOp& u) const {
    const LongTermMemory& m = u.memory;
    const double n = static_cast<double>(m.basis), l = static_cast<double>(m.length), a = static_cast<double>(m.width());
    const double mask = m.mask == MemoryMask::kConvolution ? 3 * l * a * a : m.mask == MemoryMask::kAffine ? l * l * a : 0;
    const double macs = mask + n * n * a + n * l * a + n * a * a + (m.affines ? 2 * n * a + 2 * a * a : n * a * a);
    return {2 * macs * static_cast<double>(m.batch) * static_cast<double>(lengths[0]) / l, 0};
  }
  Cost operator()(const AttendMemoryOp& o) const {
    const LongTermMemory& m = o.memory;
    const double n = static_cast<double>(m.basis), a = static_cast<double>(m.width());
    // k_mu.q and k_sigma.q (or all scores), r.V, and about ten operations for each expectation
    return {Rows(0) * ((m.affines ? 4 * a : 2 * n * a) + 2 * n * a + 10 * n * static_cast<double>(m.heads)), 0};
  }
  Cost operator()(const AttendPackedOp& a) const { return {4 * Rows(0) * visible * static_cast<double>(a.heads * a.head_width), 0}; }
  Cost operator()(const AttendChunkOp& a) const { return {4 * Rows(0) * static_cast<double>(a.chunk * a.heads * a.head_width), 0}; }
  // Every token sees the neighbours of one chunk; as many as the run brings, else those it may have.
  Cost operator()(const AttendNeighborsOp& a) const {
    const StateSpec& s = g.states[static_cast<size_t>(op.state)];
    return {4 * Rows(0) * static_cast<double>(s.slots * a.heads * a.head_width), 0};
  }
  Cost operator()(const ClampedRmsNormOp&) const { return {}; }
  Cost operator()(const ResidualOp&) const { return {}; }
  Cost operator()(const OnePlusOp&) const { return {}; }
  Cost operator()(const RotaryTableOp&) const { return {}; }
  Cost operator()(const RotaryOp&) const { return {}; }
  Cost operator()(const KeepChunkOp&) const { return {}; }
  Cost operator()(const AttendCrossOp& a) const { return {4 * Rows(0) * visible * static_cast<double>(a.heads * a.head_width), 0}; }
  // Every row takes one expert; at most as many experts are read as there are rows.
  Cost operator()(const ExpertsOp& e) const {
    const double one = 2 * static_cast<double>(e.inner) * Cols(0);
    return {2 * Rows(0) * one, 4 * one * std::min(Rows(0), static_cast<double>(e.experts))};
  }
  Cost operator()(const StoreKvOp&) const { return {}; }
  Cost operator()(const RelativeBiasOp&) const { return {}; }
  Cost operator()(const RmsNormOp&) const { return {}; }
  Cost operator()(const ScaleOp&) const { return {}; }
  Cost operator()(const MulOp&) const { return {}; }
  Cost operator()(const TakeRowsOp&) const { return {}; }
  Cost operator()(const MeanRowsOp&) const { return {}; }
  Cost operator()(const NormalizeOp&) const { return {}; }
  Cost operator()(const SinusoidOp&) const { return {}; }
  Cost operator()(const PackXlPositionsOp&) const { return {}; }
  Cost operator()(const LayerNormOp&) const { return {}; }
  Cost operator()(const AddOp&) const { return {}; }
  Cost operator()(const LastRowsOp&) const { return {}; }
  Cost operator()(const AppendKvOp&) const { return {}; }
  Cost operator()(const PositionsOp&) const { return {}; }
  Cost operator()(const GluOp&) const { return {}; }
  Cost operator()(const GainOp&) const { return {}; }
  Cost operator()(const ShiftTokensOp&) const { return {}; }
  Cost operator()(const RotaryPairsOp&) const { return {}; }
  Cost operator()(const PackFavorOp&) const { return {}; }
  // Features of q and k, the sums and reading them, each 2 m Dh per head; causal, a block of 64 tokens sees itself too.
  Cost operator()(const FavorOp& f) const {
    const double m = static_cast<double>(f.kernel == FavorOp::Kernel::kNone ? f.head_width : f.features), width = static_cast<double>(f.head_width);
    const double map = f.kernel == FavorOp::Kernel::kNone ? 0 : 2 * m * width, sums = 2 * m * width, block = f.causal ? 64 * (m + width) : 0;
    return {static_cast<double>(f.heads) * (Rows(0) * (map + sums + block) + Rows(1) * (map + sums)), 0};
  }
  Cost operator()(const LocalWindowsOp& a) const {
    return {4 * Rows(0) * static_cast<double>((a.causal ? 2 : 3) * a.window * a.heads * a.head_width), 0};
  }
  Cost operator()(const AxialEmbedOp&) const { return {0, 8 * Rows(0) * Cols(1)}; }
  // Every query meets the same number of keys, whatever the length.
  Cost Chunks(double keys, double width) const { return {4 * Rows(0) * keys * width, 0}; }
  Cost operator()(const LocalAttentionOp& a) const {
    return Chunks(static_cast<double>((a.before + 1 + a.after) * a.chunk), static_cast<double>(a.heads * a.head_width));
  }
  Cost operator()(const LshAttentionOp& a) const {
    const double width = static_cast<double>(a.heads * a.head_width);
    Cost c = Chunks(static_cast<double>(a.num_hashes * (a.before + 1 + a.after) * a.chunk), width);
    c.flops += 2 * Rows(0) * width * Cols(3);  // the rotations
    return c;
  }
  Cost operator()(const DrawRotationsOp&) const { return {}; }
  Cost operator()(const ChunkedFeedForwardOp&) const {
    Cost c = Product(Rows(0), 4);
    c += Product(Rows(0), 6);
    return c;
  }
  Cost operator()(const CutRowsOp&) const { return {}; }
  Cost Softmax(const SoftmaxSpec& s) const {
    Cost c;
    const size_t per = s.inputs_per_cluster();
    for (size_t i = 0; i < static_cast<size_t>(s.clusters); ++i) {
      c += Product(Rows(0), 1 + i * per);
      if (s.projected) c += Product(Rows(0), i * per + per);
    }
    if (s.clusters > 1) c += Product(Rows(0), 1 + static_cast<size_t>(s.clusters) * per);
    return c;
  }
  Cost operator()(const LogSoftmaxOp& s) const { return Softmax(s); }
  // The head for every row; tails only for rows whose target lies there, counted here as none.
  Cost operator()(const TargetLogProbOp& s) const {
    Cost c = Product(Rows(0), 1);
    if (s.projected) c += Product(Rows(0), s.inputs_per_cluster());
    return c;
  }
};

}  // namespace

Cost OpCost(const Graph& graph, const Op& op, std::span<const int64_t> lengths, double visible) {
  return std::visit(Coster{graph, op, lengths, visible}, op.spec);
}

Cost RunCost(const Graph& graph, std::span<const int64_t> lengths, double visible) {
  Cost total;
  for (const Op& op : graph.ops)
    if (!op.constant) total += OpCost(graph, op, lengths, visible);
  return total;
}

}  // namespace tern

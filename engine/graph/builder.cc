#include "engine/graph/builder.h"

namespace tern {

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kVector: return "vector";
    case Role::kMatrix: return "matrix";
    case Role::kTable: return "table";
    case Role::kExperts: return "experts";
    case Role::kRouter: return "router";
  }
  return "?";
}

std::string_view StateRuleName(StateRule rule) {
  switch (rule) {
    case StateRule::kAppend: return "append";
    case StateRule::kKeepLast: return "keep_last";
    case StateRule::kRefit: return "refit";
    case StateRule::kAccumulate: return "accumulate";
    case StateRule::kReplace: return "replace";
  }
  return "?";
}

bool Builder::Check(bool condition, std::string_view op, std::string_view what) {
  if (!condition && status_.ok()) status_ = InternalError(Str(op, ": ", what)).Where(prefix_);
  return condition;
}

Dim Builder::AddLength(std::string_view name, int64_t capacity) {
  graph_.lengths.push_back({std::string(name), capacity});
  return {1, static_cast<int8_t>(graph_.lengths.size() - 1)};
}

Value Builder::Input(std::string_view name, DType type, Dim rows, int64_t cols, bool optional) {
  ValueSpec v{ValueKind::kInput, type, {rows, cols}};
  v.name = name;
  graph_.values.push_back(std::move(v));
  Value out{static_cast<int32_t>(graph_.values.size() - 1)};
  graph_.inputs.push_back({std::string(name), out.id, optional});
  return out;
}

void Builder::Output(std::string_view name, Value value) {
  if (Check(value.valid(), "output", Str("'", name, "' is no value"))) graph_.outputs.push_back({std::string(name), value.id});
}

Value Builder::Weight(std::string_view name, Shape shape, Role role) {
  std::string full = prefix_ + std::string(name);
  if (auto found = weight_values_.find(full); found != weight_values_.end()) {
    const WeightSpec& w = graph_.weights[static_cast<size_t>(graph_.values[static_cast<size_t>(found->second)].weight)];
    Check(w.shape == shape, "weight", Str("'", full, "' was asked for with two shapes, ", w.shape, " and ", shape));
    return {found->second};
  }
  graph_.weights.push_back({full, shape, role});
  ValueSpec v{ValueKind::kWeight, DType::f32, {shape.rank() > 1 ? shape[0] : 1, shape[-1]}};
  v.name = full;
  v.weight = static_cast<int32_t>(graph_.weights.size() - 1);
  graph_.values.push_back(std::move(v));
  Value out{static_cast<int32_t>(graph_.values.size() - 1)};
  weight_values_.emplace(std::move(full), out.id);
  return out;
}

Value Builder::Shared(std::string_view name, int64_t rows, int64_t n) {
  std::string prefix;
  prefix.swap(prefix_);
  Value v = Vector(name, rows, n);
  prefix.swap(prefix_);
  return v;
}

Value Builder::SharedTable(std::string_view name, int64_t entries, int64_t width) {
  std::string prefix;
  prefix.swap(prefix_);
  Value v = Table(name, entries, width);
  prefix.swap(prefix_);
  return v;
}

void Builder::Use(Value v, bool multiplied, bool int8) {
  if (!v.valid()) return;
  int32_t w = graph_.values[static_cast<size_t>(v.id)].weight;
  if (w < 0) return;
  WeightSpec& spec = graph_.weights[static_cast<size_t>(w)];
  (multiplied ? spec.multiplied : spec.looked_up) = true;
  if (!int8) spec.no_int8 = true;
}

int32_t Builder::State(std::string_view name, StateSpec spec) {
  spec.name = prefix_ + std::string(name);
  graph_.states.push_back(std::move(spec));
  return static_cast<int32_t>(graph_.states.size() - 1);
}

Value Builder::AddOp_(OpSpec spec, std::vector<Value> inputs, Extent extent, int32_t state, bool opaque) {
  Op op;
  op.spec = std::move(spec);
  op.state = state;
  op.name = prefix_ + std::string(OpName(op.spec));
  op.constant = state < 0;
  for (Value v : inputs) {
    if (!Check(v.valid(), OpName(op.spec), "an input is missing")) return {};
    ValueKind kind = graph_.values[static_cast<size_t>(graph_.Root(v.id))].kind;
    op.constant = op.constant && (kind == ValueKind::kWeight || kind == ValueKind::kConstant);
    op.inputs.push_back(v.id);
  }
  int32_t number = static_cast<int32_t>(graph_.ops.size());
  Value out;
  if (extent.cols > 0) {
    ValueSpec v{op.constant ? ValueKind::kConstant : ValueKind::kActivation, DType::f32, extent};
    v.name = op.name;
    v.producer = number;
    v.opaque = opaque;
    graph_.values.push_back(std::move(v));
    out.id = static_cast<int32_t>(graph_.values.size() - 1);
    op.output = out.id;
  }
  graph_.ops.push_back(std::move(op));
  return out;
}

Value Builder::Embed(Value ids, const std::vector<Cluster>& clusters, int64_t width, float scale) {
  EmbedOp op{static_cast<int>(clusters.size()), !clusters.empty() && clusters[0].projection.valid(), scale};
  std::vector<Value> in{ids};
  for (const Cluster& c : clusters) {
    Use(c.weight, false, true);
    in.push_back(c.weight);
    if (op.projected) {
      Use(c.projection, true, true);
      in.push_back(c.projection);
      Check(extent(c.projection) == Extent{width, extent(c.weight).cols}, "embed", "the projection does not fit its table");
    } else {
      Check(extent(c.weight).cols == width, "embed", "a table is not as wide as the model");
    }
  }
  return AddOp_(op, std::move(in), {extent(ids).rows, width});
}

Value Builder::MatMul(Value x, Value w, Value bias, Activation activation) {
  Use(w, true, true);
  Check(extent(x).cols == extent(w).cols, "matmul", Str("x has ", extent(x).cols, " columns, W ", extent(w).cols));
  std::vector<Value> in{x, w};
  if (bias.valid()) in.push_back(bias), Check(extent(bias).cols == extent(w).rows.scale, "matmul", "the bias does not fit");
  return AddOp_(MatMulOp{bias.valid(), activation}, std::move(in), {extent(x).rows, extent(w).rows.scale});
}

Value Builder::LayerNorm(Value x, Value residual, Value gamma, Value beta, float epsilon) {
  std::vector<Value> in{x};
  if (residual.valid()) in.push_back(residual), Check(extent(residual) == extent(x), "layer_norm", "the residual has another shape");
  in.push_back(gamma), in.push_back(beta);
  Check(extent(gamma).cols == extent(x).cols && extent(beta).cols == extent(x).cols, "layer_norm", "gamma or beta does not fit");
  return AddOp_(LayerNormOp{residual.valid(), epsilon}, std::move(in), extent(x));
}

Value Builder::Add(Value a, Value b) {
  Check(extent(a) == extent(b), "add", "the shapes differ");
  return AddOp_(AddOp{}, {a, b}, extent(a));
}

Value Builder::LastRows(Value x, int64_t batch) { return AddOp_(LastRowsOp{batch}, {x}, {batch, extent(x).cols}); }

Value Builder::Columns(Value x, int64_t first, int64_t count) {
  if (!Check(x.valid() && first >= 0 && count > 0 && first + count <= extent(x).cols, "columns", "outside of the matrix")) return {};
  ValueSpec v = graph_.values[static_cast<size_t>(x.id)];
  v.parent = x.id;
  v.column = first;
  v.extent.cols = count;
  graph_.values.push_back(std::move(v));
  return {static_cast<int32_t>(graph_.values.size() - 1)};
}

void Builder::AppendKv(int32_t state, Value k, Value v) {
  const StateSpec& s = graph_.states[static_cast<size_t>(state)];
  Check(extent(k).cols == s.heads * s.head_width && extent(v) == extent(k), "append_kv", "keys or values do not fit the state");
  AddOp_(AppendKvOp{}, {k, v}, {}, state);
}

Value Builder::AttendXl(int32_t state, Value q, Value u, Value v, Value positions, const AttendXlOp& attributes) {
  Check(extent(q).cols == attributes.heads * attributes.head_width, "attend_xl", "q does not fit the heads");
  return AddOp_(attributes, {q, u, v, positions}, extent(q), state);
}

Value Builder::AddPositions(Value x, Value table) {
  Use(table, false);
  Check(extent(table).cols == extent(x).cols, "add_positions", "the table is not as wide as the model");
  return AddOp_(AddPositionsOp{}, {x, table}, extent(x));
}

Value Builder::AddLookup(Value x, Value ids, Value table) {
  Use(table, false);
  Check(extent(table).cols == extent(x).cols, "add_lookup", "the table is not as wide as the model");
  return AddOp_(AddLookupOp{}, {x, ids, table}, extent(x));
}

Value Builder::MemoryTables(const LongTermMemory& memory, Value fit, Value update, Value samples, Value centers, Value widths) {
  std::vector<Value> in;
  if (memory.imported) {
    in = {fit, update, samples, centers, widths};
    Check(extent(fit) == Extent{memory.length, memory.basis} && extent(update) == Extent{memory.samples + memory.length, memory.basis} &&
              extent(samples) == Extent{memory.samples, memory.basis} && extent(centers) == Extent{1, memory.basis} && extent(widths) == extent(centers),
          "memory_tables", "the tables do not fit the memory");
  }
  return AddOp_(MemoryTablesOp{memory}, std::move(in), {memory.basis, memory.basis}, -1, true);
}

void Builder::UpdateMemory(int32_t state, const LongTermMemory& memory, Value tables, const MemoryWeights& w) {
  const int64_t a = memory.width();
  std::vector<Value> in{tables, w.key, w.value};
  Use(w.key, true), Use(w.value, true);
  Check(extent(w.key) == Extent{a, a} && extent(w.value) == Extent{a, a}, "update_memory", "a projection does not fit the heads");
  if (memory.affines) {
    in.push_back(w.mu), in.push_back(w.sigma);
    Check(extent(w.mu) == Extent{1, memory.basis} && extent(w.sigma) == extent(w.mu), "update_memory", "mu or sigma does not fit the basis");
  }
  if (memory.mask != MemoryMask::kNone) {
    in.push_back(w.mask_weight), in.push_back(w.mask_bias);
    Use(w.mask_weight, true);
    const Extent wanted = memory.mask == MemoryMask::kAffine ? Extent{memory.length, memory.length} : Extent{a, 3 * a};
    Check(extent(w.mask_weight) == wanted && extent(w.mask_bias).cols == wanted.rows.scale, "update_memory", "the mask does not fit");
  }
  AddOp_(UpdateMemoryOp{memory}, std::move(in), {}, state);
}

void Builder::RememberRows(int32_t state, const LongTermMemory& memory, Value x) {
  Check(extent(x).cols == memory.width(), "remember_rows", "the rows are not as wide as the memory");
  AddOp_(RememberRowsOp{memory}, {x}, {}, state);
}

Value Builder::AttendMemory(int32_t state, const LongTermMemory& memory, Value q, Value tables) {
  Check(extent(q).cols == memory.width(), "attend_memory", "q does not fit the heads");
  return AddOp_(AttendMemoryOp{memory}, {q, tables}, extent(q), state);
}

Value Builder::AttendPacked(Value q, Value k, Value v, Value starts, Value key_bias, const AttendPackedOp& attributes, Value bias) {
  Check(extent(q).cols == attributes.heads * attributes.head_width && extent(k) == extent(q) && extent(v) == extent(q), "attend_packed", "q, k and v do not fit the heads");
  std::vector<Value> in{q, k, v, starts};
  if (key_bias.valid()) in.push_back(key_bias);
  if (attributes.bias.on) in.push_back(bias), CheckBias(bias, attributes.heads, attributes.bias);
  return AddOp_(attributes, std::move(in), extent(q));
}

void Builder::CheckBias(Value lines, int64_t heads, const RelativeBias& bias) {
  Check(extent(lines) == Extent{heads, bias.most - bias.least + 1}, "relative bias", "the lines do not fit heads and distances");
}

Value Builder::AttendCausal(int32_t state, Value q, const AttendCausalOp& attributes, Value bias) {
  Check(extent(q).cols == attributes.heads * attributes.head_width, "attend_causal", "q does not fit the heads");
  std::vector<Value> in{q};
  if (attributes.bias.on) in.push_back(bias), CheckBias(bias, attributes.heads, attributes.bias);
  return AddOp_(attributes, std::move(in), extent(q), state);
}

void Builder::StoreKv(int32_t state, Value k, Value v, Value starts) {
  const StateSpec& s = graph_.states[static_cast<size_t>(state)];
  Check(extent(k).cols == s.heads * s.head_width && extent(v) == extent(k), "store_kv", "keys or values do not fit the state");
  AddOp_(StoreKvOp{}, {k, v, starts}, {}, state);
}

Value Builder::AttendCross(int32_t state, Value q, Value lane_starts, Value source_lengths, const AttendCrossOp& attributes) {
  Check(extent(q).cols == attributes.heads * attributes.head_width, "attend_cross", "q does not fit the heads");
  return AddOp_(attributes, {q, lane_starts, source_lengths}, extent(q), state);
}

Value Builder::RelativeBiasLines(Value table, const RelativeBiasOp& op) {
  Check(extent(table).rows == Dim(op.buckets), "relative_bias", "the table does not have a row per bucket");
  return AddOp_(op, {table}, {extent(table).cols, (op.bidirectional ? 2 : 1) * op.max_distance + 1});
}

Value Builder::Experts(Value x, Value logits, Value wi, Value wo, Value starts, ExpertsOp op) {
  Use(wi, true, true), Use(wo, true, true);
  op.starts = starts.valid();
  Check(extent(logits) == Extent{extent(x).rows, op.experts}, "experts", "there must be a logit per row and expert");
  std::vector<Value> in{x, logits, wi, wo};
  if (op.starts) in.push_back(starts);
  return AddOp_(op, std::move(in), extent(x));
}

Value Builder::RmsNorm(Value x, Value gamma, float epsilon) {
  Check(extent(gamma).cols == extent(x).cols, "rms_norm", "gamma does not fit");
  return AddOp_(RmsNormOp{epsilon}, {x, gamma}, extent(x));
}

Value Builder::Scale(Value x, float factor) { return AddOp_(ScaleOp{factor}, {x}, extent(x)); }

Value Builder::TakeRows(Value x, Value rows) { return AddOp_(TakeRowsOp{}, {x, rows}, {extent(rows).rows, extent(x).cols}); }

Value Builder::MeanRows(Value x, Value starts, Dim sequences) { return AddOp_(MeanRowsOp{}, {x, starts}, {sequences, extent(x).cols}); }

Value Builder::Normalize(Value x, float epsilon) { return AddOp_(NormalizeOp{epsilon}, {x}, extent(x)); }

Value Builder::Mul(Value a, Value b) {
  Check(extent(a) == extent(b), "mul", "the shapes differ");
  return AddOp_(MulOp{}, {a, b}, extent(a));
}

Value Builder::Sinusoid(Value inv_freq, int64_t distances) { return AddOp_(SinusoidOp{}, {inv_freq}, {distances, 2 * extent(inv_freq).cols}); }

Value Builder::PackXlPositions(Value rk, int64_t heads, int64_t head_width) {
  Check(extent(rk).cols == heads * head_width, "pack_xl_positions", "the table does not fit the heads");
  return AddOp_(PackXlPositionsOp{heads, head_width}, {rk}, extent(rk), -1, true);
}

std::vector<Value> Builder::SoftmaxInputs(Value h, const std::vector<Cluster>& clusters, Value cluster_weight, Value cluster_bias, SoftmaxSpec* spec,
                                          int64_t* vocabulary) {
  spec->clusters = static_cast<int>(clusters.size());
  spec->projected = !clusters.empty() && clusters[0].projection.valid();
  spec->bias = !clusters.empty() && clusters[0].bias.valid();
  std::vector<Value> in{h};
  *vocabulary = 0;
  for (const Cluster& c : clusters) {
    Use(c.weight, true);
    in.push_back(c.weight);
    if (spec->bias) in.push_back(c.bias);
    *vocabulary += extent(c.weight).rows.scale;
    Check(!spec->bias || extent(c.bias).cols == extent(c.weight).rows.scale, "softmax", "a bias does not fit its cluster");
    if (spec->projected) {
      Use(c.projection, true);
      in.push_back(c.projection);
      Check(extent(c.projection) == Extent{extent(c.weight).cols, extent(h).cols}, "softmax", "a projection does not fit its cluster");
    } else {
      Check(extent(c.weight).cols == extent(h).cols, "softmax", "a cluster is not as wide as the model");
    }
  }
  if (spec->clusters > 1) {
    Use(cluster_weight, true);
    in.push_back(cluster_weight), in.push_back(cluster_bias);
    Check(extent(cluster_weight) == Extent{spec->clusters - 1, extent(clusters[0].weight).cols}, "softmax", "the cluster weights do not fit the head");
  }
  return in;
}

Value Builder::LogSoftmax(Value h, const std::vector<Cluster>& clusters, Value cluster_weight, Value cluster_bias, bool reversed) {
  LogSoftmaxOp op;
  int64_t vocabulary;
  auto in = SoftmaxInputs(h, clusters, cluster_weight, cluster_bias, &op, &vocabulary);
  op.reversed = reversed;
  return AddOp_(op, std::move(in), {extent(h).rows, vocabulary});
}

Value Builder::TargetLogProb(Value h, const std::vector<Cluster>& clusters, Value cluster_weight, Value cluster_bias, bool reversed, Value targets) {
  TargetLogProbOp op;
  int64_t vocabulary;
  auto in = SoftmaxInputs(h, clusters, cluster_weight, cluster_bias, &op, &vocabulary);
  op.reversed = reversed;
  in.push_back(targets);
  return AddOp_(op, std::move(in), {extent(h).rows, 1});
}

}  // namespace tern

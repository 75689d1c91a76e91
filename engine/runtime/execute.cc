#include "engine/runtime/execute.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/carve.h"

namespace tern {

namespace {

// Scratch of one op at capacity.
struct ScratchOf {
  const Model& model;
  const Graph& g;
  const Op& op;
  int threads;

  const ValueSpec& in(size_t i) const { return g.values[static_cast<size_t>(op.inputs[i])]; }
  DType TypeOf(size_t i) const {
    const TensorRecord* r = model.Find(in(i).name).record;
    return r ? r->type : DType::f32;
  }
  int64_t Product(size_t weight, int64_t rows) const {
    const TensorRecord* r = model.Find(in(weight).name).record;
    return MatMulScratchBytes(TypeOf(weight), rows, in(weight).extent.cols + (r ? r->splits : 0), threads);
  }
  int64_t Softmax(const SoftmaxSpec& s, bool target) const {
    return SoftmaxScratchBytes(g, op, s, target, threads, [this](size_t i) { return TypeOf(i); });
  }

  int64_t operator()(const MatMulOp&) const { return Product(1, g.Capacity(in(0).extent.rows)); }
  int64_t operator()(const EmbedOp& e) const {
    if (!e.projected) return 0;
    const int64_t rows = g.Capacity(in(0).extent.rows);
    int64_t widest = 0, product = 0;
    for (size_t c = 0; c < static_cast<size_t>(e.clusters); ++c)
      widest = std::max(widest, in(1 + 2 * c).extent.cols), product = std::max(product, Product(2 + 2 * c, rows));
    Carve carve;
    carve.Take<int32_t>(rows), carve.Take<float>(rows * widest), carve.Take<float>(rows * in(2).extent.rows.scale);
    return carve.bytes() + product;
  }
  int64_t operator()(const AttendXlOp& a) const {
    return AttentionWorkspaceBytes(a.head_width, a.head_width, DType::f32) * threads;
  }
  int64_t operator()(const AttendCausalOp& a) const {
    return AttentionWorkspaceBytes(a.head_width, a.head_width, DType::f32) * threads;
  }
  int64_t operator()(const AddPositionsOp&) const { return in(1).extent.cols * 4 * threads; }
  int64_t operator()(const UpdateMemoryOp& o) const {
    return UpdateMemoryScratchBytes(o.memory, threads, [this](size_t i, int64_t rows) { return Product(i, rows); });
  }
  int64_t operator()(const AttendMemoryOp& o) const { return AttendMemoryScratchBytes(o.memory, threads); }
  int64_t operator()(const AddLookupOp&) const { return in(2).extent.cols * 4 * threads; }  // a row unpacked
  int64_t operator()(const LogSoftmaxOp& s) const { return Softmax(s, false); }
  int64_t operator()(const TargetLogProbOp& s) const { return Softmax(s, true); }
  int64_t operator()(const AttendPackedOp& a) const {
    const int64_t longest = std::min(a.longest, g.Capacity(in(0).extent.rows));
    return RoundUp(KvBytes(longest, a.head_width, a.head_width, DType::f32) +
                       AttentionWorkspaceBytes(a.head_width, a.head_width, DType::f32),
                   64) *
           threads;
  }
  int64_t operator()(const ClampedRmsNormOp& n) const { return ScratchBytes(n, in(0).extent.cols, threads); }
  int64_t operator()(const AttendChunkOp& a) const { return ScratchBytes(a, threads); }
  int64_t operator()(const AttendNeighborsOp& a) const {
    return ScratchBytes(a, g.states[static_cast<size_t>(op.state)], threads);
  }
  int64_t operator()(const FavorOp& f) const { return ScratchBytes(f, g.Capacity(in(0).extent.rows), threads); }
  int64_t operator()(const LocalWindowsOp& a) const { return ScratchBytes(a, threads); }
  int64_t operator()(const LocalAttentionOp& a) const { return LocalScratchBytes(a, g.Capacity(in(0).extent.rows) / a.batch, threads); }
  int64_t operator()(const LshAttentionOp& a) const { return LshOpScratchBytes(a, g.Capacity(in(0).extent.rows) / a.batch, threads); }
  int64_t operator()(const ChunkedFeedForwardOp&) const {
    const int64_t most = std::min(g.Capacity(in(0).extent.rows), ChunkedFeedForwardOp::kRows);
    Carve carve;
    carve.Take<float>(most * in(0).extent.cols), carve.Take<float>(most * in(4).extent.rows.scale);
    return carve.bytes() + std::max(Product(4, most), Product(6, most));
  }
  int64_t operator()(const AxialEmbedOp&) const { return RoundUp(in(1).extent.cols, 16) * 4 * threads; }
  int64_t operator()(const AttendCrossOp& a) const {
    return AttentionWorkspaceBytes(a.head_width, a.head_width, DType::f32) * threads;
  }
  int64_t operator()(const ExpertsOp& e) const {
    auto type = [&](size_t i) {
      const auto experts = model.Experts(in(i).name);
      return experts.empty() ? DType::f32 : experts[0].record->type;
    };
    return ExpertsScratchBytes(e, g.Capacity(in(0).extent.rows), in(0).extent.cols, type(2), type(3), threads);
  }
  template <typename Other>
  int64_t operator()(const Other&) const {  // the others need none
    return 0;
  }
};

int64_t OpaqueBytes(const Graph& g, int32_t value) {
  const Op& op = g.ops[static_cast<size_t>(g.values[static_cast<size_t>(value)].producer)];
  if (std::holds_alternative<PackFavorOp>(op.spec)) {
    const Extent& projection = g.values[static_cast<size_t>(op.inputs[0])].extent;
    return FavorProjectionBytes(g.Capacity(projection.rows), projection.cols);
  }
  if (const auto* tables = std::get_if<MemoryTablesOp>(&op.spec)) return MemoryTableBytes(tables->memory);
  const auto* pack = std::get_if<PackXlPositionsOp>(&op.spec);
  if (!pack) return 0;
  const int64_t distances = g.Capacity(g.values[static_cast<size_t>(op.inputs[0])].extent.rows);
  return pack->heads * DistancePanelsBytes(distances - 1, pack->head_width);
}

// Whether a row-major f32 value holds a NaN. Compares bit patterns, sixteen at a time, so that it costs little beside
// the op that wrote the value.
bool HasNan(const ValueSpec& spec, const Operand& o) {
  if (spec.opaque || spec.type != DType::f32 || o.data == nullptr) return false;
  constexpr int kLanes = 16;
  int32_t most[kLanes] = {};
  for (int64_t r = 0; r < o.rows; ++r) {
    const float* row = o.f32() + r * o.stride;
    int64_t c = 0;
    for (; c + kLanes <= o.cols; c += kLanes) {
      int32_t bits[kLanes];
      std::memcpy(bits, row + c, sizeof(bits));
      for (int i = 0; i < kLanes; ++i) most[i] = std::max(most[i], bits[i] & 0x7fffffff);
    }
    for (; c < o.cols; ++c)
      if (std::isnan(row[c])) return true;
  }
  return *std::max_element(most, most + kLanes) > 0x7f800000;
}

}  // namespace

PlanQueries QueriesFor(const Model& model, int threads) {
  return {[&model, threads](const Graph& g, const Op& op) {
            return std::visit(ScratchOf{model, g, op, threads}, op.spec);
          },
          OpaqueBytes,
          [](const StateSpec& s) {
            if (s.elements > 0) {
              auto bytes = CheckedMul(s.lanes, s.elements);
              return bytes && *bytes < (int64_t{1} << 60) ? *bytes * 4 : INT64_MAX;
            }
            auto heads = s.paged ? std::optional<int64_t>(s.heads) : CheckedMul(s.lanes, s.heads);
            auto positions = CheckedMul(s.lanes, s.slots + 16);
            if (s.paged && (!positions || *positions > (int64_t{1} << 32))) return INT64_MAX;
            // Bounded before the kernels' own arithmetic: 2^40 floats are refused by the planner anyway.
            if (!heads || s.slots > (int64_t{1} << 32) || *heads > (int64_t{1} << 32) || s.head_width > (1 << 20))
              return INT64_MAX;
            return CheckedMul(*heads, KvHeadBytes(s)).value_or(INT64_MAX);
          }};
}

Executor::Executor(const Model& model, Plan plan, uint8_t* arena, uint8_t* constants, int threads)
    : model_(model), plan_(std::move(plan)), arena_(arena), constants_(constants), threads_(threads) {
  Resolve(arena_, nullptr);
}

// Where every value lies and how its rows follow each other.
void Executor::Resolve(uint8_t* run_arena, uint8_t* constant_arena) {
  const Graph& g = plan_.graph;
  operands_.assign(g.values.size(), {});
  for (size_t v = 0; v < g.values.size(); ++v) {
    const ValueSpec& spec = g.values[v];
    const size_t root = static_cast<size_t>(g.Root(static_cast<int32_t>(v)));
    const ValueSpec& base = g.values[root];
    Operand& o = operands_[v];
    o.rows = g.Capacity(spec.extent.rows);
    o.cols = spec.extent.cols;
    o.stride = base.extent.cols;
    if (base.kind == ValueKind::kWeight) {
      o.weight = model_.Find(base.name);
      o.experts = model_.Experts(base.name);
      o.data = const_cast<uint8_t*>(static_cast<const uint8_t*>(o.weight.data));  // ops never write a weight
    } else if (plan_.kept[v]) {
      o.data = constants_ + plan_.offset[v];
    } else if (plan_.offset[v] >= 0) {
      uint8_t* arena = base.kind == ValueKind::kConstant ? constant_arena : run_arena;
      if (arena) o.data = arena + plan_.offset[v];
    }
    // Columns of a view of a view add up.
    int64_t column = 0;
    for (int32_t at = static_cast<int32_t>(v); g.values[static_cast<size_t>(at)].parent >= 0;
         at = g.values[static_cast<size_t>(at)].parent)
      column += g.values[static_cast<size_t>(at)].column;
    if (o.data) o.data += column * DTypeBytes(base.type);
  }
}

Status Executor::ComputeConstants(uint8_t* temporary, Gang* gang) {
  Resolve(arena_, temporary);
  RunContext context;
  context.gang = gang, context.model = &model_;
  Status status;
  gang->Run([&] { status = RunPhase(plan_.constants, temporary, context); });
  return status;
}

Status Executor::Run(const RunContext& context, std::span<const void* const> inputs) {
  const Graph& g = plan_.graph;
  for (size_t i = 0; i < g.inputs.size() && i < inputs.size(); ++i)
    operands_[static_cast<size_t>(g.inputs[i].value)].data =
        const_cast<uint8_t*>(static_cast<const uint8_t*>(inputs[i]));
  for (size_t v = 0; v < g.values.size(); ++v) {
    const Dim& rows = g.values[v].extent.rows;
    if (!rows.constant()) operands_[v].rows = rows.scale * context.lengths[static_cast<size_t>(rows.length)];
  }
  TERN_RETURN_IF_ERROR(RunPhase(plan_.run, arena_, context));
  for (const auto& out : g.outputs)
    if (HasNan(g.values[static_cast<size_t>(out.value)], operands_[static_cast<size_t>(out.value)]))
      return FindNan(context);
  return {};
}

// The op where a NaN began: the ops once more, one by one. Whatever went into the state is lost anyway.
Status Executor::FindNan(const RunContext& context) {
  Status found = Status(Code::kNumeric, "the model computes values that are not numbers").Hint("Check the weights with tern verify");
  for (int32_t i : plan_.run.ops) {
    TERN_RETURN_IF_ERROR(RunOp(i, arena_, context));
    const Op& op = plan_.graph.ops[static_cast<size_t>(i)];
    if (op.output >= 0 && HasNan(plan_.graph.values[static_cast<size_t>(op.output)], operands_[static_cast<size_t>(op.output)]))
      return std::move(found).Where(Str("first in the op ", op.name));
  }
  return found;
}

Status Executor::RunOp(int32_t i, uint8_t* arena, const RunContext& context) {
  if (context.cancel && context.cancel->cancelled()) return {Code::kCancelled, "cancelled"};
  const Op& op = plan_.graph.ops[static_cast<size_t>(i)];
  const int64_t workspace = plan_.workspace_offset[static_cast<size_t>(i)];
  const OpCall call{plan_, op, operands_, workspace >= 0 ? arena + workspace : nullptr, context, threads_};
  if (context.observer) context.observer->Before(call);
  std::visit([&](const auto& spec) { Execute(spec, call); }, op.spec);
  return {};
}

Status Executor::RunPhase(const Phase& phase, uint8_t* arena, const RunContext& context) {
  for (int32_t i : phase.ops) TERN_RETURN_IF_ERROR(RunOp(i, arena, context));
  if (context.cancel && context.cancel->cancelled())
    return {Code::kCancelled, "cancelled"};  // the last op may have been cut short
  return {};
}

const Operand& Executor::output(std::string_view name) const {
  static const Operand none;
  for (const auto& out : plan_.graph.outputs)
    if (out.name == name) return operands_[static_cast<size_t>(out.value)];
  return none;
}

}  // namespace tern

#include "engine/plan/plan.h"

#include <algorithm>

#include "engine/base/checked.h"
#include "engine/plan/layout.h"

namespace tern {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 46;  // larger sums are refused: no machine has them, and arithmetic stays exact

size_t At(int32_t i) { return static_cast<size_t>(i); }

// Inputs whose storage the op may overwrite with its output, best first: element- and row-wise ops read a place before they write it.
std::vector<int32_t> InPlaceInputs(const Op& op) {
  if (std::holds_alternative<AddOp>(op.spec)) return {op.inputs[0], op.inputs[1]};
  if (std::holds_alternative<MulOp>(op.spec)) return {op.inputs[0], op.inputs[1]};
  if (std::holds_alternative<NormalizeOp>(op.spec) || std::holds_alternative<AddPositionsOp>(op.spec) || std::holds_alternative<GainOp>(op.spec) || std::holds_alternative<AddLookupOp>(op.spec) ||
      std::holds_alternative<RmsNormOp>(op.spec) || std::holds_alternative<ScaleOp>(op.spec))
    return {op.inputs[0]};
  if (auto* windows = std::get_if<LocalWindowsOp>(&op.spec)) return windows->based ? std::vector<int32_t>{op.inputs.back()} : std::vector<int32_t>{};
  // A local query is read once, before its output is written.
  if (std::holds_alternative<LocalAttentionOp>(op.spec)) return {op.inputs[0]};
  if (std::holds_alternative<ChunkedFeedForwardOp>(op.spec)) return {op.inputs[1]};
  if (auto* norm = std::get_if<LayerNormOp>(&op.spec)) return norm->residual ? std::vector<int32_t>{op.inputs[0], op.inputs[1]} : std::vector<int32_t>{op.inputs[0]};
  return {};
}

class Planner {
 public:
  Planner(Graph graph, const PlanQueries& queries) : q_(queries) { plan_.graph = std::move(graph); }

  Result<Plan> Make() {
    Graph& g = plan_.graph;
    plan_.offset.assign(g.values.size(), -1);
    plan_.kept.assign(g.values.size(), 0);
    plan_.workspace_offset.assign(g.ops.size(), -1);
    DropUnused();
    MarkKept();
    for (int32_t v = 0; v < static_cast<int32_t>(g.values.size()); ++v) g.values[At(v)].bytes = ValueBytes(g, v, q_);
    TERN_RETURN_IF_ERROR(PlacePhase(&plan_.constants));
    TERN_RETURN_IF_ERROR(PlacePhase(&plan_.run));
    PlaceKept();
    TERN_RETURN_IF_ERROR(PlaceStates());
    // Views lie where their root lies.
    for (int32_t v = 0; v < static_cast<int32_t>(g.values.size()); ++v) {
      int32_t root = g.Root(v);
      if (root != v) plan_.offset[At(v)] = plan_.offset[At(root)], plan_.kept[At(v)] = plan_.kept[At(root)];
    }
    return std::move(plan_);
  }

 private:
  // Ops in two lists; an op whose output nobody reads and that changes no state is left out.
  void DropUnused() {
    const Graph& g = plan_.graph;
    std::vector<uint8_t> needed(g.values.size());
    for (const auto& out : g.outputs) needed[At(g.Root(out.value))] = 1;
    for (const StateSpec& s : g.states)
      if (s.initial_row >= 0) needed[At(g.Root(s.initial_row))] = 1;
    for (size_t i = g.ops.size(); i-- > 0;) {
      const Op& op = g.ops[i];
      if (op.output >= 0 && !needed[At(op.output)]) continue;
      for (int32_t in : op.inputs) needed[At(g.Root(in))] = 1;
      (op.constant ? plan_.constants : plan_.run).ops.push_back(static_cast<int32_t>(i));
    }
    std::reverse(plan_.constants.ops.begin(), plan_.constants.ops.end());
    std::reverse(plan_.run.ops.begin(), plan_.run.ops.end());
  }

  // Constants that outlive their phase: those the run phase, an output or a state's first row reads.
  void MarkKept() {
    const Graph& g = plan_.graph;
    auto keep = [&](int32_t v) {
      int32_t root = g.Root(v);
      if (g.values[At(root)].kind == ValueKind::kConstant) plan_.kept[At(root)] = 1;
    };
    for (int32_t i : plan_.run.ops)
      for (int32_t in : g.ops[At(i)].inputs) keep(in);
    for (const auto& out : g.outputs) keep(out.value);
    for (const StateSpec& s : g.states)
      if (s.initial_row >= 0) keep(s.initial_row);
  }

  Status PlacePhase(Phase* phase) {
    const Graph& g = plan_.graph;
    const int32_t steps = static_cast<int32_t>(phase->ops.size());
    std::vector<int32_t> storage(g.values.size(), -1);  // per root value: index into items
    std::vector<int32_t> last_use(g.values.size(), -1);
    for (int32_t s = 0; s < steps; ++s)
      for (int32_t in : g.ops[At(phase->ops[At(s)])].inputs) last_use[At(g.Root(in))] = s;
    for (const auto& out : g.outputs) last_use[At(g.Root(out.value))] = steps;  // outputs stay until the next call

    std::vector<Placement> items;
    std::vector<int32_t> workspace_item(At(steps), -1);
    for (int32_t s = 0; s < steps; ++s) {
      const Op& op = g.ops[At(phase->ops[At(s)])];
      if (op.output >= 0 && !plan_.kept[At(op.output)]) {
        int32_t item = -1;
        for (int32_t in : InPlaceInputs(op)) {
          bool dies = g.values[At(in)].parent < 0 && storage[At(in)] >= 0 && last_use[At(in)] == s && items[At(storage[At(in)])].last == s;
          if (dies && g.values[At(in)].bytes == g.values[At(op.output)].bytes && item < 0) item = storage[At(in)];
        }
        if (item < 0) {
          item = static_cast<int32_t>(items.size());
          items.push_back({op.output, phase->ops[At(s)], 0, g.values[At(op.output)].bytes, s, s});
        }
        storage[At(op.output)] = item;
        items[At(item)].last = std::max({items[At(item)].last, s, last_use[At(op.output)]});
      }
      if (int64_t bytes = q_.workspace_bytes(g, op); bytes > 0) {
        workspace_item[At(s)] = static_cast<int32_t>(items.size());
        items.push_back({-1, phase->ops[At(s)], 0, bytes, s, s});
      }
    }
    int64_t sum = 0;
    for (const Placement& p : items)
      if (p.bytes < 0 || p.bytes > kMostBytes || (sum += p.bytes) > kMostBytes) return MemoryError("the plan needs more memory than any machine has");
    phase->arena_bytes = LayOut(&items);
    phase->bound_bytes = LiveBound(items, steps, &phase->peak_op);
    for (size_t v = 0; v < g.values.size(); ++v)
      if (storage[v] >= 0) plan_.offset[v] = items[At(storage[v])].offset;
    for (int32_t s = 0; s < steps; ++s)
      if (workspace_item[At(s)] >= 0) plan_.workspace_offset[At(phase->ops[At(s)])] = items[At(workspace_item[At(s)])].offset;
    phase->placements = std::move(items);
    return {};
  }

  void PlaceKept() {
    const Graph& g = plan_.graph;
    for (size_t v = 0; v < g.values.size(); ++v) {
      if (!plan_.kept[v] || g.values[v].parent >= 0) continue;
      plan_.offset[v] = plan_.constants_bytes;
      plan_.constants_bytes += RoundUp(g.values[v].bytes, 64);
      plan_.constants_key += Str(g.values[v].name, "=", g.Capacity(g.values[v].extent.rows), ";");
    }
  }

  Status PlaceStates() {
    for (const StateSpec& s : plan_.graph.states) {
      int64_t bytes = q_.state_bytes(s);
      if (bytes < 0 || bytes > kMostBytes || plan_.state_bytes > kMostBytes) return MemoryError(Str("the state ", s.name, " needs more memory than any machine has"));
      plan_.state_offset.push_back(plan_.state_bytes);
      plan_.state_bytes += RoundUp(bytes, 4096);
    }
    return {};
  }

  const PlanQueries& q_;
  Plan plan_;
};

}  // namespace

int64_t ValueBytes(const Graph& g, int32_t value, const PlanQueries& queries) {
  const ValueSpec& v = g.values[At(value)];
  if (v.opaque) return queries.opaque_bytes(g, value);
  auto elements = CheckedMul(g.Capacity(v.extent.rows), v.extent.cols);
  if (!elements || *elements > kMostBytes) return kMostBytes + 1;
  return *elements * DTypeBytes(v.type);
}

Result<Plan> MakePlan(Graph graph, const PlanQueries& queries) { return Planner(std::move(graph), queries).Make(); }

Status CheckPlan(const Plan& plan) {
  for (const Phase* phase : {&plan.constants, &plan.run}) {
    const auto& all = phase->placements;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].offset < 0 || all[i].offset % 64 != 0 || all[i].offset + all[i].bytes > phase->arena_bytes)
        return InternalError(Str("range ", i, " lies outside of the arena"));
      for (size_t j = 0; j < i; ++j) {
        bool live = all[i].first <= all[j].last && all[j].first <= all[i].last;
        bool overlap = all[i].offset < all[j].offset + all[j].bytes && all[j].offset < all[i].offset + all[i].bytes;
        if (live && overlap) return InternalError(Str("ranges ", j, " and ", i, " are live together and overlap"));
      }
    }
  }
  return {};
}

}  // namespace tern

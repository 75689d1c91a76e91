// Plan: where every buffer of a graph lies, decided once per (entry, batch, capacity) and kept. Nothing is allocated while it runs.
//
// Ops whose inputs are weights alone are computed once, in a phase of their own (Phase::kConstants), into the constants region; everything else runs on every
// call in one arena. Offsets come from the live ranges (greedy by size and by breadth, the smaller wins: Pisarchyk & Lee 2020), 64-byte aligned; an op
// whose input dies with it may write in place. Lengths known only at run time (new tokens, routed rows) are planned at capacity.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "engine/graph/graph.h"

namespace tern {

// What only kernels know. Both take capacities.
struct PlanQueries {
  std::function<int64_t(const Graph&, const Op&)> workspace_bytes;            // scratch of one op, for all its workers
  std::function<int64_t(const Graph&, int32_t value)> opaque_bytes;           // size of a value whose layout is the kernels' own
  std::function<int64_t(const StateSpec&)> state_bytes;
};

// One range of an arena. `value` or, for scratch, -1 with `op`.
struct Placement {
  int32_t value = -1, op = -1;
  int64_t offset = 0, bytes = 0;
  int32_t first = 0, last = 0;  // op indices (of the phase's list) during which it is live
};

struct Phase {
  std::vector<int32_t> ops;          // indices into Graph::ops, in order
  std::vector<Placement> placements;
  int64_t arena_bytes = 0;
  int64_t bound_bytes = 0;           // the most bytes live at one op: no layout can be smaller
  int32_t peak_op = -1;              // where that is, an index into ops
};

struct Plan {
  Graph graph;
  Phase constants, run;
  // Per value: offset in the arena of its phase, or in the constants region (kept constants); -1 for weights and inputs. Views are resolved.
  std::vector<int64_t> offset;
  std::vector<uint8_t> kept;              // per value: a constant that the run phase reads
  std::vector<int64_t> workspace_offset;  // per op; -1: none
  int64_t constants_bytes = 0;
  std::vector<int64_t> state_offset;      // per state, in the session's state region
  int64_t state_bytes = 0;
  std::string constants_key;              // equal keys: equal constants, which sessions and plans of one model share
};

Result<Plan> MakePlan(Graph graph, const PlanQueries& queries);

// kInternal if two ranges that are live at once overlap, or lie outside the arena: for tests and `tern plan --check`.
Status CheckPlan(const Plan& plan);

int64_t ValueBytes(const Graph& graph, int32_t value, const PlanQueries& queries);

// The map, for people: {arena_bytes, bound_bytes, buffers: [{name, op, offset, bytes, first, last}]}.
Json PlanToJson(const Plan& plan);
// A picture of op (x) against offset (y), self-contained.
std::string PlanToSvg(const Plan& plan);

}  // namespace tern

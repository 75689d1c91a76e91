// Execution of a plan: op after op, each splitting its rows, panels or heads with the gang. The only place where graph and kernels meet.
//
// execute_linear.cc, execute_attention.cc, execute_cross.cc, execute_experts.cc and execute_softmax.cc hold one function per op; execute.cc resolves operands and calls them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/parallel.h"
#include "engine/plan/plan.h"
#include "engine/runtime/model.h"

namespace tern {

// A value at run time: `rows` x `cols` with `stride` elements between rows. Weights in panels have no stride; they are read through `weight`.
struct Operand {
  uint8_t* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;
  BoundWeight weight;
  std::span<const BoundWeight> experts;  // of a weight that is one matrix per expert

  float* f32() const { return reinterpret_cast<float*>(data); }
  const int32_t* i32() const { return reinterpret_cast<const int32_t*>(data); }
};

// Sees every op just before it runs, with its operands: for analyses (tern bench attention --spectrum).
struct OpCall;
class OpObserver {
 public:
  virtual ~OpObserver() = default;
  virtual void Before(const OpCall& call) = 0;
};

// What one run is about; the same for all its ops.
struct RunContext {
  Gang* gang = nullptr;
  const Model* model = nullptr;
  const CancelToken* cancel = nullptr;
  OpObserver* observer = nullptr;
  uint8_t* states = nullptr;     // the session's state region
  std::array<int64_t, 4> lengths{};  // run-time values of Graph::lengths; a decoder's first is T, new tokens per lane
  int64_t position = 0;          // a decoder's: absolute position of the first new token (initial memory rows count)
  int64_t segment_begin = 0;     // absolute position where the present segment began; without segments, `position`
  int64_t segment_previous = 0;  // positions of the segment before it
  int64_t segment_index = 0;     // segments before it
  const int32_t* sticky_bins = nullptr;  // draws to be replayed [updates, layers, batch, samples], or null

  const int32_t* pages = nullptr;  // of paged states: [lanes, pages_per_lane], see kv_pages.h
  int64_t pages_per_lane = 0;

  int64_t tokens() const { return lengths[0]; }
};

class Executor {
 public:
  // The plan's buffers are laid into `arena` (at least run.arena_bytes) and `constants` (constants_bytes), both 64-byte aligned.
  Executor(const Model& model, Plan plan, uint8_t* arena, uint8_t* constants, int threads);

  const Plan& plan() const { return plan_; }
  // Computes the constants region; needs a temporary arena of constants.arena_bytes.
  Status ComputeConstants(uint8_t* temporary, Gang* gang);
  // inputs[i] is the caller's memory for Graph::inputs[i]. kCancelled between two ops; kNumeric, naming the op, if an output holds a NaN. Allocates
  // nothing. Call within gang.Run.
  Status Run(const RunContext& context, std::span<const void* const> inputs);
  // An output of the last run; valid until the next.
  const Operand& output(std::string_view name) const;

 private:
  Status RunPhase(const Phase& phase, uint8_t* arena, const RunContext& context);
  Status RunOp(int32_t op, uint8_t* arena, const RunContext& context);
  Status FindNan(const RunContext& context);
  void Resolve(uint8_t* run_arena, uint8_t* constant_arena);

  const Model& model_;
  Plan plan_;
  uint8_t *arena_, *constants_;
  int threads_;
  std::vector<Operand> operands_;   // per value
};

// One op about to run.
struct OpCall {
  const Plan& plan;
  const Op& op;
  const std::vector<Operand>& operands;
  uint8_t* workspace;
  const RunContext& run;
  int threads;

  const Operand& in(size_t i) const { return operands[static_cast<size_t>(op.inputs[i])]; }
  const Operand& out() const { return operands[static_cast<size_t>(op.output)]; }
  const KernelTable& kernels() const { return run.model->kernels(); }
  const StateSpec& state() const { return plan.graph.states[static_cast<size_t>(op.state)]; }
  uint8_t* state_data() const { return run.states + plan.state_offset[static_cast<size_t>(op.state)]; }
  float* scratch() const { return reinterpret_cast<float*>(workspace); }
};

// The kernels' answers to the planner, for sessions with this many threads.
PlanQueries QueriesFor(const Model& model, int threads);

// Scratch of a softmax op at capacity; `type_of` tells how a weight input is stored.
int64_t SoftmaxScratchBytes(const Graph& g, const Op& op, const SoftmaxSpec& spec, bool target, int threads, const std::function<DType(size_t input)>& type_of);

// Bytes of one head of one lane in a ring state; of one head of all lanes in a paged one.
int64_t KvHeadBytes(const StateSpec& s);
// `run` names the pages of paged states; null for rings.
KvPanels KvHead(const StateSpec& s, uint8_t* state, int64_t lane, int64_t head, const RunContext* run = nullptr);
// Copies one page of a paged state, all heads.
void CopyKvPage(const StateSpec& s, uint8_t* state, int32_t from, int32_t to);
// Writes what a state starts with: a ring's initial rows, each `initial_row` ([2 * H * Dh] keys then values, or null for zeros); zeros into a plain array.
void ResetState(const StateSpec& s, uint8_t* state, const float* initial_row);

// Scratch of a memory's update and of reading it; `product` tells what a product with a weight input takes.
int64_t UpdateMemoryScratchBytes(const LongTermMemory& m, int threads, const std::function<int64_t(size_t input, int64_t rows)>& product);
int64_t AttendMemoryScratchBytes(const LongTermMemory& m, int threads);
int64_t MemoryTableBytes(const LongTermMemory& m);

// One per op (overloads); and their scratch.
void Execute(const EmbedOp& op, const OpCall& call);
void Execute(const MatMulOp& op, const OpCall& call);
void Execute(const LayerNormOp& op, const OpCall& call);
void Execute(const AddOp& op, const OpCall& call);
void Execute(const LastRowsOp& op, const OpCall& call);
void Execute(const AppendKvOp& op, const OpCall& call);
void Execute(const AttendXlOp& op, const OpCall& call);
void Execute(const SinusoidOp& op, const OpCall& call);
void Execute(const PackXlPositionsOp& op, const OpCall& call);
void Execute(const LogSoftmaxOp& op, const OpCall& call);
void Execute(const TargetLogProbOp& op, const OpCall& call);
void Execute(const AddPositionsOp& op, const OpCall& call);
void Execute(const AttendCausalOp& op, const OpCall& call);
void Execute(const AddLookupOp& op, const OpCall& call);
void Execute(const MemoryTablesOp& op, const OpCall& call);
void Execute(const UpdateMemoryOp& op, const OpCall& call);
void Execute(const RememberRowsOp& op, const OpCall& call);
void Execute(const AttendMemoryOp& op, const OpCall& call);
void Execute(const AttendPackedOp& op, const OpCall& call);
void Execute(const TakeRowsOp& op, const OpCall& call);
void Execute(const MeanRowsOp& op, const OpCall& call);
void Execute(const NormalizeOp& op, const OpCall& call);
void Execute(const MulOp& op, const OpCall& call);
// execute_retro.cc
void Execute(const ClampedRmsNormOp& op, const OpCall& call);
void Execute(const ResidualOp& op, const OpCall& call);
void Execute(const OnePlusOp& op, const OpCall& call);
void Execute(const RotaryTableOp& op, const OpCall& call);
void Execute(const RotaryOp& op, const OpCall& call);
void Execute(const KeepChunkOp& op, const OpCall& call);
void Execute(const AttendChunkOp& op, const OpCall& call);
void Execute(const AttendNeighborsOp& op, const OpCall& call);
int64_t ScratchBytes(const ClampedRmsNormOp& op, int64_t cols, int threads);
int64_t ScratchBytes(const AttendChunkOp& op, int threads);
int64_t ScratchBytes(const AttendNeighborsOp& op, const StateSpec& state, int threads);
// execute_performer.cc
void Execute(const PositionsOp& op, const OpCall& call);
void Execute(const GluOp& op, const OpCall& call);
void Execute(const GainOp& op, const OpCall& call);
void Execute(const ShiftTokensOp& op, const OpCall& call);
void Execute(const RotaryPairsOp& op, const OpCall& call);
void Execute(const PackFavorOp& op, const OpCall& call);
void Execute(const FavorOp& op, const OpCall& call);
void Execute(const LocalWindowsOp& op, const OpCall& call);
int64_t ScratchBytes(const FavorOp& op, int64_t rows, int threads);
int64_t ScratchBytes(const LocalWindowsOp& op, int threads);
// execute_reformer.cc
void Execute(const AxialEmbedOp& op, const OpCall& call);
void Execute(const LocalAttentionOp& op, const OpCall& call);
void Execute(const DrawRotationsOp& op, const OpCall& call);
void Execute(const LshAttentionOp& op, const OpCall& call);
void Execute(const ChunkedFeedForwardOp& op, const OpCall& call);
void Execute(const CutRowsOp& op, const OpCall& call);

PackedMatrix Packed(const BoundWeight& w);
// Row `id` of a table, in either layout, as f32.
void LookUpRow(const KernelTable& kernels, const BoundWeight& table, int64_t id, float* out);

// Scratch of Reformer's ops for padded sequences of `length` and `rows` rows.
int64_t LocalScratchBytes(const LocalAttentionOp& op, int64_t length, int threads);
int64_t LshOpScratchBytes(const LshSpec& spec, int64_t length, int threads);
void Execute(const RmsNormOp& op, const OpCall& call);
void Execute(const ScaleOp& op, const OpCall& call);
void Execute(const StoreKvOp& op, const OpCall& call);
void Execute(const AttendCrossOp& op, const OpCall& call);
void Execute(const RelativeBiasOp& op, const OpCall& call);
void Execute(const ExpertsOp& op, const OpCall& call);
// Scratch of the experts at `rows` rows of width `width`; the types of their two matrices.
int64_t ExpertsScratchBytes(const ExpertsOp& op, int64_t rows, int64_t width, DType wi, DType wo, int threads);

// y[rows, N] = act(x W^T + bias), split over the gang by panels (and rows where panels are few). Bits do not depend on the split.
// scratch: MatMulScratchBytes of at least these rows.
void ParallelMatMul(const OpCall& call, const float* x, int64_t x_stride, int64_t rows, const PackedMatrix& w, const float* bias, Activation activation, float* y,
                    int64_t y_stride, uint8_t* scratch, bool accumulate = false);
inline void ParallelMatMul(const OpCall& call, const float* x, int64_t x_stride, int64_t rows, const BoundWeight& w, const float* bias, Activation activation,
                           float* y, int64_t y_stride, uint8_t* scratch) {
  ParallelMatMul(call, x, x_stride, rows, Packed(w), bias, activation, y, y_stride, scratch);
}
// k: columns as they are stored, split ones of i8 included.
int64_t MatMulScratchBytes(DType type, int64_t rows, int64_t k, int threads);

}  // namespace tern

// Builder: what an architecture talks to. Each method adds one op and returns its value; a mistake in shapes is remembered (status()), never thrown.
//
// Weights are declared where they are used, by a name within the current scopes: `layers.3.attention.qkv`. Asking twice for one name is sharing.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/base/status.h"
#include "engine/graph/graph.h"

namespace tern {

struct Value {
  int32_t id = -1;
  bool valid() const { return id >= 0; }
};

class Builder {
 public:
  // Names declared while a Scope lives carry its prefix: Scope s(b, "layers", 3) -> "layers.3."
  class Scope {
   public:
    Scope(Builder& b, std::string_view name) : b_(b), size_(b.prefix_.size()) { b.prefix_ += std::string(name) + "."; }
    Scope(Builder& b, std::string_view name, int64_t i) : Scope(b, std::string(name) + "." + std::to_string(i)) {}
    ~Scope() { b_.prefix_.resize(size_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Builder& b_;
    size_t size_;
  };

  Dim AddLength(std::string_view name, int64_t capacity);
  Value Input(std::string_view name, DType type, Dim rows, int64_t cols, bool optional = false);
  void Output(std::string_view name, Value value);

  Value Vector(std::string_view name, int64_t n) { return Weight(name, Shape{n}, Role::kVector); }
  Value Vector(std::string_view name, int64_t rows, int64_t n) { return Weight(name, Shape{rows, n}, Role::kVector); }
  Value Matrix(std::string_view name, int64_t out, int64_t in) { return Weight(name, Shape{out, in}, Role::kMatrix); }
  // A matrix whose numbers decide rather than weigh: always f32.
  Value Router(std::string_view name, int64_t out, int64_t in) { return Weight(name, Shape{out, in}, Role::kRouter); }
  Value ExpertMatrices(std::string_view name, int64_t experts, int64_t out, int64_t in) { return Weight(name, Shape{experts, out, in}, Role::kExperts); }
  Value Table(std::string_view name, int64_t entries, int64_t width) { return Weight(name, Shape{entries, width}, Role::kTable); }

  // A vector outside of all scopes: one for the whole model.
  Value Shared(std::string_view name, int64_t rows, int64_t n);
  Value SharedTable(std::string_view name, int64_t entries, int64_t width);

  // A ring of keys and values, or a plain array; see StateSpec. Returns its number.
  int32_t State(std::string_view name, StateSpec spec);

  struct Cluster {
    Value weight, bias, projection;  // bias and projection may be absent (in all clusters)
  };
  Value Embed(Value ids, const std::vector<Cluster>& clusters, int64_t width, float scale);
  Value MatMul(Value x, Value w, Value bias = {}, Activation activation = Activation::kNone);
  Value LayerNorm(Value x, Value residual, Value gamma, Value beta, float epsilon);
  Value Add(Value a, Value b);
  Value LastRows(Value x, int64_t batch);
  Value Columns(Value x, int64_t first, int64_t count);  // a view, costs nothing
  void AppendKv(int32_t state, Value k, Value v);
  Value AttendXl(int32_t state, Value q, Value u, Value v, Value positions, const AttendXlOp& attributes);
  Value AddPositions(Value x, Value table);
  Value AddLookup(Value x, Value ids, Value table);
  // The tables' parts: of an imported memory, else absent.
  Value MemoryTables(const LongTermMemory& memory, Value fit, Value update, Value samples, Value centers, Value widths);
  struct MemoryWeights {
    Value key, value, mu, sigma, mask_weight, mask_bias;  // those that the memory's kind has
  };
  void UpdateMemory(int32_t state, const LongTermMemory& memory, Value tables, const MemoryWeights& weights);
  void RememberRows(int32_t state, const LongTermMemory& memory, Value x);
  Value AttendMemory(int32_t state, const LongTermMemory& memory, Value q, Value tables);
  // `bias` (of both): RelativeBiasLines, if attributes.bias is on.
  Value AttendCausal(int32_t state, Value q, const AttendCausalOp& attributes, Value bias = {});
  // key_bias may be absent.
  Value AttendPacked(Value q, Value k, Value v, Value starts, Value key_bias, const AttendPackedOp& attributes, Value bias = {});
  void StoreKv(int32_t state, Value k, Value v, Value starts);
  Value AttendCross(int32_t state, Value q, Value lane_starts, Value source_lengths, const AttendCrossOp& attributes);
  Value RelativeBiasLines(Value table, const RelativeBiasOp& attributes);
  // starts may be absent. wi, wo: Experts weights.
  Value Experts(Value x, Value logits, Value wi, Value wo, Value starts, ExpertsOp attributes);
  Value RmsNorm(Value x, Value gamma, float epsilon);
  Value Scale(Value x, float factor);
  Value TakeRows(Value x, Value rows);
  Value MeanRows(Value x, Value starts, Dim sequences);
  Value Normalize(Value x, float epsilon = 1e-12f);
  Value Mul(Value a, Value b);
  Value Sinusoid(Value inv_freq, int64_t distances);
  Value PackXlPositions(Value rk, int64_t heads, int64_t head_width);
  Value LogSoftmax(Value h, const std::vector<Cluster>& clusters, Value cluster_weight, Value cluster_bias, bool reversed);
  Value TargetLogProb(Value h, const std::vector<Cluster>& clusters, Value cluster_weight, Value cluster_bias, bool reversed, Value targets);

  // RETRO (builder_retro.cc). `gate`, `active`, `null_k` and `null_v` may be absent; `rows` are those of the completed chunks.
  Value ClampedRmsNorm(Value x, Value gamma, Value gate);
  Value Residual(Value x, Value y, Value active, float scale);
  Value OnePlus(Value w);
  Value RotaryTable(Value positions, Value inv_freq);
  Value Rotary(Value x, Value table, int64_t heads, int64_t head_width);
  Value KeepChunk(int32_t state, Value x, Value chunks, Dim rows, const KeepChunkOp& attributes);
  Value AttendChunk(Value q, Value k, Value v, Value starts, const AttendChunkOp& attributes);
  Value AttendNeighbors(int32_t state, Value q, Value k, Value v, Value starts, Value chunks, Value null_k, Value null_v,
                        AttendNeighborsOp attributes);

  // Performer (builder_performer.cc). Masks, bases and, where not causal, states may be absent.
  Value Positions(Value ids, const PositionsOp& attributes);
  Value Glu(Value x, Activation activation);
  Value Gain(Value x, Value g);
  Value ShiftTokens(Value x, Value mask, ShiftTokensOp attributes, int32_t state = -1);
  Value RotaryPairs(Value x, Value angles, const RotaryPairsOp& attributes);
  Value PackFavor(Value projection);
  Value Favor(Value q, Value k, Value v, Value projection, Value mask, int64_t width, FavorOp attributes, int32_t state = -1);
  Value LocalWindows(Value q, Value k, Value v, Value table, Value mask, Value base, int64_t width, LocalWindowsOp attributes, int32_t state = -1);

  // Reformer; `mask` and `given` are inputs that may be bound to nothing. State numbers: -1 without.
  Value AxialEmbed(Value ids, Value words, const std::vector<Value>& positions, Dim padded_rows, const AxialEmbedOp& attributes);
  Value LocalAttention(Value q, Value k, Value v, Value mask, const LocalAttentionOp& attributes, int32_t state = -1);
  Value DrawRotations(const LshSpec& spec, int64_t directions, Value per_call, int32_t state = -1);
  Value LshAttention(Value qk, Value v, Value mask, Value rotations, Value given, const LshSpec& spec, int32_t state = -1);
  Value ChunkedFeedForward(Value x, Value residual, Value gamma, Value beta, Value w1, Value b1, Value w2, Value b2, const ChunkedFeedForwardOp& attributes);
  Value CutRows(Value x, Value y, Dim rows, const CutRowsOp& attributes);

  const Graph& graph() const { return graph_; }
  Graph TakeGraph() && { return std::move(graph_); }
  // The first mistake, kInternal: an architecture that passes its own config checks never makes one.
  const Status& status() const { return status_; }
  Extent extent(Value v) const { return v.valid() ? graph_.values[static_cast<size_t>(v.id)].extent : Extent{}; }

 private:
  friend class Scope;
  Value Weight(std::string_view name, Shape shape, Role role);
  Value AddOp_(OpSpec spec, std::vector<Value> inputs, Extent extent, int32_t state = -1, bool opaque = false);
  std::vector<Value> SoftmaxInputs(Value h, const std::vector<Cluster>& clusters, Value cluster_weight, Value cluster_bias, SoftmaxSpec* spec, int64_t* vocabulary);
  void Use(Value v, bool multiplied, bool int8 = false);  // int8: the op has a form for weights of eight bits
  void CheckBias(Value lines, int64_t heads, const RelativeBias& bias);
  bool Check(bool condition, std::string_view op, std::string_view what);

  Graph graph_;
  std::string prefix_;
  std::unordered_map<std::string, int32_t> weight_values_;
  Status status_;
};

}  // namespace tern

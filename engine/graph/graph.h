// Graph: what a model computes, as flat arrays. Knows no kernel and no file.
//
// A Graph is built by a Builder (builder.h) for one entry of an architecture with fixed capacities: every dimension is a constant, or a constant times a
// run-time length (new tokens T, packed rows R ...) that may be anything up to its capacity. Ops stand in execution order; state is changed by the ops
// that name it, in that order. Plain data, no thread-safety needed once built.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/shape.h"
#include "engine/graph/ops.h"

namespace tern {

// `scale`, or `scale` x run-time length number `length`.
struct Dim {
  int64_t scale = 1;
  int8_t length = -1;

  Dim() = default;
  Dim(int64_t constant) : scale(constant) {}  // NOLINT: a number is a dimension
  Dim(int64_t scale_, int8_t length_) : scale(scale_), length(length_) {}
  bool constant() const { return length < 0; }
  friend bool operator==(const Dim&, const Dim&) = default;
  friend Dim operator*(Dim d, int64_t by) { return {d.scale * by, d.length}; }
};

// Activations are matrices: rows x cols. Rows carry batch and time (B*T), columns the features.
struct Extent {
  Dim rows;
  int64_t cols = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};

struct Length {
  std::string name;
  int64_t capacity = 0;
};

// What a weight is; packing and quantisation follow from it.
enum class Role : uint8_t {
  kVector,   // norms, biases: f32, as it is
  kMatrix,   // [out, in], multiplied: panels
  kTable,    // [entries, width], rows looked up
  kExperts,  // [E, out, in], one expert is one range
  kRouter,   // [out, in], multiplied, never of another type than f32
};
std::string_view RoleName(Role role);

struct WeightSpec {
  std::string name;
  Shape shape;
  Role role;      // what the first asker said
  bool multiplied = false, looked_up = false;  // a tied table is both
  bool no_int8 = false;                        // an op reads it that has no int8 form
};

// How a state changes with new tokens (design: reset, fork, save and restore work alike on all of them).
enum class StateRule : uint8_t { kAppend, kKeepLast, kRefit, kAccumulate, kReplace };
std::string_view StateRuleName(StateRule rule);

struct StateSpec {
  std::string name;
  StateRule rule;
  // A key/value ring for attention: `heads` heads of `head_width` per lane (one lane per sequence of the batch), `slots` positions each.
  // The bytes follow from the kernels' layout and are asked for at plan time.
  int64_t lanes = 0, heads = 0, head_width = 0, slots = 0;
  // Instead of a ring per lane: pages of 16 positions that lanes share until one of them writes (KvPages in engine/runtime/kv_pages.h).
  bool paged = false;
  int64_t keep = 0;       // rows that stay visible behind the newest (KeepLast: mem_len)
  int64_t initial = 0;    // rows that are there at the start, all equal to `initial_row`
  int32_t initial_row = -1;  // value [1, 2 * heads * head_width], keys then values; -1: zeros
  // Or, if > 0, no ring but a plain array: this many f32 per lane, lane after lane, all zero at the start.
  int64_t elements = 0;
};

enum class ValueKind : uint8_t { kActivation, kWeight, kInput, kConstant };

struct ValueSpec {
  ValueKind kind;
  DType type = DType::f32;
  Extent extent;
  int64_t bytes = -1;     // kConstant of opaque layout: set at plan time; else follows from extent and type
  std::string name;       // scoped, unique for weights, inputs and constants
  int32_t weight = -1;    // index into Graph::weights
  int32_t producer = -1;  // op that makes it
  int32_t parent = -1;    // a view: columns [column, column + cols) of `parent`
  int64_t column = 0;
  bool opaque = false;    // layout known to kernels only
};

struct Op {
  OpSpec spec;                 // which operation, with its attributes
  std::vector<int32_t> inputs; // values
  int32_t output = -1;         // value, or -1 (an op that only changes state)
  int32_t state = -1;          // state it reads or changes
  std::string name;
  bool constant = false;       // inputs are weights and constants alone: computed once, before the first run
};

struct Graph {
  std::vector<Length> lengths;
  std::vector<WeightSpec> weights;
  std::vector<StateSpec> states;
  std::vector<ValueSpec> values;
  std::vector<Op> ops;
  struct Named {
    std::string name;
    int32_t value;
    bool optional = false;  // of an input: may be bound to nothing
  };
  std::vector<Named> inputs, outputs;

  int64_t Capacity(const Dim& d) const { return d.constant() ? d.scale : d.scale * lengths[static_cast<size_t>(d.length)].capacity; }
  // The value whose storage `v` lies in (itself unless it is a view).
  int32_t Root(int32_t v) const {
    while (values[static_cast<size_t>(v)].parent >= 0) v = values[static_cast<size_t>(v)].parent;
    return v;
  }
};

}  // namespace tern

// Decoding with hashed attention: the state of a layer after the first piece of a text, and one token more. The public implementation's own rules, which are
// not those of the whole sequence: the new token attends to the chunk around its place in the order by buckets (spec A7 of the Reformer).
//
// Cost per token: the keys of the neighbouring chunks per head and round, whatever the length, plus moving at most one line of the order (4 bytes a position).
#pragma once

#include "engine/graph/lsh.h"
#include "engine/kernels/kernels.h"

namespace tern {

// The state of one lane, laid over LshSpec::state_elements() floats.
struct LshState {
  LshState(const LshSpec& spec, uint8_t* lane);

  float *qk, *v;             // [context, A]
  int32_t *ids, *order;      // [H][rounds][context]: bucket ids with the rounds' offsets; tokens by (id, position)
  int32_t* notes;            // see below

  bool hashed() const { return notes[0] != 0; }
  void set_hashed(bool hashed) { notes[0] = hashed; }
  int32_t& largest_id() { return notes[1]; }   // of all ids of the lane
  int32_t& ordered() { return notes[2]; }      // tokens that `order` holds
  int32_t& hashed_at() { return notes[12]; }   // the step whose token filled the first chunk, or -1
  BucketFactors buckets(const LshSpec& spec) const;
  void set_buckets(const BucketFactors& b);
};

// What one head of one lane needs to take a token.
struct LshStep {
  const KernelTable* kernels = nullptr;
  const LshSpec* spec = nullptr;
  int64_t head = 0;
  int64_t position = 0;              // of the new token, whose qk and v rows are in the state already
  const float* rotations = nullptr;  // of this head, [Dh, rounds * directions]; read only if something is hashed
  BucketFactors buckets;
  int64_t stride = 0;                // ids of one round
  float* out = nullptr;              // [Dh]
};

// Scratch of one running StepLshHead.
int64_t LshStepScratchBytes(const LshSpec& spec);

// Attends, and hashes what must be hashed: the new token, or every token when their number first fills a chunk. `state.hashed()` is the caller's to set.
// Returns the largest id written, or -1.
int32_t StepLshHead(const LshStep& step, LshState& state, uint8_t* scratch);

// Forgets tokens from `position` on in the orders: a step that was cancelled is taken again.
void ForgetFrom(const LshSpec& spec, LshState& state, int64_t position);

}  // namespace tern

// Forward: the model as a function on named tensors, as the public implementations name them: the way golden cases are run.
#pragma once

#include <string>
#include <vector>

#include "engine/runtime/session.h"

namespace tern {

struct ForwardOptions {
  std::vector<int64_t> chunks;  // lengths of the pieces the sequence is fed in, state carried from one to the next; empty: one piece
  int64_t generate = 0;         // > 0: also the ids that so many decoding steps give (greedy_ids, beamK_ids)
  std::vector<int64_t> beams;   // for which numbers of beams; empty: 1
  int threads = 0;
  bool trace = false;           // also the inner values (hidden_states.N)
  const CancelToken* cancel = nullptr;
};

// A tensor that owns its bytes.
struct NamedTensor {
  std::string name;
  DType type = DType::f32;
  Shape shape;
  std::vector<uint8_t> bytes;
};

struct NamedInput {
  std::string name;
  ConstTensor tensor;
};

// Decoders: input_ids [B, T] (i64 or i32) -> logits [B, T, V], the pieces joined along time. kUsage for inputs the model does not take, for chunks that do not
// add up to T, and for ids outside the vocabulary; kMemory if the outputs would not fit.
Result<std::vector<NamedTensor>> Forward(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs, const ForwardOptions& options);

// The ids of an input tensor [B, T], checked against the vocabulary.
Result<std::vector<int32_t>> InputIds(const ConstTensor& tensor, std::string_view name, int64_t vocab_size);

}  // namespace tern

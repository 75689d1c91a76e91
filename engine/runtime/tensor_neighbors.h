// Neighbours that are given: a tensor [B, l, k, R] of ids, chunk by chunk, as RETRO's public code takes them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/shape.h"
#include "engine/runtime/neighbor_feed.h"

namespace tern {

class TensorNeighbors : public NeighborSource {
 public:
  // kUsage for another rank, ids outside of the vocabulary, more than 1,024 neighbours or longer ones than 2^20.
  static Result<TensorNeighbors> Create(const ConstTensor& tensor, int64_t vocab_size);
  // kUsage if the tensor has fewer chunks.
  Status Fetch(int64_t lane, int64_t chunk, std::span<const int32_t> tokens, std::span<int32_t> neighbors) override;
  // What a session needs; `total` as there. The source outlives it and stays where it is.
  RetrievalOptions Options(int64_t total) { return {k_, length_, this, total}; }
  int64_t batch() const { return batch_; }

 private:
  std::vector<int32_t> ids_;
  int64_t batch_ = 0, chunks_ = 0, k_ = 0, length_ = 0;
};

}  // namespace tern

#include "engine/runtime/tensor_neighbors.h"

#include <cstring>

#include "engine/runtime/forward_parts.h"

namespace tern {

Result<TensorNeighbors> TensorNeighbors::Create(const ConstTensor& t, int64_t vocab_size) {
  if (t.shape.rank() != 4 || t.shape[2] < 1 || t.shape[3] < 1)
    return UsageError("an input has the wrong shape").Where("input 'retrieved'").Got(t.shape, "[batch, chunks, neighbours, tokens]");
  if (t.shape[2] > 1024 || t.shape[3] > (1 << 20))
    return UsageError("there are too many neighbours, or they are too long").Where("input 'retrieved'").Got(t.shape, "at most 1024 neighbours of 1048576 tokens");
  TensorNeighbors s;
  s.batch_ = t.shape[0], s.chunks_ = t.shape[1], s.k_ = t.shape[2], s.length_ = t.shape[3];
  ConstTensor flat = t;
  flat.shape = {t.shape[0] * t.shape[1], t.shape[2] * t.shape[3]};
  TERN_ASSIGN(s.ids_, InputIds(flat, "retrieved", vocab_size));
  return s;
}

Status TensorNeighbors::Fetch(int64_t lane, int64_t chunk, std::span<const int32_t>, std::span<int32_t> neighbors) {
  if (chunk >= chunks_)
    return UsageError("there are too few chunks of neighbours").Where("input 'retrieved'").Got(chunks_, Str("at least ", chunk + 1)).Hint(
        "One for every chunk of tokens that is complete");
  const int64_t size = k_ * length_;
  std::memcpy(neighbors.data(), ids_.data() + (lane * chunks_ + chunk) * size, static_cast<size_t>(size) * 4);
  return {};
}

}  // namespace tern

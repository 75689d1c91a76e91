// NeighborFeed: what a RETRO session binds to its graphs beside the ids - positions, borders of chunks, and the neighbours of each chunk that is completed.
// The rules are the header comment of models/retro.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "models/retro.h"

namespace tern {

// Where the neighbours of a chunk come from. Used by one thread at a time; shared by a session and its forks.
class NeighborSource {
 public:
  virtual ~NeighborSource() = default;
  // Chunk `chunk` of `lane` (counted from 0) is complete; `tokens` are its ids, m of them (fewer in a first partial chunk). Fills `neighbors` [k * R] with
  // ids of the model's vocabulary, the model's pad where there is nothing. Asked once per chunk, in order (again after a Reset).
  virtual Status Fetch(int64_t lane, int64_t chunk, std::span<const int32_t> tokens, std::span<int32_t> neighbors) = 0;
};

struct RetrievalOptions {
  int64_t neighbors = 0, length = 0;  // k and R; 0: no retrieval, cross-attention is left out
  NeighborSource* source = nullptr;   // outlives the session
  // Tokens of the whole text, where they are known: models with a partial first chunk fix its border by them, else by the first run's tokens.
  int64_t total = 0;
};

class NeighborFeed {
 public:
  // Null if the network is no RETRO. kUsage for a retrieval that the model cannot do, or one of a model that has none.
  static Result<std::unique_ptr<NeighborFeed>> Create(const Network& network, const RetrievalOptions& options, int64_t batch, int64_t max_tokens);

  // Before a run of `ids` [batch, T], `seen` tokens being there already: fetches neighbours. `kept` is the session's state "chunk" (null without
  // retrieval). kUsage if the text grows longer than the model's positions, or a neighbour holds an id outside of the vocabulary.
  Status Begin(std::span<const int32_t> ids, int64_t seen, const int32_t* kept);
  // After it: remembers the chunk that is not complete.
  void End(std::span<const int32_t> ids, int32_t* kept) const;

  // Run-time lengths, and memory for an input of that name (null: not one of these).
  void SetLengths(std::array<int64_t, 4>* lengths) const;
  const void* Input(std::string_view name) const;
  // Whether the run replaces state that its own first tokens read: it must not be cut short.
  bool indivisible() const { return completed_ > 0 && tokens_ > 1; }

 private:
  NeighborFeed(const RetroConfig& config, const RetrievalOptions& options, int64_t batch, int64_t max_tokens);
  void Positions(int64_t seen);
  Status Fetch(std::span<const int32_t> ids, const int32_t* kept);

  const RetroConfig c_;
  const RetrievalOptions options_;
  const int64_t batch_;
  // Of the run: tokens per lane, chunks completed, number of the first one, the border (length of chunk 0), ring row of the first token.
  int64_t tokens_ = 0, completed_ = 0, chunk_ = 0, border_ = 0, row_ = 0, first_ = 0;
  std::array<int32_t, 4> chunks_{};
  std::vector<int32_t> position_ids_, cross_positions_, neighbor_ids_, neighbor_positions_, starts_, context_positions_, tokens_of_chunk_, fetched_;
  std::vector<float> active_;
};

}  // namespace tern

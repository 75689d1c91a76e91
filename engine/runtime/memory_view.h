// What a long-term memory holds and where its queries look: for `score --stats` and `--svg`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/runtime/session.h"

namespace tern {

// Gathers over a session's calls of Feed, lane 0. Not thread-safe.
class MemoryStats {
 public:
  static constexpr int64_t kPoints = 100;  // of a density, at (i + 1/2) / kPoints

  explicit MemoryStats(const Session* session);
  bool empty() const { return layers_.empty(); }  // the model has no long-term memory

  const LongTermMemory& memory() const { return layers_[0].memory; }  // REQUIRES: !empty()

  // After each Feed of `tokens` per lane.
  void Look(int64_t tokens);

  struct Head {
    double mu = 0, sigma = 0;                                       // means over all queries that had a memory
    std::vector<double> density = std::vector<double>(kPoints);     // mean of their normal densities over [0, 1]
  };
  struct Layer {
    LongTermMemory memory;
    int64_t state_offset = 0;
    int64_t queries = 0;
    double rms = 0, largest = 0;  // of B, as it was last
    std::vector<Head> heads;      // means; call Finish first
  };
  // The means of all that was seen.
  std::vector<Layer> Finish() const;
  int64_t absorbed() const { return absorbed_; }  // positions that the memory holds: since the last reset, or since it began anew by itself

  // How many tokens before the newest row of the memory a time t of (0, 1] lies: the segment k updates ago occupies (tau^(k+1), tau^k].
  static double TokensAgo(const LongTermMemory& m, double t);

 private:
  const Session* session_;
  std::vector<Layer> layers_;
  int64_t absorbed_ = 0;
};

// The mean densities of every layer (rows) and head (columns) over the past, as a picture.
std::string MemorySvg(const std::vector<MemoryStats::Layer>& layers, int64_t absorbed);

}  // namespace tern

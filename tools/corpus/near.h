// Near duplicates: candidates share a MinHash band; every candidate pair is verified by the exact Jaccard similarity of its shingle sets; then components,
// then stars. 8 bytes per document and band, until the bands are grouped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/corpus/dedup_state.h"
#include "tools/corpus/partitioned.h"

namespace tern::corpus {

inline constexpr size_t kSmallMeeting = 8;  // up to so many documents a meeting is taken apart into pairs
inline uint64_t PairOf(uint32_t a, uint32_t b) { return a < b ? uint64_t{a} << 32 | b : uint64_t{b} << 32 | a; }

// The band keys of all documents. 32 bits of a key and its partition decide that two meet: a chance meeting costs one verification and nothing else.
class BandKeys {
 public:
  BandKeys(int bands, int64_t budget_bytes, std::string folder);
  int bands() const { return bands_; }
  Status Append(uint32_t doc, const uint64_t* keys);  // in order of the documents

  // Documents that meet in some band and are still there (over several ranks: pairs that this rank found, groups that any did): pairs of small meetings (low << 32 | high, sorted, each once), and larger meetings whole.
  struct Meetings {
    std::vector<uint64_t> pairs;
    std::vector<std::vector<uint32_t>> groups;
  };
  Result<Meetings> Run(DedupState* state);

 private:
  int bands_, part_bits_;
  int64_t budget_bytes_;
  std::unique_ptr<Partitioned<uint64_t>> store_;
};

// Finds, verifies, clusters; marks what goes. *too_large: the size of a cluster above the guard's limit, or 0.
Status RunNear(DedupState* state, BandKeys* keys, int64_t* too_large);

inline constexpr uint64_t kSketchSeed = 0x7465726e;  // fixed: the same corpus has the same candidates everywhere

}  // namespace tern::corpus

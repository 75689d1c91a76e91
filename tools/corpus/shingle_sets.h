// ShingleSets: the exact shingle sets of the candidates, for verification. In memory up to a budget, then in an unnamed file. Documents with equal sets
// share one entry.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/hash.h"
#include "tools/corpus/dedup_state.h"
#include "tools/corpus/spill_file.h"

namespace tern::corpus {

class ShingleSets {
 public:
  // Reads the sets of `docs` (ascending, the same on all ranks) in one pass over the blocks that hold them. Over several ranks each holds the sets of its own
  // documents; entries are numbered over all. Collective.
  Status Read(DedupState* state, std::vector<uint32_t> docs);

  const std::vector<uint32_t>& docs() const { return docs_; }
  // The entry of a candidate: documents with equal sets have the same one. REQUIRES: doc is a candidate.
  uint32_t EntryOf(uint32_t doc) const;
  uint32_t EntryAt(size_t index) const { return entry_of_[index]; }  // of docs()[index]
  uint32_t entries() const { return static_cast<uint32_t>(places_.size()); }
  int64_t SizeOf(uint32_t entry) const { return places_[entry].size; }

  // The rank that holds the set of an entry, and the sets of other ranks' entries: collective, and they stay.
  int RankOf(uint32_t entry) const;
  Status Bring(Ranks& ranks, std::vector<uint32_t> entries);

  // The set of an entry that this rank has; the pointer is into memory or into *buffer. Thread-safe.
  Result<const uint64_t*> Get(uint32_t entry, std::vector<uint64_t>* buffer);

 private:
#pragma pack(push, 4)
  struct Place {
    int64_t at;  // a chunk << 32 | hashes in front; from kInFile on: hashes in front in the file; negative: not on this rank
    uint32_t size;
  };
#pragma pack(pop)
  static constexpr int64_t kInFile = int64_t{1} << 62;
  using Chunk = std::unique_ptr<uint64_t[]>;
  bool FitsMemory(size_t hashes) const { return file_.empty() && held_ + static_cast<int64_t>(hashes) <= budget_; }
  Status ToFile(const uint64_t* set, size_t size, Place* place);
  Status Hold(const uint64_t* set, size_t size, Place* place);
  Status NumberOverAll(DedupState* state, const std::vector<Hash128>& digests);

  std::vector<uint32_t> docs_, entry_of_;  // parallel
  std::vector<uint32_t> entry_starts_;     // of the ranks
  int64_t budget_ = 0, held_ = 0;          // hashes in memory
  std::string temporary_;
  std::vector<Place> places_;
  std::vector<Chunk> chunks_;
  size_t last_chunk_ = 0, last_room_ = 0;  // of the last chunk, if Hold made it: its size, and what is free of it
  SpillFile file_;
};

}  // namespace tern::corpus

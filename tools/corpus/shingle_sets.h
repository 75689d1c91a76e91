// ShingleSets: the exact shingle sets of the candidates, for verification. In memory up to a budget, then in an unnamed file. Documents with equal sets
// share one entry.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/corpus/dedup_state.h"
#include "tools/corpus/spill_file.h"

namespace tern::corpus {

class ShingleSets {
 public:
  // Reads the sets of `docs` (ascending) in one pass over the blocks that hold them.
  Status Read(DedupState* state, std::vector<uint32_t> docs);

  const std::vector<uint32_t>& docs() const { return docs_; }
  // The entry of a candidate: documents with equal sets have the same one. REQUIRES: doc is a candidate.
  uint32_t EntryOf(uint32_t doc) const;
  uint32_t entries() const { return static_cast<uint32_t>(places_.size()); }
  int64_t SizeOf(uint32_t entry) const { return places_[entry].size; }

  // The set of an entry; the pointer is into memory or into *buffer. Thread-safe.
  Result<const uint64_t*> Get(uint32_t entry, std::vector<uint64_t>* buffer);

 private:
#pragma pack(push, 4)
  struct Place {
    int64_t at;  // in hashes; behind memory_.size(): in the file
    uint32_t size;
  };
#pragma pack(pop)
  std::vector<uint32_t> docs_, entry_of_;  // parallel
  std::vector<Place> places_;
  std::vector<uint64_t> memory_;
  SpillFile file_;
};

}  // namespace tern::corpus

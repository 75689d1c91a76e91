// Exact duplicates: documents whose normalised texts are equal. 104 bits of a seeded hash decide; 16 bytes a document.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/hash.h"
#include "tools/corpus/dedup_state.h"
#include "tools/corpus/partitioned.h"
#include "tools/corpus/words.h"

namespace tern::corpus {

// The text as `how` normalises it: `text` itself, or *scratch.
std::string_view NormalizedKey(std::string_view text, Normalize how, WordReader& words, std::string* scratch);

struct ExactKey {
  uint64_t high;
  uint32_t low;
  uint32_t doc;
};

class ExactKeys {
 public:
  static constexpr int kPartitionBits = 8;
  ExactKeys(int64_t budget_bytes, std::string folder) : budget_bytes_(budget_bytes), store_(std::make_unique<Partitioned<ExactKey>>(1 << kPartitionBits, budget_bytes, std::move(folder))) {}

  // The hash of a key, in parallel; then in order of the documents Append. An empty key never matches: it is not to be appended.
  Status Append(const Hash128& hash, uint32_t doc) {
    return store_->Append(static_cast<int64_t>(hash.low >> (64 - kPartitionBits)), {hash.high, static_cast<uint32_t>(hash.low), doc});
  }
  // Finds the groups, writes the clusters and marks what goes.
  Status Run(DedupState* state);

 private:
  int64_t budget_bytes_;
  std::unique_ptr<Partitioned<ExactKey>> store_;
};

}  // namespace tern::corpus

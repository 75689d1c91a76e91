// Which documents meet in a band.
#include <algorithm>
#include <mutex>
#include <set>

#include "engine/base/hash.h"
#include "tools/corpus/near.h"
#include "tools/corpus/pair_set.h"
#include "tools/corpus/pipeline.h"

namespace tern::corpus {
namespace {

int PartBits(int bands) {
  int bits = 8;
  while (bits > 0 && (int64_t{bands} << bits) > 4096) --bits;
  return bits;
}

// By the high half, stable: three rounds of eleven bits, if the documents in the low half ascend already.
void SortByKey(bool ascend, std::vector<uint64_t>* records, std::vector<uint64_t>* other) {
  if (!ascend || records->size() < 1024) {
    std::sort(records->begin(), records->end());
    return;
  }
  other->resize(records->size());
  for (int shift : {32, 43, 54}) {
    const uint64_t mask = shift == 54 ? 1023 : 2047;
    std::vector<size_t> at(mask + 2, 0);
    for (uint64_t r : *records) ++at[(r >> shift & mask) + 1];
    for (size_t i = 1; i < at.size(); ++i) at[i] += at[i - 1];
    for (uint64_t r : *records) (*other)[at[r >> shift & mask]++] = r;
    records->swap(*other);
  }
}

// The groups of all ranks, to all.
Status GatherGroups(Ranks& ranks, std::vector<std::vector<uint32_t>>* groups) {
  if (ranks.alone()) return {};
  std::vector<uint32_t> flat;  // size, members
  for (const auto& group : *groups) {
    flat.push_back(static_cast<uint32_t>(group.size()));
    flat.insert(flat.end(), group.begin(), group.end());
  }
  TERN_ASSIGN(flat, ranks.Concatenate(std::move(flat)));
  groups->clear();
  for (size_t at = 0; at < flat.size();) {
    const auto first = flat.begin() + static_cast<std::ptrdiff_t>(at) + 1;
    groups->emplace_back(first, first + flat[at]);
    at += 1 + flat[at];
  }
  return {};
}

}  // namespace

BandKeys::BandKeys(int bands, int64_t budget_bytes, std::string folder)
    : bands_(bands), part_bits_(PartBits(bands)), budget_bytes_(budget_bytes), store_(std::make_unique<Partitioned<uint64_t>>(int64_t{bands} << part_bits_, budget_bytes, std::move(folder))) {}

Status BandKeys::Append(uint32_t doc, const uint64_t* keys) {
  for (int b = 0; b < bands_; ++b) {
    int64_t part = (int64_t{b} << part_bits_) | static_cast<int64_t>(part_bits_ == 0 ? 0 : keys[b] >> (64 - part_bits_));
    TERN_RETURN_IF_ERROR(store_->Append(part, keys[b] << 32 | doc));
  }
  return {};
}

Result<BandKeys::Meetings> BandKeys::Run(DedupState* state) {
  const uint64_t before = static_cast<uint64_t>(state->corpus.own_begin_doc());
  TERN_RETURN_IF_ERROR(ShareOut(state->ranks, &store_, budget_bytes_, state->temporary, [before](uint64_t* record) { *record += before; }));
  Meetings all;
  std::set<std::pair<uint64_t, uint64_t>> known;  // digests of large meetings: the same family meets in many bands
  std::mutex mu;
  const int threads = state->corpus.threads();
  PairSet pairs(state->documents(), threads);
  std::vector<std::vector<uint64_t>> others(static_cast<size_t>(threads));
  TERN_RETURN_IF_ERROR(ForChunks(threads, store_->partitions(), state->options.common.cancel, [&](int64_t part, int worker) -> Status {
    TERN_ASSIGN(std::vector<uint64_t> records, store_->Take(part));
    std::erase_if(records, [&](uint64_t r) { return !state->here(static_cast<uint32_t>(r)); });
    SortByKey(state->ranks.alone(), &records, &others[static_cast<size_t>(worker)]);
    for (size_t i = 0; i < records.size();) {
      size_t j = i + 1;
      while (j < records.size() && records[j] >> 32 == records[i] >> 32) ++j;
      if (j - i > kSmallMeeting) {
        std::vector<uint32_t> group;
        for (size_t k = i; k < j; ++k) group.push_back(static_cast<uint32_t>(records[k]));
        Hash128 digest = Xxh3Wide({reinterpret_cast<const uint8_t*>(group.data()), group.size() * 4});
        std::lock_guard lock(mu);
        if (known.emplace(digest.low, digest.high).second) all.groups.push_back(std::move(group));
      } else {
        for (size_t k = i; k < j; ++k)
          for (size_t l = k + 1; l < j; ++l)
            if (!state->reference(static_cast<uint32_t>(records[l]))) pairs.Add(PairOf(static_cast<uint32_t>(records[k]), static_cast<uint32_t>(records[l])), worker);
      }
      i = j;
    }
    return {};
  }));
  TERN_ASSIGN(all.pairs, pairs.Take(threads, state->options.common.cancel));
  TERN_RETURN_IF_ERROR(GatherGroups(state->ranks, &all.groups));
  std::sort(all.groups.begin(), all.groups.end());  // the order in which threads and ranks found them does not matter
  all.groups.erase(std::unique(all.groups.begin(), all.groups.end()), all.groups.end());
  return all;
}

}  // namespace tern::corpus

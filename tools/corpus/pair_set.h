// PairSet: pairs of documents that several threads find, most of them often. Each is kept once; memory is about twice what the different ones take.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <mutex>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/pipeline.h"

namespace tern::corpus {

class PairSet {
 public:
  // Pairs low << 32 | high with low < documents; `worker` is below `threads`.
  PairSet(int64_t documents, int threads) : documents_(static_cast<uint64_t>(std::max<int64_t>(documents, 1))), staged_(static_cast<size_t>(threads)) {}

  void Add(uint64_t pair, int worker) {
    const size_t b = static_cast<size_t>((pair >> 32) * kBuckets / documents_);
    std::vector<uint64_t>& staged = staged_[static_cast<size_t>(worker)][b];
    staged.push_back(pair);
    if (staged.size() == kStaged) Flush(&buckets_[b], &staged);
  }

  // All pairs, sorted; the set is empty afterwards. One thread calls; `threads` sort.
  Result<std::vector<uint64_t>> Take(int threads, const CancelToken* cancel) {
    TERN_RETURN_IF_ERROR(ForChunks(threads, kBuckets, cancel, [this](int64_t b, int) -> Status {
      Bucket& bucket = buckets_[static_cast<size_t>(b)];
      for (auto& staged : staged_) Flush(&bucket, &staged[static_cast<size_t>(b)]);
      bucket.Sort();
      return {};
    }));
    size_t count = 0;
    for (const Bucket& bucket : buckets_) count += bucket.pairs.size();
    std::vector<uint64_t> all;
    all.reserve(count);
    for (Bucket& bucket : buckets_) {
      all.insert(all.end(), bucket.pairs.begin(), bucket.pairs.end());
      bucket.pairs = {};
      bucket.sorted = 0;
    }
    return all;
  }

 private:
  static constexpr size_t kBuckets = 64, kStaged = 128, kLoose = 4096;
  struct Bucket {
    std::mutex mu;
    std::vector<uint64_t> pairs;
    size_t sorted = 0;  // so many at the front are sorted and different
    void Sort() {
      const auto middle = pairs.begin() + static_cast<std::ptrdiff_t>(sorted);
      std::sort(middle, pairs.end());
      std::inplace_merge(pairs.begin(), middle, pairs.end());
      pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
      sorted = pairs.size();
    }
  };
  static void Flush(Bucket* bucket, std::vector<uint64_t>* staged) {
    std::lock_guard lock(bucket->mu);
    bucket->pairs.insert(bucket->pairs.end(), staged->begin(), staged->end());
    staged->clear();
    if (bucket->pairs.size() - bucket->sorted > std::max(kLoose, bucket->sorted)) bucket->Sort();
  }

  uint64_t documents_;
  std::array<Bucket, kBuckets> buckets_;
  std::vector<std::array<std::vector<uint64_t>, kBuckets>> staged_;  // by worker
};

}  // namespace tern::corpus

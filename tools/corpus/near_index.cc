#include "tools/corpus/near_index.h"

#include <algorithm>
#include <cmath>

#include "tools/corpus/mix_hash.h"
#include "tools/corpus/shingles.h"

namespace tern::corpus {
namespace {

uint64_t Spread(uint64_t shingle) { return Mix(shingle, 0x9e3779b97f4a7c15u); }

}  // namespace

int64_t NearIndex::Add(const std::vector<uint64_t>& set) {
  shingles_.insert(shingles_.end(), set.begin(), set.end());
  begins_.push_back(static_cast<int64_t>(shingles_.size()));
  return static_cast<int64_t>(begins_.size()) - 2;
}

void NearIndex::Finish() {
  std::unordered_map<uint64_t, int64_t> documents_with;
  for (uint64_t shingle : shingles_) ++documents_with[shingle];
  std::vector<std::pair<int64_t, uint64_t>> rarest;
  for (size_t d = 0; d + 1 < begins_.size(); ++d) {
    rarest.clear();
    for (int64_t i = begins_[d]; i < begins_[d + 1]; ++i) rarest.push_back({documents_with[shingles_[static_cast<size_t>(i)]], shingles_[static_cast<size_t>(i)]});
    if (rarest.empty()) continue;
    // A hair below t |A|, so that rounding never makes the prefix too short.
    double shared = std::ceil(threshold_ * static_cast<double>(rarest.size()) * (1 - 1e-12));
    size_t prefix = rarest.size() - std::min(rarest.size() - 1, static_cast<size_t>(std::max(shared, 1.0)) - 1);
    std::sort(rarest.begin(), rarest.end());
    for (size_t i = 0; i < prefix; ++i) index_[rarest[i].second].push_back(static_cast<int64_t>(d));
  }
  filter_.Reset(index_.size());
  for (const auto& [shingle, documents] : index_) filter_.Add(Spread(shingle));
}

void NearIndex::Find(const std::vector<uint64_t>& shingles, Scratch* scratch, std::vector<Match>* matches) const {
  matches->clear();
  std::vector<int64_t>& candidates = scratch->candidates;
  candidates.clear();
  for (uint64_t shingle : shingles) {
    if (!filter_.MayHold(Spread(shingle))) continue;
    auto it = index_.find(shingle);
    if (it != index_.end()) candidates.insert(candidates.end(), it->second.begin(), it->second.end());
  }
  if (candidates.empty()) return;
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::vector<uint64_t>& set = scratch->set;
  set = shingles;
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  for (int64_t d : candidates) {
    const uint64_t* other = shingles_.data() + begins_[static_cast<size_t>(d)];
    int64_t size = begins_[static_cast<size_t>(d) + 1] - begins_[static_cast<size_t>(d)];
    double j = Jaccard(set.data(), static_cast<int64_t>(set.size()), other, size, threshold_);
    if (j >= threshold_) matches->push_back({d, j});
  }
}

}  // namespace tern::corpus

#include "engine/runtime/kv_pages.h"

#include <algorithm>

namespace tern {

void KvPages::Reset(int64_t lanes, int64_t positions) {
  lanes_ = lanes, per_lane_ = (positions + 15) / 16, used_ = 0;
  const size_t pages = static_cast<size_t>(lanes_ * per_lane_);
  tables_.assign(pages, 0), before_.assign(pages, 0), references_.assign(pages, 0);
  free_.resize(pages);
  for (size_t i = 0; i < pages; ++i) free_[i] = static_cast<int32_t>(pages - 1 - i);
}

int32_t KvPages::Take() {
  const int32_t page = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(page)] = 1;
  return page;
}

void KvPages::Reorder(std::span<const int32_t> parents) {
  std::copy(tables_.begin(), tables_.end(), before_.begin());
  for (int64_t lane = 0; lane < lanes_; ++lane)
    for (int64_t p = 0; p < used_; ++p) {
      const int32_t page = before_[static_cast<size_t>(parents[static_cast<size_t>(lane)] * per_lane_ + p)];
      tables_[static_cast<size_t>(lane * per_lane_ + p)] = page;
      ++references_[static_cast<size_t>(page)];
    }
  for (int64_t lane = 0; lane < lanes_; ++lane)
    for (int64_t p = 0; p < used_; ++p) {
      const int32_t page = before_[static_cast<size_t>(lane * per_lane_ + p)];
      if (--references_[static_cast<size_t>(page)] == 0) free_.push_back(page);
    }
}

}  // namespace tern

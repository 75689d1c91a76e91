// KvPages: which pages of 16 positions hold the keys and values of each lane. Lanes that continue from one beginning (beams of one hypothesis) share its
// pages; a lane that writes into a page others read gets a copy of that one page first. One table serves all layers and heads of a session.
// Not thread-safe. Allocates in Reset only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tern {

class KvPages {
 public:
  // An empty beginning: `lanes` lanes of at most `positions` positions. There are as many pages as lanes could fill without sharing.
  void Reset(int64_t lanes, int64_t positions);
  // Lane i goes on from where lane parents[i] stands. Moves no key or value.
  void Reorder(std::span<const int32_t> parents);
  // Gives every lane pages of its own for positions [position, position + tokens). copy(from, to) copies a page. REQUIRES: within the capacity; positions
  // before `position` were prepared.
  template <class Copy>
  void Prepare(int64_t position, int64_t tokens, Copy&& copy) {
    for (int64_t p = position / 16; tokens > 0 && p <= (position + tokens - 1) / 16; ++p)
      for (int64_t lane = 0; lane < lanes_; ++lane) {
        int32_t& page = tables_[static_cast<size_t>(lane * per_lane_ + p)];
        if (p >= used_) {
          page = Take();
        } else if (references_[static_cast<size_t>(page)] > 1) {
          const int32_t own = Take();
          copy(page, own);
          --references_[static_cast<size_t>(page)];
          page = own;
        }
      }
    used_ = std::max(used_, (position + tokens + 15) / 16);
  }

  const int32_t* tables() const { return tables_.data(); }  // [lanes, per_lane]
  int64_t per_lane() const { return per_lane_; }
  int64_t pages_in_use() const { return static_cast<int64_t>(references_.size() - free_.size()); }

 private:
  int32_t Take();
  int64_t lanes_ = 0, per_lane_ = 0, used_ = 0;  // pages that each lane has
  std::vector<int32_t> tables_, before_, references_, free_;
};

}  // namespace tern

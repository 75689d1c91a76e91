// Disjoint sets of 0..n-1 (Tarjan): the root of a set is its least member.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace tern::corpus {

class UnionFind {
 public:
  explicit UnionFind(size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0u); }
  uint32_t Root(uint32_t x) {
    while (parent_[x] != x) x = parent_[x] = parent_[parent_[x]];
    return x;
  }
  // Changes nothing: for several threads at once, while nobody joins.
  uint32_t RootOnly(uint32_t x) const {
    while (parent_[x] != x) x = parent_[x];
    return x;
  }
  // Whether they were apart.
  bool Join(uint32_t a, uint32_t b) {
    a = Root(a), b = Root(b);
    if (a > b) std::swap(a, b);
    parent_[b] = a;
    return a != b;
  }

 private:
  std::vector<uint32_t> parent_;
};

}  // namespace tern::corpus

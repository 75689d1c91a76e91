#include "formats/tokenizer_trie.h"

#include <algorithm>
#include <bit>

namespace tern {

// Places the children of one node after another into blocks of 256 units. A node's children share a block (base ^ byte
// changes the low 8 bits only), and no two nodes share a base, so that a unit's label alone proves its parent. A block
// is given up after a few failures: building stays linear.
class Trie::Builder {
 public:
  explicit Builder(std::vector<std::pair<std::string_view, int32_t>> entries) : entries_(std::move(entries)) {}

  Result<Trie> Run() {
    std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].first.empty()) return Malformed("a vocabulary holds an empty piece");
      if (entries_[i].second < 0 || entries_[i].second > kMaxValue) return Malformed("a vocabulary is too large");
      if (i > 0 && entries_[i].first == entries_[i - 1].first)
        return Malformed(Str("'", Printable(entries_[i].first, 60), "' stands twice in the vocabulary"));
      trie_.max_key_bytes_ = std::max(trie_.max_key_bytes_, entries_[i].first.size());
    }
    struct Range {  // the entries that share a prefix of `depth` bytes, which leads to `node`
      size_t begin, end, depth;
      uint32_t node;
    };
    std::vector<Range> todo;
    if (!entries_.empty()) todo.push_back({0, entries_.size(), 0, kRoot});
    std::vector<std::pair<uint8_t, size_t>> children;  // label, first entry
    while (!todo.empty()) {
      Range range = todo.back();
      todo.pop_back();
      size_t i = range.begin;
      if (entries_[i].first.size() == range.depth) {
        trie_.units_[range.node].tag |= static_cast<uint32_t>(entries_[i].second + 1) << 9;
        ++i;
      }
      if (i == range.end) continue;
      children.clear();
      for (; i < range.end; ++i) {
        uint8_t label = static_cast<uint8_t>(entries_[i].first[range.depth]);
        if (children.empty() || children.back().first != label) children.push_back({label, i});
      }
      uint32_t base = Place(children);
      trie_.units_[range.node].base = base;
      for (size_t c = 0; c < children.size(); ++c) {
        uint32_t node = base ^ children[c].first;
        trie_.units_[node].tag = children[c].first + 1u;
        size_t end = c + 1 < children.size() ? children[c + 1].second : range.end;
        todo.push_back({children[c].second, end, range.depth + 1, node});
      }
    }
    return std::move(trie_);
  }

 private:
  struct Block {
    uint32_t first;
    int failures = 0;
    uint64_t free[4] = {~0ull, ~0ull, ~0ull, ~0ull};
    bool IsFree(uint32_t low) const { return (free[low >> 6] >> (low & 63) & 1) != 0; }
  };
  // A base whose units for all labels are free, not used before.
  uint32_t Place(const std::vector<std::pair<uint8_t, size_t>>& children) {
    const int kGiveUp = 12;
    for (size_t b = open_.size(); b-- > 0;) {
      Block& block = open_[b];
      // Each free unit in turn for the first child; the others must then fit.
      for (int word = 0; word < 4; ++word) {
        for (uint64_t left = block.free[word]; left != 0; left &= left - 1) {
          const uint32_t low = static_cast<uint32_t>(word * 64 + std::countr_zero(left)) ^ children[0].first;
          if (used_base_[block.first ^ low]) continue;
          const bool fits = std::all_of(children.begin() + 1, children.end(),
                                        [&](const auto& child) { return block.IsFree(low ^ child.first); });
          if (fits) return Take(&block, low, children);
        }
      }
      const bool full = (block.free[0] | block.free[1] | block.free[2] | block.free[3]) == 0;
      if (++block.failures >= kGiveUp || full) open_.erase(open_.begin() + static_cast<int64_t>(b));
    }
    open_.push_back({static_cast<uint32_t>(trie_.units_.size())});
    trie_.units_.resize(trie_.units_.size() + 256);
    used_base_.resize(trie_.units_.size());
    return Take(&open_.back(), 0, children);
  }
  uint32_t Take(Block* block, uint32_t low, const std::vector<std::pair<uint8_t, size_t>>& children) {
    used_base_[block->first ^ low] = true;
    for (auto [label, entry] : children) block->free[(low ^ label) >> 6] &= ~(1ull << ((low ^ label) & 63));
    return block->first ^ low;
  }

  std::vector<std::pair<std::string_view, int32_t>> entries_;
  std::vector<Block> open_;
  std::vector<bool> used_base_ = std::vector<bool>(256);
  Trie trie_;
};

Result<Trie> Trie::Build(std::vector<std::pair<std::string_view, int32_t>> entries) {
  return Builder(std::move(entries)).Run();
}

int32_t Trie::Find(std::string_view key) const {
  uint32_t node = kRoot;
  for (char c : key)
    if (!Step(&node, static_cast<uint8_t>(c))) return -1;
  return key.empty() ? -1 : Value(node);
}

size_t Trie::LongestPrefix(std::string_view text, int32_t* value) const {
  uint32_t node = kRoot;
  size_t longest = 0;
  for (size_t i = 0; i < text.size() && Step(&node, static_cast<uint8_t>(text[i])); ++i) {
    if (int32_t v = Value(node); v >= 0) {
      longest = i + 1;
      if (value) *value = v;
    }
  }
  return longest;
}

}  // namespace tern

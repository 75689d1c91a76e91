// Trie: byte strings to small numbers, as a double array: one load and one comparison per byte walked.
// Immutable after Build; safe to share between threads.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status.h"

namespace tern {

class Trie {
 public:
  static constexpr int32_t kMaxValue = (1 << 23) - 2;
  static constexpr uint32_t kRoot = 0;

  // An empty trie: no byte leads anywhere.
  Trie() : units_(256) {}

  // Keys must be non-empty and distinct; values in [0, kMaxValue]. Time and memory are linear in the sum of the key
  // lengths (times the alphabet of a node). Errors: kMalformed (empty or duplicate key, value out of range).
  static Result<Trie> Build(std::vector<std::pair<std::string_view, int32_t>> entries);

  // Moves *node along `byte`; false (and *node unchanged) where no key continues so.
  bool Step(uint32_t* node, uint8_t byte) const {
    uint32_t next = units_[*node].base ^ byte;
    if ((units_[next].tag & 0x1FF) != byte + 1u) return false;
    *node = next;
    return true;
  }
  // The value of the key that ends at `node`, or -1.
  int32_t Value(uint32_t node) const { return static_cast<int32_t>(units_[node].tag >> 9) - 1; }

  int32_t Find(std::string_view key) const;
  // Length of the longest key that begins text, 0 if none; *value (if given) gets its value.
  size_t LongestPrefix(std::string_view text, int32_t* value = nullptr) const;
  // True if some key begins with `byte`.
  bool Begins(uint8_t byte) const {
    uint32_t node = kRoot;
    return Step(&node, byte);
  }
  size_t max_key_bytes() const { return max_key_bytes_; }
  bool empty() const { return max_key_bytes_ == 0; }

 private:
  struct Unit {
    uint32_t base =
        0;  // children stand at base ^ byte; 0 = none (block 0 holds nothing but the root, whose labels never match)
    uint32_t tag = 0;  // low 9 bits: label + 1, 0 = free; above: value + 1, 0 = none
  };
  class Builder;
  std::vector<Unit> units_;
  size_t max_key_bytes_ = 0;
};

}  // namespace tern

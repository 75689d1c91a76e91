// Short-key hashing for tables that live in memory. Seeded afresh in every process, so that no input can be made to collide; no result depends on it
// because every match is confirmed on the keys.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "engine/base/hash.h"

namespace tern::corpus {

// A random number, the same for the whole process.
uint64_t ProcessSeed();

// The folded 128-bit product: all bits of both factors reach all bits of the result.
inline uint64_t Mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product);
}

inline uint64_t HashPair(uint64_t a, uint64_t b, uint64_t seed) { return Mix(a ^ seed, b ^ 0x9e3779b97f4a7c15u ^ (seed << 17 | seed >> 47)); }

inline uint64_t LoadWord(const char* p) {
  uint64_t v;
  std::memcpy(&v, p, 8);
  return v;
}

// Up to 16 bytes as two words, zeros behind them.
struct ShortKey {
  uint64_t low = 0, high = 0;
  bool operator==(const ShortKey&) const = default;
};
// REQUIRES: key.size() <= 16, and 16 readable bytes at its begin.
inline ShortKey ReadShortKey(std::string_view key) {
  static constexpr char kMask[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  const char* mask = kMask + 16 - key.size();
  return {LoadWord(key.data()) & LoadWord(mask), LoadWord(key.data() + 8) & LoadWord(mask + 8)};
}

// REQUIRES: 16 readable bytes behind the end of `key`.
inline uint64_t HashPadded(std::string_view key, uint64_t seed) {
  if (key.size() > 16) return Xxh3({reinterpret_cast<const uint8_t*>(key.data()), key.size()}, seed);
  ShortKey k = ReadShortKey(key);
  return HashPair(k.low + key.size(), k.high, seed);
}

}  // namespace tern::corpus

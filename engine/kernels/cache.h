// The one thing about the machine that block sizes depend on.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace tern {

// Bytes of a core's second-level cache; 512 KiB if the system does not say.
inline int64_t L2CacheBytes() {
  static const int64_t bytes = [] {
#ifdef _SC_LEVEL2_CACHE_SIZE
    int64_t b = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (b >= 128 << 10) return b;
#endif
    return int64_t{512} << 10;
  }();
  return bytes;
}

// When a product packs the rows of x into scratch (gemm-inl.h): a stride that is a multiple of this many floats maps all rows of a tile to one set of L1,
// and from so many columns and panels on the copy costs less than the misses.
inline constexpr int64_t kCollidingStride = 1024, kPackInputs = 512, kPackPanels = 8;

inline bool RowsCollide(int64_t ldx, int64_t k) { return ldx % kCollidingStride == 0 && k >= kPackInputs; }

// Columns of K that a product takes at once: all, or equal slices of which a few dozen rows and a group of panels fit L2. A multiple of 16 if sliced.
inline int64_t SliceInputs(int64_t k) {
  const int64_t most = L2CacheBytes() / 512, slices = (k + most - 1) / most;
  return slices <= 1 ? k : ((k + slices - 1) / slices + 15) / 16 * 16;
}

// Rows of x, K wide, that are taken together at most: they and a group of panels share L2.
inline int64_t MostBlockRows(int64_t k) {
  const int64_t fit = L2CacheBytes() / 2 / (k * 4 + 64);
  return fit < 28 ? 28 : fit > 256 ? 256 : fit;
}

}  // namespace tern

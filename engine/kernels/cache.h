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

}  // namespace tern

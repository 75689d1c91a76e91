#include "tools/corpus/mix_hash.h"

#include <sys/random.h>

#include <chrono>

namespace tern::corpus {

uint64_t ProcessSeed() {
  static const uint64_t seed = [] {
    uint64_t s = 0;
    if (getrandom(&s, sizeof s, GRND_NONBLOCK) != sizeof s) {
      s = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^ reinterpret_cast<uintptr_t>(&s);
    }
    return s | 1;
  }();
  return seed;
}

}  // namespace tern::corpus

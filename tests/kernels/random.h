// n normally distributed numbers, the same for the same seed.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/rng.h"

namespace tern {

inline std::vector<float> Random(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& f : v) f = static_cast<float>(rng.Normal());
  return v;
}

}  // namespace tern

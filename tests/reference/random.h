// n normally distributed numbers of deviation `scale`, the same for the same seed.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/rng.h"

namespace tern {

inline std::vector<float> Random(int64_t n, uint64_t seed, double scale = 1) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& f : v) f = static_cast<float>(scale * rng.Normal());
  return v;
}

}  // namespace tern

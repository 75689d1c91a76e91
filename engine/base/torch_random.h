// Normal numbers as torch draws them on a CPU after torch.manual_seed(seed): torch.randn(n) of that generator, for models whose published results depend on it
// (Reformer's hash rotations). Within 3 units in the last place of torch's, whose own paths for different processors differ by as much. Thread-safe.
#pragma once

#include <cstdint>

namespace tern {

// Fills out[0..n). Mersenne Twister (Matsumoto and Nishimura 1998) from the low 32 bits of the seed; n < 16 and n >= 16 take different ways through it, as
// torch does, so that a prefix of a longer draw is another draw.
void TorchNormal(uint64_t seed, int64_t n, float* out);

}  // namespace tern

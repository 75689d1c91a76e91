// Projections for models that bring none: Gaussian orthogonal random features (Choromanski et al. 2021, performer_pytorch's default scaling 0).
#pragma once

#include <cstdint>
#include <vector>

namespace tern {

// [features, d_head]: blocks of d_head orthogonal rows, independent of each other (QR of a Gaussian matrix, in double), every row as long as a fresh Gaussian
// row. Deterministic; the converter takes the number of the layer as seed.
std::vector<float> OrthogonalFeatures(int64_t features, int64_t d_head, uint64_t seed);

}  // namespace tern

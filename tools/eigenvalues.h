// Eigenvalues of a symmetric matrix, in double.
#pragma once

#include <cstdint>
#include <vector>

namespace tern {

// a [n, n], symmetric (the lower half is read), destroyed. Descending. Householder's reduction to three diagonals, then implicit QL: O(n^3), error about
// n 1e-16 of the largest.
std::vector<double> SymmetricEigenvalues(std::vector<double>* a, int64_t n);

}  // namespace tern

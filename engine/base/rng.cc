#include "engine/base/rng.h"

#include <cmath>

namespace tern {

double Rng::Normal() {
  double u = Uniform(), v = Uniform();
  return std::sqrt(-2 * std::log1p(-u)) * std::cos(2 * 3.14159265358979323846 * v);
}

}  // namespace tern

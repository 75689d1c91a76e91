// Counter-based random numbers (SplitMix64 finaliser): the n-th draw of a seed is a pure function, so results do not depend on threads or order.
#pragma once

#include <cstdint>

namespace tern {

inline uint64_t RandomBits(uint64_t seed, uint64_t counter) {
  uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

// Uniform in [0, 1), 53 bits.
inline double RandomUniform(uint64_t seed, uint64_t counter) { return static_cast<double>(RandomBits(seed, counter) >> 11) * 0x1p-53; }

// A stream of draws.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t counter = 0) : seed_(seed), counter_(counter) {}
  uint64_t Bits() { return RandomBits(seed_, counter_++); }
  double Uniform() { return RandomUniform(seed_, counter_++); }
  uint64_t Below(uint64_t n) { return static_cast<uint64_t>((static_cast<unsigned __int128>(Bits()) * n) >> 64); }  // REQUIRES: n > 0
  double Normal();  // Box-Muller, one value per two draws
  uint64_t counter() const { return counter_; }

 private:
  uint64_t seed_, counter_;
};

}  // namespace tern

#include "tools/corpus/minhash.h"

#include <cstring>
#include <span>

#include "engine/base/hash.h"
#include "engine/base/rng.h"

namespace tern::corpus {
namespace {

constexpr size_t kSlotStep = 64;  // slots are padded to a multiple

// The minima over x of multiplier * x + addend for `slots` slots, four vectors of W 32-bit lanes at a time. (Compiler vectors: this room has no Highway.)
template <int W>
__attribute__((always_inline)) inline void MinimaOf(const uint32_t* x, size_t n, const uint32_t* mul, const uint32_t* add, size_t slots, uint32_t* out) {
  typedef uint32_t V __attribute__((vector_size(W * 4)));
  for (size_t s = 0; s < slots; s += 4 * W) {
    V m[4], a[4], least[4];
    for (int k = 0; k < 4; ++k) {
      std::memcpy(&m[k], mul + s + static_cast<size_t>(k * W), sizeof(V));
      std::memcpy(&a[k], add + s + static_cast<size_t>(k * W), sizeof(V));
      least[k] = ~V{};
    }
    for (size_t i = 0; i < n; ++i) {
      const V v = x[i] - V{};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        V h = m[k] * v + a[k];
        least[k] = h < least[k] ? h : least[k];
      }
    }
    for (int k = 0; k < 4; ++k) std::memcpy(out + s + static_cast<size_t>(k * W), &least[k], sizeof(V));
  }
}

using MinimaFn = void (*)(const uint32_t*, size_t, const uint32_t*, const uint32_t*, size_t, uint32_t*);

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void MinimaAvx512(const uint32_t* x, size_t n, const uint32_t* mul, const uint32_t* add, size_t slots, uint32_t* out) {
  MinimaOf<16>(x, n, mul, add, slots, out);
}
__attribute__((target("avx2"))) void MinimaAvx2(const uint32_t* x, size_t n, const uint32_t* mul, const uint32_t* add, size_t slots, uint32_t* out) {
  MinimaOf<8>(x, n, mul, add, slots, out);
}
#endif
void MinimaBaseline(const uint32_t* x, size_t n, const uint32_t* mul, const uint32_t* add, size_t slots, uint32_t* out) {
  MinimaOf<4>(x, n, mul, add, slots, out);
}

MinimaFn ChooseMinima() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) return MinimaAvx512;
  if (__builtin_cpu_supports("avx2")) return MinimaAvx2;
#endif
  return MinimaBaseline;
}

}  // namespace

MinHasher::MinHasher(int bands, int rows, uint64_t seed) : bands_(bands), rows_(rows), seed_(seed) {
  size_t slots = (static_cast<size_t>(bands) * static_cast<size_t>(rows) + kSlotStep - 1) / kSlotStep * kSlotStep;
  for (size_t i = 0; i < slots; ++i) {
    uint64_t r = RandomBits(seed, i);
    multipliers_.push_back(static_cast<uint32_t>(r) | 1);
    addends_.push_back(static_cast<uint32_t>(r >> 32));
  }
}

void MinHasher::Keys(const std::vector<uint64_t>& shingles, Scratch* scratch, uint64_t* keys) const {
  static const MinimaFn minima = ChooseMinima();
  const size_t n = shingles.size();
  if (scratch->x.size() < n) scratch->x.resize(n + n / 2);
  scratch->minima.resize(multipliers_.size());
  uint32_t* x = scratch->x.data();
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<uint32_t>(shingles[i] >> 32);
  minima(x, n, multipliers_.data(), addends_.data(), multipliers_.size(), scratch->minima.data());
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(scratch->minima.data());
  const size_t row_bytes = static_cast<size_t>(rows_) * 4;
  for (int b = 0; b < bands_; ++b) keys[b] = Xxh3({bytes + static_cast<size_t>(b) * row_bytes, row_bytes}, seed_ + static_cast<uint64_t>(b));
}

}  // namespace tern::corpus

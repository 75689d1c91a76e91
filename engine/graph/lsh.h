// What hashed attention is about (Reformer, Kitaev et al. 2020): the attributes its ops share, and the number of buckets for a length.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace tern {

// The number of buckets as a product of even factors; each factor f is hashed by its own f / 2 rotated directions.
struct BucketFactors {
  static constexpr int kMost = 8;
  std::array<int32_t, kMost> factor{};
  int32_t count = 0;  // 0: chosen by the length

  int64_t buckets() const {
    int64_t product = 1;
    for (int i = 0; i < count; ++i) product *= factor[static_cast<size_t>(i)];
    return product;
  }
  int64_t directions() const {  // rotated directions of one round
    int64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += factor[static_cast<size_t>(i)];
    return sum / 2;
  }
};

struct LshSpec {
  int64_t batch = 1, heads = 1, head_width = 1;
  int64_t chunk = 64, before = 1, after = 0;
  int64_t num_hashes = 1;
  bool causal = true;
  uint64_t seed = 0;       // of the rotations
  BucketFactors buckets;
  int64_t max_positions = 0;  // enters the automatic number of buckets
  int64_t context = 0;        // positions that the state of decoding holds; 0: there is none

  int64_t width() const { return heads * head_width; }
  // f32 per lane of that state: queries and values of every position, bucket ids and the order by them per head and round, and notes.
  static constexpr int64_t kNotes = 16;
  int64_t state_elements() const { return 2 * context * width() + 2 * heads * num_hashes * context + kNotes; }
};

// The factors for a padded length: as configured, or by the public rule: the power of two next to twice the number of chunks, as two factors where it
// exceeds a limit. The rule is applied to every call's own length.
inline BucketFactors BucketsFor(const LshSpec& spec, int64_t length) {
  if (spec.buckets.count > 0) return spec.buckets;
  const int power = std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(2 * (length / spec.chunk)))) - 1);
  const int64_t limit = 2 * std::max(static_cast<int64_t>(std::sqrt(static_cast<double>(spec.max_positions / spec.chunk))), spec.chunk);
  BucketFactors b;
  if ((int64_t{1} << power) > limit) {
    b.count = 2;
    // The first of the two is even only from four buckets on, which any limit allows.
    b.factor[0] = int32_t{1} << power / 2, b.factor[1] = int32_t{1} << (power - power / 2);
  } else {
    b.count = 1, b.factor[0] = int32_t{1} << power;
  }
  return b;
}

// The most of any length up to `length`: what buffers are planned for.
inline int64_t MostDirections(const LshSpec& spec, int64_t length) {
  int64_t most = 0;
  for (int64_t l = spec.chunk; l <= std::max(length, spec.chunk); l *= 2) most = std::max(most, BucketsFor(spec, l).directions());
  return std::max(most, BucketsFor(spec, length).directions());
}
inline int64_t MostBuckets(const LshSpec& spec, int64_t length) { return BucketsFor(spec, std::max(length, spec.chunk)).buckets(); }

}  // namespace tern

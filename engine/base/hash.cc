#include "engine/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tern {

uint64_t Xxh3(std::span<const uint8_t> bytes, uint64_t seed) {
  // A null pointer is not allowed there, even for no bytes.
  static const uint8_t empty = 0;
  return XXH3_64bits_withSeed(bytes.empty() ? &empty : bytes.data(), bytes.size(), seed);
}

Hash128 Xxh3Wide(std::span<const uint8_t> bytes, uint64_t seed) {
  static const uint8_t empty = 0;
  XXH128_hash_t h = XXH3_128bits_withSeed(bytes.empty() ? &empty : bytes.data(), bytes.size(), seed);
  return {h.low64, h.high64};
}

struct Xxh3Stream::State {
  XXH3_state_t x;
};
Xxh3Stream::Xxh3Stream() : state_(std::make_unique<State>()) { XXH3_64bits_reset(&state_->x); }
Xxh3Stream::~Xxh3Stream() = default;
void Xxh3Stream::Update(std::span<const uint8_t> bytes) {
  if (!bytes.empty()) XXH3_64bits_update(&state_->x, bytes.data(), bytes.size());
}
uint64_t Xxh3Stream::Digest() const { return XXH3_64bits_digest(&state_->x); }

}  // namespace tern

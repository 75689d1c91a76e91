// Digests and hashes (xxHash: XXH3 for integrity against accidents, never against an adversary).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace tern {

uint64_t Xxh3(std::span<const uint8_t> bytes, uint64_t seed = 0);

struct Hash128 {
  uint64_t low, high;
};
Hash128 Xxh3Wide(std::span<const uint8_t> bytes, uint64_t seed = 0);

// The same digest as Xxh3 over pieces.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  void Update(std::span<const uint8_t> bytes);
  uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tern

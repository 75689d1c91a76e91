// Carve: hands out 64-byte aligned pieces of one op's scratch. Run over nothing (base 0) it measures; the same code then places.
#pragma once

#include <cstdint>

#include "engine/base/checked.h"

namespace tern {

class Carve {
 public:
  explicit Carve(uint8_t* base = nullptr) : base_(base) {}
  template <class T>
  T* Take(int64_t count) {
    uint8_t* at = base_ ? base_ + bytes_ : nullptr;
    bytes_ += RoundUp(count * static_cast<int64_t>(sizeof(T)), 64);
    return reinterpret_cast<T*>(at);
  }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* base_;
  int64_t bytes_ = 0;
};

}  // namespace tern

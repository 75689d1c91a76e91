// The rows of an input as eight bits, in an op's scratch: what an int8 product reads.
#pragma once

#include <cstdint>

#include "engine/base/checked.h"
#include "engine/runtime/carve.h"

namespace tern {

// Rows of up to `k` columns; `split` [split_stride] for each worker is a row with its split columns (engine/kernels/packed.h).
struct QuantisedRows {
  uint8_t* u = nullptr;
  float* scales = nullptr;
  float* split = nullptr;
  int64_t stride = 0, split_stride = 0, bytes = 0;

  // Over nothing (base 0) it measures.
  QuantisedRows(uint8_t* base, int64_t rows, int64_t k, int threads) {
    stride = RoundUp(k, 64);
    if (stride % 1024 == 0) stride += 64;  // rows a multiple of 4096 bytes apart would collide in L1
    split_stride = RoundUp(k, 16);
    Carve carve(base);
    u = carve.Take<uint8_t>(rows * stride);
    scales = carve.Take<float>(rows);
    split = carve.Take<float>(split_stride * threads);
    bytes = carve.bytes();
  }
};

}  // namespace tern

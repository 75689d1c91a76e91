// StridedView: a tensor as it lies in a file, perhaps a window or a transposed view of a larger storage; reads rows of
// it in the type asked for.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/dtype.h"
#include "engine/base/shape.h"
#include "engine/base/status.h"

namespace tern {

// One storage (a run of elements of one type) and a view of it. Strides and offset count elements. Data may be
// unaligned.
struct StridedView {
  DType type = DType::f32;
  Shape shape;
  std::array<int64_t, Shape::kMaxRank> stride{};
  int64_t offset = 0;  // of the first element, in elements
  std::span<const uint8_t> storage;

  // A dense view of the whole storage. REQUIRES: the sizes agree.
  static StridedView Dense(DType type, const Shape& shape, std::span<const uint8_t> storage);
  // kMalformed if any element lies outside of the storage, or a stride or the offset is negative. Everything below
  // REQUIRES that this was ok.
  Status Check() const;
  int64_t rows() const { return shape.rank() == 0 ? 1 : shape[0]; }
  bool dense() const;
  // Both show the same elements of the same memory in the same arrangement.
  bool SameAs(const StridedView& other) const;
  const uint8_t* first_element() const { return storage.data() + offset * DTypeBytes(type); }

  // REQUIRES: 0 <= first_row, first_row + rows <= rows(). out: dense, row-major.
  void ReadF32(int64_t first_row, int64_t rows, float* out) const;
  void ReadI64(int64_t first_row, int64_t rows, int64_t* out) const;  // REQUIRES: not a float type
  void ReadBytes(int64_t first_row, int64_t rows, void* out) const;
};

}  // namespace tern

// Shape: up to six non-negative dimensions. Tensor and ConstTensor: views (pointer, type, shape), dense and row-major, never owners.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <ostream>
#include <string>

#include "engine/base/checked.h"
#include "engine/base/dtype.h"

namespace tern {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) Push(d);
  }
  // REQUIRES: rank() < kMaxRank. Dimensions from files are checked before they come here.
  void Push(int64_t dim) { dims_[rank_ < kMaxRank ? rank_++ : kMaxRank - 1] = dim; }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }  // negative: from the end
  int64_t& operator[](int i) { return dims_[i < 0 ? i + rank_ : i]; }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  // Number of elements; nullopt if a dimension is negative or the product overflows.
  std::optional<int64_t> CheckedElements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) {
      if (dims_[i] < 0) return std::nullopt;
      auto m = CheckedMul(n, dims_[i]);
      if (!m) return std::nullopt;
      n = *m;
    }
    return n;
  }
  // Product of all dimensions but the last: how many rows a row-wise operation sees.
  int64_t rows() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= dims_[i];
    return n;
  }
  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.dims_[i] != b.dims_[i]) return false;
    return true;
  }
  // "[2, 3]"
  std::string ToString() const {
    std::string s = "[";
    for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dims_[i]);
    return s + "]";
  }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};
inline std::ostream& operator<<(std::ostream& out, const Shape& s) { return out << s.ToString(); }

struct ConstTensor {
  const void* data = nullptr;
  DType type = DType::f32;
  Shape shape;

  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
  int64_t bytes() const { return shape.elements() * DTypeBytes(type); }
};

struct Tensor {
  void* data = nullptr;
  DType type = DType::f32;
  Shape shape;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t bytes() const { return shape.elements() * DTypeBytes(type); }
  operator ConstTensor() const { return {data, type, shape}; }  // NOLINT: a view of const is always fine
};

}  // namespace tern

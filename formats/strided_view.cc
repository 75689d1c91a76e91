#include "formats/strided_view.h"

#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"

namespace tern {
namespace {

constexpr int64_t kMaxExpandedElements = 1 << 20;

// One element at unaligned little-endian bytes, in the C++ type that holds it.
template <class Stored>
Stored Load(const uint8_t* at) {
  Stored value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

struct FromF16 {
  static constexpr int kBytes = 2;
  static float Get(const uint8_t* at) { return F16ToF32(Load<uint16_t>(at)); }
};
struct FromBf16 {
  static constexpr int kBytes = 2;
  static float Get(const uint8_t* at) { return Bf16ToF32(Load<uint16_t>(at)); }
};
struct FromBool {
  static constexpr int kBytes = 1;
  static int Get(const uint8_t* at) { return *at != 0; }
};
template <class Stored>
struct From {
  static constexpr int kBytes = sizeof(Stored);
  static Stored Get(const uint8_t* at) { return Load<Stored>(at); }
};
// Calls run(first element's bytes, count, stride in elements, index of the first output) for every innermost run of
// rows [first, first + rows).
template <class Run>
void ForEachRun(const StridedView& view, int64_t first, int64_t rows, const Run& run) {
  const int64_t size = DTypeBytes(view.type);
  const int rank = view.shape.rank();
  if (rank == 0) {
    if (rows > 0) run(view.first_element(), int64_t{1}, int64_t{1}, int64_t{0});
    return;
  }
  std::array<int64_t, Shape::kMaxRank> dims{};
  int64_t total = 1;
  for (int i = 0; i < rank; ++i) total *= dims[i] = i == 0 ? rows : view.shape[i];
  if (total == 0) return;
  const uint8_t* base = view.first_element();
  // Dimensions that lie densely behind one another are one.
  int64_t inner = dims[rank - 1], inner_stride = view.stride[rank - 1];
  int outer = rank - 1;
  while (outer > 0 && (dims[outer - 1] == 1 || view.stride[outer - 1] == inner * inner_stride)) inner *= dims[--outer];
  base += first * view.stride[0] * size;
  std::array<int64_t, Shape::kMaxRank> index{};
  for (int64_t out = 0; out < total; out += inner) {
    int64_t at = 0;
    for (int i = 0; i < outer; ++i) at += index[i] * view.stride[i];
    run(base + at * size, inner, inner_stride, out);
    for (int i = outer - 1; i >= 0 && ++index[i] == dims[i]; --i) index[i] = 0;
  }
}

template <class Source, class Out>
void Copy(const StridedView& view, int64_t first, int64_t rows, Out* out) {
  ForEachRun(view, first, rows, [out](const uint8_t* from, int64_t count, int64_t stride, int64_t at) {
    Out* to = out + at;
    if (stride == 1) {
      for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Out>(Source::Get(from + i * Source::kBytes));
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Out>(Source::Get(from + i * stride * Source::kBytes));
    }
  });
}

template <class Out>
void CopyIntegers(const StridedView& view, int64_t first, int64_t rows, Out* out) {
  switch (view.type) {
    case DType::i8:
      return Copy<From<int8_t>>(view, first, rows, out);
    case DType::u8:
      return Copy<From<uint8_t>>(view, first, rows, out);
    case DType::i16:
      return Copy<From<int16_t>>(view, first, rows, out);
    case DType::i32:
      return Copy<From<int32_t>>(view, first, rows, out);
    case DType::i64:
      return Copy<From<int64_t>>(view, first, rows, out);
    case DType::boolean:
      return Copy<FromBool>(view, first, rows, out);
    default:
      return;  // float types are the caller's matter
  }
}

template <int kSize>
void CopyRaw(const StridedView& view, int64_t first, int64_t rows, uint8_t* out) {
  ForEachRun(view, first, rows, [out](const uint8_t* from, int64_t count, int64_t stride, int64_t at) {
    uint8_t* to = out + at * kSize;
    if (stride == 1) {
      std::memcpy(to, from, static_cast<size_t>(count) * kSize);
    } else {
      for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * kSize, from + i * stride * kSize, kSize);
    }
  });
}

}  // namespace

StridedView StridedView::Dense(DType type, const Shape& shape, std::span<const uint8_t> storage) {
  StridedView view{type, shape, {}, 0, storage};
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    view.stride[i] = step;
    step *= shape[i];
  }
  return view;
}

Status StridedView::Check() const {
  auto elements = shape.CheckedElements();
  if (!elements || !CheckedMul(*elements, DTypeBytes(type)))
    return Malformed(Str("the size of shape ", shape, " overflows"));
  if (offset < 0) return Malformed(Str("the offset ", offset, " is negative"));
  for (int i = 0; i < shape.rank(); ++i)
    if (stride[i] < 0) return Malformed(Str("the stride ", stride[i], " is negative"));
  if (*elements == 0) return {};
  const int64_t stored = static_cast<int64_t>(storage.size() / DTypeBytes(type));
  std::optional<int64_t> last = offset;
  for (int i = 0; i < shape.rank() && last; ++i) {
    auto step = CheckedMul(shape[i] - 1, stride[i]);
    last = step ? CheckedAdd(*last, *step) : std::nullopt;
  }
  if (!last) return Malformed("the strides overflow");
  if (*last >= stored)
    return Malformed("the tensor reaches behind its storage").Got(Str("element ", *last), Str("at most ", stored - 1));
  // A stride of 0 (an expanded tensor) could make a huge tensor of one number. Small ones occur as buffers; weights
  // never need it.
  if (*elements > std::max(stored, kMaxExpandedElements))
    return Malformed("the tensor has more elements than its storage")
        .Got(*elements, Str("at most ", std::max(stored, kMaxExpandedElements)));
  return {};
}

bool StridedView::dense() const {
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] != 1 && stride[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

bool StridedView::SameAs(const StridedView& other) const {
  if (type != other.type || !(shape == other.shape) || shape.elements() == 0 ||
      first_element() != other.first_element())
    return false;
  for (int i = 0; i < shape.rank(); ++i)
    if (shape[i] != 1 && stride[i] != other.stride[i]) return false;
  return true;
}

void StridedView::ReadF32(int64_t first_row, int64_t rows, float* out) const {
  switch (type) {
    case DType::f32:
      return ReadBytes(first_row, rows, out);
    case DType::f16:
      return Copy<FromF16>(*this, first_row, rows, out);
    case DType::bf16:
      return Copy<FromBf16>(*this, first_row, rows, out);
    case DType::f64:
      return Copy<From<double>>(*this, first_row, rows, out);
    default:
      return CopyIntegers(*this, first_row, rows, out);
  }
}

void StridedView::ReadI64(int64_t first_row, int64_t rows, int64_t* out) const {
  CopyIntegers(*this, first_row, rows, out);
}

void StridedView::ReadBytes(int64_t first_row, int64_t rows, void* out) const {
  auto* to = static_cast<uint8_t*>(out);
  switch (DTypeBytes(type)) {
    case 1:
      return CopyRaw<1>(*this, first_row, rows, to);
    case 2:
      return CopyRaw<2>(*this, first_row, rows, to);
    case 4:
      return CopyRaw<4>(*this, first_row, rows, to);
    case 8:
      return CopyRaw<8>(*this, first_row, rows, to);
  }
}

}  // namespace tern

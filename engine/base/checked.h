// Checked arithmetic for sizes that come from files or arguments. Everything derived from such a number goes through here.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

namespace tern {

// nullopt on overflow. For any integer types: the result is the wider rule of __builtin_*_overflow in T.
template <class T>
std::optional<T> CheckedAdd(T a, T b) {
  T out;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}
template <class T>
std::optional<T> CheckedMul(T a, T b) {
  T out;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// The value in type To, or nullopt if it does not fit.
template <class To, class From>
std::optional<To> CheckedCast(From value) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  if (std::is_signed_v<From> && value < 0 && !std::is_signed_v<To>) return std::nullopt;
  To out = static_cast<To>(value);
  if (static_cast<From>(out) != value || ((out < 0) != (value < 0))) return std::nullopt;
  return out;
}

// value rounded up to a multiple of `step` (> 0). REQUIRES: no overflow (sizes already bounded).
constexpr int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
constexpr int64_t CeilDiv(int64_t value, int64_t by) { return (value + by - 1) / by; }

}  // namespace tern

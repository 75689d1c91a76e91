// An array between guard bytes, at a chosen misalignment: a kernel that writes outside its output is seen.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace tern {

template <class T>
class Guarded {
 public:
  // `shift`: elements that the array is moved off 64-byte alignment.
  explicit Guarded(int64_t n, int64_t shift = 0)
      : n_(n), shift_(shift), bytes_((n + shift) * static_cast<int64_t>(sizeof(T)) + 3 * kGuard, kFill) {
    auto at = reinterpret_cast<uintptr_t>(bytes_.data()) + kGuard;
    at = (at + 63) / 64 * 64 + static_cast<uintptr_t>(shift) * sizeof(T);
    data_ = reinterpret_cast<T*>(at);
    for (int64_t i = 0; i < n; ++i) data_[i] = T{};
  }
  Guarded(const Guarded& other) : Guarded(other.n_, other.shift_) {
    if (n_ > 0) std::memcpy(data_, other.data_, static_cast<size_t>(n_) * sizeof(T));
  }
  Guarded& operator=(const Guarded&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return n_; }
  std::vector<T> ToVector() const { return {data_, data_ + n_}; }
  bool intact() const {
    const auto* begin = reinterpret_cast<const uint8_t*>(data_);
    const auto* end = reinterpret_cast<const uint8_t*>(data_ + n_);
    for (const uint8_t* p = bytes_.data(); p < begin; ++p)
      if (*p != kFill) return false;
    for (const uint8_t* p = end; p < bytes_.data() + bytes_.size(); ++p)
      if (*p != kFill) return false;
    return true;
  }

 private:
  static constexpr int64_t kGuard = 128;
  static constexpr uint8_t kFill = 0xa5;
  int64_t n_, shift_;
  std::vector<uint8_t> bytes_;
  T* data_;
};

// True if every byte is the same (NaN equals NaN of the same bits).
template <class T>
bool SameBits(const T* a, const T* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * sizeof(T)) == 0;
}

}  // namespace tern

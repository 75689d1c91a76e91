// The k largest of a stream: a heap of (value, index) in the caller's arrays, the worst on top. Worse: smaller, or
// equal and of higher index.
#pragma once

#include <cstdint>

namespace tern {

struct TopK {
  float* values;
  int32_t* indices;
  int64_t count;

  bool Worse(int64_t a, int64_t b) const {
    return values[a] < values[b] || (values[a] == values[b] && indices[a] > indices[b]);
  }
  void Swap(int64_t a, int64_t b) {
    float v = values[a];
    int32_t i = indices[a];
    values[a] = values[b];
    indices[a] = indices[b];
    values[b] = v;
    indices[b] = i;
  }
  void SiftDown(int64_t at) {
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
      if (child + 1 < count && Worse(child + 1, child)) ++child;
      if (!Worse(child, at)) return;
      Swap(child, at);
    }
  }
  void Heapify() {
    for (int64_t i = count / 2 - 1; i >= 0; --i) SiftDown(i);
  }
  void ReplaceWorst(float value, int32_t index) {
    values[0] = value;
    indices[0] = index;
    SiftDown(0);
  }
  // Best first; destroys the heap.
  void Sort() {
    int64_t all = count;
    while (count > 1) {
      --count;
      Swap(0, count);
      SiftDown(0);
    }
    count = all;
  }
};

}  // namespace tern

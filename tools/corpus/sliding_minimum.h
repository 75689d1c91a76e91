// The least of every w neighbours, by doubling: 1, 2, 4 .. wide minima, each pass a vector instruction per few elements.
#pragma once

#include <cstdint>

namespace tern::corpus {

// values[i] becomes min(values[i, i + width)) for i in [0, count - width]; what stands behind is used up. REQUIRES: 1 <= width <= count.
void SlidingMinimum(uint64_t* values, int64_t count, int64_t width);

}  // namespace tern::corpus

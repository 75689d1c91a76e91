// Layout of ranges with known lifetimes in one arena.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/plan/plan.h"

namespace tern {

// Sets the offsets of `items` (bytes, first, last given), aligned to 64. Returns the arena's size, the smaller of two greedy orders. O(n^2).
int64_t LayOut(std::vector<Placement>* items);

// The most bytes live at one of `steps` ops, and at which.
int64_t LiveBound(const std::vector<Placement>& items, int32_t steps, int32_t* at);

}  // namespace tern

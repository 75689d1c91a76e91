#include "engine/plan/layout.h"

#include <algorithm>
#include <numeric>

#include "engine/base/checked.h"

namespace tern {
namespace {

// Puts items in `order` one after the other, each into the lowest gap between those already placed that live at the same time.
int64_t PlaceInOrder(const std::vector<size_t>& order, std::vector<Placement>* items) {
  int64_t end = 0;
  std::vector<const Placement*> placed, together;
  for (size_t i : order) {
    Placement& item = (*items)[i];
    together.clear();
    for (const Placement* other : placed)
      if (other->first <= item.last && item.first <= other->last) together.push_back(other);
    std::sort(together.begin(), together.end(), [](const Placement* a, const Placement* b) { return a->offset < b->offset; });
    // The smallest gap that fits, as TFLite does; else behind the last.
    int64_t at = 0, best = -1, best_gap = 0;
    for (const Placement* other : together) {
      int64_t gap = other->offset - at;
      if (gap >= item.bytes && (best < 0 || gap < best_gap)) best = at, best_gap = gap;
      at = std::max(at, RoundUp(other->offset + other->bytes, 64));
    }
    item.offset = best >= 0 ? best : at;
    end = std::max(end, item.offset + item.bytes);
    placed.push_back(&item);
  }
  return end;
}

}  // namespace

int64_t LiveBound(const std::vector<Placement>& items, int32_t steps, int32_t* at) {
  std::vector<int64_t> live(static_cast<size_t>(steps) + 1);
  for (const Placement& p : items)
    for (int32_t s = p.first; s <= p.last && s < steps; ++s) live[static_cast<size_t>(s)] += RoundUp(p.bytes, 64);
  auto most = std::max_element(live.begin(), live.end());
  if (at) *at = static_cast<int32_t>(most - live.begin());
  return *most;
}

int64_t LayOut(std::vector<Placement>* items) {
  std::vector<size_t> by_size(items->size()), by_breadth;
  std::iota(by_size.begin(), by_size.end(), size_t{0});
  auto larger = [&](size_t a, size_t b) {
    const Placement &x = (*items)[a], &y = (*items)[b];
    return x.bytes != y.bytes ? x.bytes > y.bytes : x.first < y.first;
  };
  std::stable_sort(by_size.begin(), by_size.end(), larger);

  // Breadth: ops in descending order of live bytes, and within one op its ranges by size.
  int32_t steps = 0;
  for (const Placement& p : *items) steps = std::max(steps, p.last + 1);
  std::vector<int64_t> live(static_cast<size_t>(steps));
  for (const Placement& p : *items)
    for (int32_t s = p.first; s <= p.last; ++s) live[static_cast<size_t>(s)] += p.bytes;
  std::vector<int32_t> step_order(static_cast<size_t>(steps));
  std::iota(step_order.begin(), step_order.end(), 0);
  std::stable_sort(step_order.begin(), step_order.end(), [&](int32_t a, int32_t b) { return live[static_cast<size_t>(a)] > live[static_cast<size_t>(b)]; });
  std::vector<bool> taken(items->size());
  for (int32_t s : step_order)
    for (size_t i : by_size)
      if (!taken[i] && (*items)[i].first <= s && s <= (*items)[i].last) taken[i] = true, by_breadth.push_back(i);

  int64_t size_end = PlaceInOrder(by_size, items);
  std::vector<Placement> other = *items;
  int64_t breadth_end = PlaceInOrder(by_breadth, &other);
  if (breadth_end < size_end) *items = std::move(other);
  return std::min(size_end, breadth_end);
}

}  // namespace tern

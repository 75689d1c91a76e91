#include "engine/runtime/expert_pager.h"

#include <algorithm>

namespace tern {
namespace {

constexpr size_t kRemembered = 16;  // more is a prompt, whose choice says little about the next token's

}  // namespace

Result<int32_t> ExpertPager::AddLayer(std::string_view stack, std::span<const std::string> groups) {
  Layer layer;
  layer.stack = stack;
  layer.first = static_cast<int32_t>(experts_.size());
  layer.last.reserve(kRemembered);
  const int32_t number = static_cast<int32_t>(layers_.size());
  // Behind the last layer of its stack comes the first: the next token.
  layer.next = number;
  for (size_t i = 0; i < layers_.size(); ++i)
    if (layers_[i].stack == stack) {
      layer.next = static_cast<int32_t>(i);
      break;
    }
  for (size_t i = layers_.size(); i-- > 0;)
    if (layers_[i].stack == stack) {
      layers_[i].next = number;
      break;
    }
  for (const std::string& group : groups) {
    Expert e;
    e.range = file_->Group(group);
    const int64_t bytes = static_cast<int64_t>(e.range.bytes);
    if (options_.memory > 0 && bytes > options_.memory)
      return UsageError("--expert-memory does not hold a single expert").File(file_->path()).Got(Str(options_.memory, " bytes"), Str("at least ", bytes));
    if (file_->mapped()) file_->mapped()->Advise(MappedFile::Advice::kRandom, e.range.offset, e.range.bytes);
    experts_.push_back(e);
  }
  layers_.push_back(std::move(layer));
  stats_.experts = static_cast<int64_t>(experts_.size());
  return number;
}

void ExpertPager::Unlink(int32_t i) {
  Expert& e = experts_[static_cast<size_t>(i)];
  (e.newer >= 0 ? experts_[static_cast<size_t>(e.newer)].older : newest_) = e.older;
  (e.older >= 0 ? experts_[static_cast<size_t>(e.older)].newer : oldest_) = e.newer;
}

void ExpertPager::Use(int32_t i) {
  Expert& e = experts_[static_cast<size_t>(i)];
  if (e.resident) Unlink(i);
  e.resident = true, e.newer = -1, e.older = newest_;
  if (newest_ >= 0) experts_[static_cast<size_t>(newest_)].newer = i;
  newest_ = i;
  if (oldest_ < 0) oldest_ = i;
}

void ExpertPager::MakeRoom(int64_t bytes) {
  while (options_.memory > 0 && stats_.resident_bytes + bytes > options_.memory && oldest_ >= 0) {
    const int32_t i = oldest_;
    Expert& e = experts_[static_cast<size_t>(i)];
    Unlink(i);
    e.resident = false;
    stats_.resident_bytes -= static_cast<int64_t>(e.range.bytes);
    ++stats_.evictions;
    if (file_->mapped()) file_->mapped()->Advise(MappedFile::Advice::kEvict, e.range.offset, e.range.bytes);
  }
}

void ExpertPager::Fetch(int32_t i) {
  Expert& e = experts_[static_cast<size_t>(i)];
  if (!e.resident) {
    const int64_t bytes = static_cast<int64_t>(e.range.bytes);
    MakeRoom(bytes);
    stats_.resident_bytes += bytes;
    if (const MappedFile* mapped = file_->mapped()) {
      stats_.bytes_read += std::max<int64_t>(0, bytes - std::max<int64_t>(0, mapped->ResidentBytes(e.range.offset, e.range.bytes)));
      mapped->Advise(MappedFile::Advice::kWillNeed, e.range.offset, e.range.bytes);
    }
  }
  Use(i);
}

int64_t ExpertPager::Wave(int32_t layer, std::span<int32_t> experts) {
  if (options_.memory <= 0) return static_cast<int64_t>(experts.size());
  std::lock_guard<std::mutex> lock(mutex_);
  const int32_t first = layers_[static_cast<size_t>(layer)].first;
  std::partition(experts.begin(), experts.end(), [&](int32_t e) { return experts_[static_cast<size_t>(first + e)].resident; });
  int64_t bytes = 0, count = 0;
  for (int32_t e : experts) {
    bytes += static_cast<int64_t>(experts_[static_cast<size_t>(first + e)].range.bytes);
    if (count > 0 && bytes > options_.memory) break;
    ++count;
  }
  return count;
}

void ExpertPager::Need(int32_t layer, std::span<const int32_t> experts) {
  std::lock_guard<std::mutex> lock(mutex_);
  Layer& l = layers_[static_cast<size_t>(layer)];
  // Resident ones first become the newest, so that making room for the others does not take them.
  for (int32_t e : experts) {
    Expert& expert = experts_[static_cast<size_t>(l.first + e)];
    ++stats_.requests;
    if (!expert.touched) expert.touched = true, ++stats_.touched;
    if (!expert.resident) continue;
    ++stats_.hits;
    Use(l.first + e);
  }
  for (int32_t e : experts)
    if (!experts_[static_cast<size_t>(l.first + e)].resident) Fetch(l.first + e);
  l.last.clear();
  if (experts.size() <= kRemembered) l.last.assign(experts.begin(), experts.end());
}

void ExpertPager::PrefetchAfter(int32_t layer) {
  if (!options_.prefetch) return;
  std::lock_guard<std::mutex> lock(mutex_);
  const Layer& next = layers_[static_cast<size_t>(layers_[static_cast<size_t>(layer)].next)];
  int64_t room = options_.memory;
  for (int32_t e : next.last) {
    const Expert& expert = experts_[static_cast<size_t>(next.first + e)];
    // What this layer is reading must stay: at most half of the memory is given to a guess.
    room -= 2 * static_cast<int64_t>(expert.range.bytes);
    if (expert.resident || (options_.memory > 0 && room < 0)) continue;
    ++stats_.prefetched;
    Fetch(next.first + e);
  }
}

ExpertPager::Stats ExpertPager::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

}  // namespace tern

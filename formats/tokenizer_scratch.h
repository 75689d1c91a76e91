// ScratchPool: working memory that const, thread-safe methods borrow for one call, so that a call allocates nothing
// once warm.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace tern {

template <class T>
class ScratchPool {
 public:
  // A used one, or null if all are out.
  std::unique_ptr<T> Take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return nullptr;
    auto out = std::move(free_.back());
    free_.pop_back();
    return out;
  }
  void Give(std::unique_ptr<T> scratch) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace tern

// CancelToken: set from any thread (or a signal handler), polled by long work per operation and per tile.
#pragma once

#include <atomic>

namespace tern {

class CancelToken {
 public:
  void Cancel() { flag_.store(true, std::memory_order_relaxed); }
  void Reset() { flag_.store(false, std::memory_order_relaxed); }
  bool cancelled() const { return flag_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> flag_{false};
};
static_assert(std::atomic<bool>::is_always_lock_free, "Cancel() is called from signal handlers");

}  // namespace tern

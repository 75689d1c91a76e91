#include "tools/corpus/pipeline.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace tern::corpus {
namespace {

Status Cancelled() { return Status(Code::kCancelled, "stopped"); }

// What the threads of one run share.
class Run {
 public:
  Run(const Pipeline& p, int items) : p_(p), failed_(static_cast<size_t>(items)), ready_(static_cast<size_t>(items), -1) {
    for (int i = 0; i < items; ++i) free_.push_back(i);
  }

  void Work(int worker) {
    for (;;) {
      int item;
      {
        // An item is free, or will be: the oldest taken one is always on its way out.
        std::unique_lock lock(mu_);
        wake_.wait(lock, [&] { return stopped_ || !free_.empty(); });
        if (stopped_) return;
        item = free_.back();
        free_.pop_back();
      }
      int64_t number;
      Status status;
      {
        std::lock_guard taking(take_mu_);
        if (ended_) return Give(item);
        bool more = false;
        status = p_.cancel && p_.cancel->cancelled() ? Cancelled() : Guarded([&]() -> Status {
          TERN_ASSIGN(more, p_.take(item));
          return {};
        });
        if (status.ok() && !more) {
          ended_ = true;
          return Give(item);
        }
        if (!status.ok()) ended_ = true;
        number = taken_++;
      }
      if (status.ok() && p_.work) status = Guarded([&] { return p_.work(item, worker); });
      HandOn(item, number, std::move(status));
    }
  }

  Status TakeStatus() { return std::move(first_failure_); }

 private:
  void Give(int item) {
    std::lock_guard lock(mu_);
    free_.push_back(item);
    wake_.notify_all();
  }

  // Puts the item in its place of the order; the thread that finds the next one due hands on all that are due.
  void HandOn(int item, int64_t number, Status status) {
    std::unique_lock lock(mu_);
    const int64_t slots = static_cast<int64_t>(ready_.size());
    ready_[static_cast<size_t>(number % slots)] = item;  // at most `slots` items are under way, so their numbers differ modulo slots
    failed_[static_cast<size_t>(item)] = std::move(status);
    if (draining_) return;
    draining_ = true;
    for (;;) {
      int& due = ready_[static_cast<size_t>(next_ % slots)];
      if (due < 0 || stopped_) break;
      int now = due;
      due = -1;
      Status outcome = std::move(failed_[static_cast<size_t>(now)]);
      lock.unlock();
      if (outcome.ok() && p_.hand_on) outcome = Guarded([&] { return p_.hand_on(now); });
      lock.lock();
      ++next_;
      free_.push_back(now);
      if (!outcome.ok()) {
        first_failure_ = std::move(outcome);
        stopped_ = true;
      }
      wake_.notify_all();
    }
    draining_ = false;
  }

  const Pipeline& p_;
  std::mutex take_mu_, mu_;
  std::condition_variable wake_;
  std::vector<int> free_;
  std::vector<Status> failed_;
  std::vector<int> ready_;
  int64_t taken_ = 0, next_ = 0;
  bool ended_ = false, stopped_ = false, draining_ = false;
  Status first_failure_;
};

}  // namespace

Status Guarded(const std::function<Status()>& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return MemoryError("out of memory").Hint("Lower --max-memory or --threads");
  } catch (const std::exception& e) {
    return InternalError(e.what());
  }
}

Status Pipeline::Run() const {
  const int n = threads < 1 ? 1 : threads;
  corpus::Run run(*this, ItemsFor(n));
  std::vector<std::thread> others;
  Status spawned = Guarded([&]() -> Status {
    for (int i = 1; i < n; ++i) others.emplace_back([&run, i] { run.Work(i); });
    return {};
  });
  (void)spawned;  // fewer threads than asked for do the same work
  run.Work(0);
  for (std::thread& t : others) t.join();
  return run.TakeStatus();
}

Status ForChunks(int threads, int64_t chunks, const CancelToken* cancel, const std::function<Status(int64_t chunk, int worker)>& f) {
  std::atomic<int64_t> next{0}, lowest_failed{std::numeric_limits<int64_t>::max()};
  std::mutex mu;
  Status failure;
  auto work = [&](int worker) {
    for (int64_t i; (i = next.fetch_add(1)) < chunks && i < lowest_failed.load();) {
      Status s = cancel && cancel->cancelled() ? Cancelled() : Guarded([&] { return f(i, worker); });
      if (s.ok()) continue;
      std::lock_guard lock(mu);
      if (i < lowest_failed.load()) {
        lowest_failed = i;
        failure = std::move(s);
      }
    }
  };
  std::vector<std::thread> others;
  int n = static_cast<int>(threads < chunks ? threads : chunks);
  Status spawned = Guarded([&]() -> Status {
    for (int i = 1; i < n; ++i) others.emplace_back([&work, i] { work(i); });
    return {};
  });
  (void)spawned;
  work(0);
  for (std::thread& t : others) t.join();
  return failure;
}

}  // namespace tern::corpus

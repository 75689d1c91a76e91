#include "engine/base/parallel.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <sched.h>

#include <atomic>
#include <optional>
#include <thread>

namespace tern {
namespace {

inline void CpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins shortly, then yields: a worker whose core is wanted by someone else must not hold it.
class Backoff {
 public:
  void Wait() {
    if (++spins_ < 4000) CpuRelax();
    else std::this_thread::yield();
  }

 private:
  int spins_ = 0;
};

}  // namespace

// One job at a time. `ticket` packs (job number << 32 | next chunk): a late worker that still holds an old job number cannot claim a chunk of a new job,
// because its compare-and-swap fails. The job's fields are written before the ticket is published.
struct Gang::Shared {
  static constexpr uint64_t kClosed = 0xffffffff;  // as "next chunk": beyond any count
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<bool> open{false};  // Run is in progress
  std::atomic<int64_t> chunks{0};
  std::atomic<ChunkFn> fn{nullptr};
  std::atomic<void*> arg{nullptr};
  uint32_t job = 0;
  std::optional<oneapi::tbb::global_control> more;  // oneTBB warns on stderr about an arena above its limit: a library must not print
  std::unique_ptr<oneapi::tbb::task_arena> arena;

  // Claims and runs chunks of job `number` until none is left.
  void Drain(uint32_t number, int64_t count, ChunkFn f, void* a, int worker) {
    uint64_t t = ticket.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(t >> 32) == number && static_cast<int64_t>(t & 0xffffffff) < count) {
      if (ticket.compare_exchange_weak(t, t + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        f(a, static_cast<int64_t>(t & 0xffffffff), worker);
        done.fetch_add(1, std::memory_order_release);
        t = ticket.load(std::memory_order_acquire);
      }
    }
  }
};

Gang::Gang(int threads) : threads_(threads > 0 ? threads : AvailableThreads()), shared_(std::make_unique<Shared>()) {
  if (threads_ > AvailableThreads())
    shared_->more.emplace(oneapi::tbb::global_control::max_allowed_parallelism, static_cast<size_t>(threads_));
  if (threads_ > 1) shared_->arena = std::make_unique<oneapi::tbb::task_arena>(threads_, 1);
}
Gang::~Gang() = default;

void Gang::Work(int worker) {
  Shared& s = *shared_;
  Backoff backoff;
  uint32_t seen = static_cast<uint32_t>(s.ticket.load(std::memory_order_acquire) >> 32);
  while (s.open.load(std::memory_order_acquire)) {
    uint64_t t = s.ticket.load(std::memory_order_acquire);
    uint32_t number = static_cast<uint32_t>(t >> 32);
    int64_t count = s.chunks.load(std::memory_order_acquire);
    ChunkFn f = s.fn.load(std::memory_order_acquire);
    void* a = s.arg.load(std::memory_order_acquire);
    // An open ticket was published after its fields, and is closed before a field changes: if it was open when read and still says `number`, the fields are
    // that job's. Drain's compare-and-swap repeats the check. (A closed one may already carry the next number while the fields are still the last job's.)
    const bool open = (t & Shared::kClosed) != Shared::kClosed;
    if (number != seen && open && static_cast<uint32_t>(s.ticket.load(std::memory_order_acquire) >> 32) == number && f) {
      s.Drain(number, count, f, a, worker);
      seen = number;
      backoff = Backoff();
    } else {
      backoff.Wait();
    }
  }
}

void Gang::RunErased(void (*body)(void*), void* arg) {
  if (threads_ <= 1) return body(arg);
  Shared& s = *shared_;
  s.open.store(true, std::memory_order_release);
  const auto caller = std::this_thread::get_id();
  bool ran = false;  // touched by the caller only
  std::atomic<int> next_worker{1};
  s.arena->execute([&] {
    oneapi::tbb::parallel_for(
        0, threads_,
        [&](int) {
          if (std::this_thread::get_id() != caller) return Work(next_worker.fetch_add(1, std::memory_order_relaxed));
          if (ran) return;  // too few workers came: the caller's second share is empty
          ran = true;
          body(arg);
          s.open.store(false, std::memory_order_release);
        },
        oneapi::tbb::static_partitioner());
  });
}

void Gang::ForErased(int64_t chunks, ChunkFn f, void* arg) {
  Shared& s = *shared_;
  if (chunks <= 0) return;
  constexpr int64_t kMaxChunks = int64_t{1} << 31;
  if (threads_ <= 1 || chunks == 1 || chunks > kMaxChunks || !s.open.load(std::memory_order_relaxed)) {
    for (int64_t i = 0; i < chunks; ++i) f(arg, i, 0);
    return;
  }
  uint32_t number = ++s.job;
  s.ticket.store(static_cast<uint64_t>(number) << 32 | Shared::kClosed, std::memory_order_release);
  s.done.store(0, std::memory_order_relaxed);
  s.chunks.store(chunks, std::memory_order_release);
  s.fn.store(f, std::memory_order_release);
  s.arg.store(arg, std::memory_order_release);
  s.ticket.store(static_cast<uint64_t>(number) << 32, std::memory_order_release);
  s.Drain(number, chunks, f, arg, 0);
  Backoff backoff;
  while (s.done.load(std::memory_order_acquire) < chunks) backoff.Wait();
}

int AvailableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    int n = CPU_COUNT(&set);
    if (n > 0) return n;
  }
  unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

}  // namespace tern

// Parallel: the only user of oneTBB. A gang of workers that stays together for the whole of one inference.
//
// Within Run(body) the calling thread executes `body`, and every gang.For(chunks, f) inside it is shared with the workers: chunks are claimed from an
// atomic counter, so a result may not depend on who runs a chunk, only on its number. Between two For calls the workers spin (then yield), which makes
// a For cost about 0.1 us rather than the microseconds of a new parallel region (specs: one region per inference).
//
// Correct with fewer workers than asked for, or none: the caller claims chunks too. One Gang is used by one thread at a time; Run does not nest.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace tern {

class Gang {
 public:
  // threads >= 1; 1 never touches oneTBB. 0 asks for the number of processors this process may use.
  explicit Gang(int threads);
  ~Gang();
  Gang(const Gang&) = delete;
  Gang& operator=(const Gang&) = delete;

  int threads() const { return threads_; }

  template <class Body>  // void()
  void Run(Body&& body) {
    RunErased([](void* b) { (*static_cast<std::remove_reference_t<Body>*>(b))(); }, const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Calls f(chunk, worker) for chunk = 0..chunks-1, 0 <= worker < threads(); returns when all are done. Outside Run, or with one thread or one chunk, in order
  // on the calling thread. Allocates nothing. f must not throw and must not call For.
  template <class F>  // void(int64_t chunk, int worker)
  void For(int64_t chunks, F&& f) {
    ForErased(chunks, [](void* g, int64_t chunk, int worker) { (*static_cast<std::remove_reference_t<F>*>(g))(chunk, worker); },
              const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using ChunkFn = void (*)(void*, int64_t chunk, int worker);
  void RunErased(void (*body)(void*), void* arg);
  void ForErased(int64_t chunks, ChunkFn f, void* arg);
  struct Shared;
  void Work(int worker);

  int threads_;
  std::unique_ptr<Shared> shared_;
};

int AvailableThreads();  // processors this process may run on (affinity), at least 1

}  // namespace tern

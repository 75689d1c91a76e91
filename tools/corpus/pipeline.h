// An ordered pipeline on a few threads: take the next item (serial), work on it (parallel), hand it on (serial, in the order taken). Memory is bounded by
// the number of items; what comes out does not depend on the number of threads. (The gang of engine/base/parallel.h splits work that is all there; here
// reading, work and writing overlap, which needs threads that wait.)
#pragma once

#include <functional>

#include "engine/base/cancel.h"
#include "engine/base/status.h"

namespace tern::corpus {

// Runs f and turns what it throws into a Status: nothing leaves a thread, or a rank, but a value.
Status Guarded(const std::function<Status()>& f);

struct Pipeline {
  int threads = 1;
  const CancelToken* cancel = nullptr;
  // Each gets an item index below ItemsFor(threads), of which a pipeline uses each for one thing at a time.
  std::function<Result<bool>(int item)> take;          // false: there is no more. One thread at a time
  std::function<Status(int item, int worker)> work;    // any thread; worker < threads
  std::function<Status(int item)> hand_on;             // one thread at a time, in the order of take

  static int ItemsFor(int threads) { return threads == 1 ? 1 : 3 * threads; }
  // The first failure in the order of the items. Exceptions of the three functions become kMemory or kInternal.
  Status Run() const;
};

// f(chunk, worker) for chunk = 0..chunks-1 on `threads` threads, in any order. The failure of the lowest chunk is given.
Status ForChunks(int threads, int64_t chunks, const CancelToken* cancel, const std::function<Status(int64_t chunk, int worker)>& f);

}  // namespace tern::corpus

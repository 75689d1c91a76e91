// The clock of `tern bench`: warm-up, repeats, processor time, and what this machine can do at best.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/memory.h"
#include "engine/base/parallel.h"
#include "engine/base/status.h"
#include "engine/kernels/kernels.h"
#include "tools/verb.h"

namespace tern {

// The flags every kind of bench takes.
struct RepeatFlags {
  int64_t threads = 1, warmup = 2, repeat = 5;
  double min_seconds = 0.3;
  std::optional<std::string> svg;
  void Declare(Arguments& args);
};

// One number per repeat, in seconds; processor time of the process per repeat.
struct Measured {
  std::vector<double> seconds;
  double cpu_seconds = 0;
  double Median() const;
  double Spread() const;  // (upper quartile - lower quartile) / median
};

// Runs `body` `warmup` times untimed, then until there are `repeat` repeats and `min_seconds` have passed. Repeats shorter than a millisecond are timed in
// batches; at most kMostNumbers numbers. kCancelled between two repeats; a failure of `body` ends it.
constexpr size_t kMostNumbers = 1000;
Result<Measured> Repeat(const RepeatFlags& flags, const CancelToken& cancel, const std::function<Status()>& body);

// The limits of this machine, measured in this process: multiply-adds that never leave the registers, and reading more memory than the last cache holds.
struct Machine {
  double fma_gflops_1t = 0, read_gbps_1t = 0;
  double fma_gflops = 0, read_gbps = 0;  // all `threads` at once
};
// Reads `memory` (page-aligned; a mapped model, say) if it is large enough, else a buffer of its own, which shows in the process's peak memory.
Result<Machine> MeasureMachine(int64_t threads, const KernelTable& kernels, std::span<const uint8_t> memory = {});
// Reading `bytes` at `data` (64-byte aligned), which may fit a cache: all threads at once, each its part. What a product that reads its weights once can take.
double NearReadGbps(int64_t threads, const KernelTable& kernels, const void* data, int64_t bytes);
Json MachineJson(const Machine& machine);

// kMemory, before anything is asked of the system, if `bytes` is more than this process may still use.
Result<Region> Allocate(int64_t bytes);
// Independent, about normal (a sum of uniforms), mean 0, variance scale^2; the same for the same seed.
void FillNormal(uint64_t seed, float scale, int64_t n, float* out);

// The keys every kind shares.
Json CommonJson(const std::string& verb, const Measured& measured, const Machine& machine);

}  // namespace tern

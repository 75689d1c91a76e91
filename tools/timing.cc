#include "tools/timing.h"

#include <time.h>

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"
#include "engine/kernels/kernels.h"

namespace tern {
namespace {

// More than a core's own caches hold by far. (What a virtual machine shows as its last cache is the host's.)
constexpr int64_t kReadBytes = 256 << 20;

double Now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  auto at = static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(at), values.end());
  return values[at];
}

}  // namespace

void RepeatFlags::Declare(Arguments& args) {
  args.Heading("Measuring");
  args.Threads(&threads);
  args.Integer("--warmup", &warmup, 0, 1'000'000, "untimed repeats first");
  args.Integer("--repeat", &repeat, 1, static_cast<int64_t>(kMostNumbers), "least number of timed repeats");
  args.Real("--min-seconds", &min_seconds, 0, 3600, "least seconds of timed repeats");
  args.Path("--svg", &svg, "also write the table as a picture; of a mixture of experts: how many tokens each took, layer by layer");
}

double Measured::Median() const { return Quantile(seconds, 0.5); }
double Measured::Spread() const {
  double median = Median();
  return median > 0 ? (Quantile(seconds, 0.75) - Quantile(seconds, 0.25)) / median : 0;
}

Result<Measured> Repeat(const RepeatFlags& flags, const CancelToken& cancel, const std::function<Status()>& body) {
  auto run = [&](int64_t times) -> Status {
    for (int64_t i = 0; i < times; ++i) {
      if (cancel.cancelled()) return Status(Code::kCancelled, "stopped");
      TERN_RETURN_IF_ERROR(body());
    }
    return {};
  };
  TERN_RETURN_IF_ERROR(run(flags.warmup));
  // How many repeats one number stands for: at least a millisecond, and few enough numbers. Doubled until it is long enough.
  const double least = std::max(1e-3, flags.min_seconds / (0.9 * static_cast<double>(kMostNumbers)));
  Measured measured;
  int64_t batch = 1, done = 0;
  double total = 0, cpu = 0;
  while ((done < flags.repeat || total < flags.min_seconds) && measured.seconds.size() < kMostNumbers) {
    double cpu_begin = Now(CLOCK_PROCESS_CPUTIME_ID), begin = Now(CLOCK_MONOTONIC);
    TERN_RETURN_IF_ERROR(run(batch));
    double took = Now(CLOCK_MONOTONIC) - begin;
    if (took < least && batch < (int64_t{1} << 30)) {  // too short to tell: not counted
      batch = took * 16 < least ? batch * 8 : batch * 2;
      continue;
    }
    cpu += Now(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
    total += took;
    done += batch;
    measured.seconds.push_back(took / static_cast<double>(batch));
  }
  measured.cpu_seconds = cpu / static_cast<double>(done);
  return measured;
}

Result<Machine> MeasureMachine(int64_t threads, const KernelTable& kernels, std::span<const uint8_t> memory) {
  Region own;
  if (memory.size() < (32 << 20)) {
    TERN_ASSIGN(own, Allocate(kReadBytes));
    memory = {own.data(), static_cast<size_t>(own.bytes())};
  }
  // Each thread reads its own part; whole pages.
  const int64_t whole = static_cast<int64_t>(std::min<size_t>(memory.size(), kReadBytes)) / 4096 * 4096;
  const int64_t part = whole / threads / 4096 * 4096;
  Machine m;
  m.fma_gflops_1t = PeakGflops(kernels);
  m.read_gbps_1t = ReadGbps(kernels, memory.data(), whole);
  m.fma_gflops = m.fma_gflops_1t, m.read_gbps = m.read_gbps_1t;
  if (threads == 1) return m;
  Gang gang(static_cast<int>(threads));
  std::vector<double> fma(static_cast<size_t>(threads)), read(fma);
  gang.Run([&] {
    gang.For(threads, [&](int64_t i, int) { fma[static_cast<size_t>(i)] = PeakGflops(kernels); });
    gang.For(threads, [&](int64_t i, int) { read[static_cast<size_t>(i)] = ReadGbps(kernels, memory.data() + i * part, part); });
  });
  m.fma_gflops = m.read_gbps = 0;
  for (double g : fma) m.fma_gflops += g;
  for (double g : read) m.read_gbps += g;
  return m;
}

double NearReadGbps(int64_t threads, const KernelTable& kernels, const void* data, int64_t bytes) {
  const int64_t part = std::max<int64_t>(bytes / threads / 256, 1) * 256;  // one thread's; they do not share a cache
  return part > bytes ? 0 : static_cast<double>(threads) * ReadGbps(kernels, data, part, 0.03);
}

Json MachineJson(const Machine& m) { return {{"fma_gflops_1t", m.fma_gflops_1t}, {"read_gbps_1t", m.read_gbps_1t}}; }

Result<Region> Allocate(int64_t bytes) {
  if (int64_t available = AvailableMemory(); bytes > available) {
    return MemoryError("too large for this machine").Got(HumanBytes(bytes), "at most " + HumanBytes(available));
  }
  return Region::Create(bytes);
}

void FillNormal(uint64_t seed, float scale, int64_t n, float* out) {
  const float s = scale * std::sqrt(3.0f) / 65536;  // four uniforms of 16 bits: variance 4/12
  for (int64_t i = 0; i < n; ++i) {
    uint64_t bits = RandomBits(seed, static_cast<uint64_t>(i));
    int64_t sum = static_cast<int64_t>((bits & 65535) + (bits >> 16 & 65535) + (bits >> 32 & 65535) + (bits >> 48)) - 2 * 65535;
    out[i] = s * static_cast<float>(sum);
  }
}

Json CommonJson(const std::string& verb, const Measured& measured, const Machine& machine) {
  return {{"verb", verb}, {"seconds", measured.seconds}, {"cpu_seconds", measured.cpu_seconds}, {"peak_rss_bytes", PeakResidentBytes()},
          {"machine", MachineJson(machine)}};
}

}  // namespace tern

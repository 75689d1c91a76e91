// Attention kernels against the FMA peak measured in the same run, one thread: percent of peak, median of the turns (times: best).
//   attention_bench [--target NAME] [--filter TEXT] [--seconds S]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/kernels/attention.h"
#include "engine/kernels/kernels.h"

using namespace tern;

namespace {

struct Work {
  const char* name;
  int64_t T, S, H, Dh;
  bool causal, xl;
  int64_t clamp;
  DType type = DType::f32;
};

struct Memory {
  explicit Memory(int64_t bytes) : p(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>((bytes + 127) / 64 * 64)))) {}
  ~Memory() { std::free(p); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* p;
};

double Seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Floating-point operations that cannot be avoided: 4 Dh for each (query, valid key), 2 Dh more where the distance is below the clamp (Transformer-XL).
double Flops(const Work& w, int64_t window) {
  double pairs = 0, near = 0;
  for (int64_t i = w.S - w.T; i < w.S; ++i) {
    int64_t keys = w.causal ? i + 1 : w.S;
    if (window > 0) keys = std::min(keys, window);
    pairs += static_cast<double>(keys);
    near += static_cast<double>(std::min(keys, w.clamp));
  }
  return static_cast<double>(w.Dh * w.H) * (4 * pairs + (w.xl ? 2 * near : 0));
}

// GFLOP/s of the register loop, the mean over a millisecond: kernels are timed over as long a window, and on a shared machine the best 30 us of one
// say nothing about the mean of the other.
double Peak(const KernelTable& kernels) {
  int64_t done = 0;
  const double start = Seconds();
  do done += kernels.fma_loop(2000);
  while (Seconds() - start < 0.001);
  return static_cast<double>(done) / (Seconds() - start) * 1e-9;
}

void Measure(const Work& w, const KernelTable& kernels, double seconds) {
  const int64_t D = w.H * w.Dh;
  std::vector<float> q(static_cast<size_t>(w.T * D)), out(q.size()), rows(static_cast<size_t>(w.S * D)), rk(static_cast<size_t>((w.clamp + 1) * D));
  uint64_t state = 12345;
  auto fill = [&](std::vector<float>& v) {
    for (float& f : v) f = static_cast<float>(static_cast<int64_t>(state = state * 6364136223846793005ull + 1442695040888963407ull) >> 40) * 0x1p-22f;
  };
  fill(q), fill(rows), fill(rk);
  std::vector<float> bias(static_cast<size_t>(w.Dh), 0.1f);
  const int64_t kv_bytes = KvBytes(w.S, w.Dh, w.Dh, w.type), distance_bytes = DistancePanelsBytes(w.clamp, w.Dh);
  Memory kv_memory(kv_bytes * w.H), distances(distance_bytes * w.H), workspace(AttentionWorkspaceBytes(w.Dh, w.Dh, w.type));
  std::vector<AttentionArgs> heads;
  for (int64_t h = 0; h < w.H; ++h) {
    AttentionArgs a;
    a.q = q.data() + h * w.Dh, a.out = out.data() + h * w.Dh;
    a.q_stride = a.out_stride = D;
    a.n_tokens = w.T;
    a.q_position = w.S - w.T;
    a.kv = MakeKvPanels(kv_memory.p + h * kv_bytes, w.S, w.Dh, w.Dh, w.type);
    AppendKv(a.kv, 0, w.S, rows.data() + h * w.Dh, D, rows.data() + h * w.Dh, D);
    a.scale = 1 / std::sqrt(static_cast<float>(w.Dh));
    a.last_key = w.S - 1;
    a.causal = w.causal;
    if (w.xl) {
      float* panels = reinterpret_cast<float*>(distances.p + h * distance_bytes);
      PackDistances(rk.data() + h * w.Dh, D, w.clamp, w.Dh, panels);
      a.distances = panels, a.max_distance = w.clamp, a.u = a.v = bias.data();
      a.window = w.S - w.T > 0 ? w.S - w.T : 0;  // same_length
    }
    heads.push_back(a);
  }
  const double flops = Flops(w, heads[0].window);
  double best = 1e9, start = Seconds();
  std::vector<double> shares;
  const int64_t block = AttentionBlockTokens(w.T, 1);
  size_t next = 0;
  double before = Peak(kernels);
  for (int turn = 0; turn < 5 || Seconds() - start < seconds; ++turn) {
    const double t0 = Seconds();
    int64_t calls = 0;
    do {  // heads in turn, at least a millisecond
      const AttentionArgs& a = heads[next++ % heads.size()];
      for (int64_t t = 0; t < w.T; t += block) kernels.attend(a, t, std::min(w.T, t + block), workspace.p);
      ++calls;
    } while (Seconds() - t0 < 0.001);
    const double each = (Seconds() - t0) / static_cast<double>(calls) * static_cast<double>(w.H);
    const double after = Peak(kernels);
    best = std::min(best, each);
    shares.push_back(flops / each * 1e-9 / ((before + after) / 2));
    before = after;
  }
  const double read = w.T == 1 ? ReadGbps(kernels, kv_memory.p, kv_bytes * w.H / 256 * 256) : 0;
  std::sort(shares.begin(), shares.end());
  const double share = shares[shares.size() / 2], high = shares[shares.size() * 9 / 10];
  double append = 1e9;
  for (int turn = 0; turn < 20; ++turn) {
    const double t0 = Seconds();
    for (int64_t h = 0; h < w.H; ++h) AppendKv(heads[static_cast<size_t>(h)].kv, 0, w.S, rows.data() + h * w.Dh, D, rows.data() + h * w.Dh, D);
    append = std::min(append, Seconds() - t0);
  }
  const double bytes = 2.0 * static_cast<double>(w.S * D) * static_cast<double>(DTypeBytes(w.type));
  std::printf("%-22s h=%-2ld d=%-3ld T=%-4ld S=%-5ld %9.1f us %7.1f GFLOP/s %5.1f %% of peak (90th percentile %5.1f)   K,V once: %6.1f GB/s, appending them %.1f us", w.name, w.H, w.Dh, w.T, w.S, best * 1e6,
              flops / best * 1e-9, share * 100, high * 100, bytes / best * 1e-9, append * 1e6);
  if (w.T == 1) std::printf(" (a plain read: %.1f)", read);
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::string target(KernelTargets()[0]), filter;
  double seconds = 0.2;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--target") == 0) target = argv[i + 1];
    if (std::strcmp(argv[i], "--filter") == 0) filter = argv[i + 1];
    if (std::strcmp(argv[i], "--seconds") == 0) seconds = std::atof(argv[i + 1]);
  }
  const KernelTable* kernels = KernelsFor(target);
  if (kernels == nullptr) {
    std::fprintf(stderr, "no target %s\n", target.c_str());
    return 2;
  }
  std::printf("target %s, FMA peak %.1f GFLOP/s\n", target.c_str(), Peak(*kernels));
  std::vector<Work> table;
  for (auto [h, d] : {std::pair<int64_t, int64_t>{4, 64}, {10, 41}}) {
    for (int64_t L : {128, 512, 2048, 4096}) {
      table.push_back({"full", L, L, h, d, false, false, 0});
      table.push_back({"causal", L, L, h, d, true, false, 0});
    }
    const int64_t shapes[][3] = {{1, 640, 400}, {64, 640, 400}, {128, 800, 400}, {128, 1600, 1000}, {128, 3800, 1000}, {512, 512, 1000}};
    for (auto [T, M, clamp] : shapes) table.push_back({"xl", T, M + T, h, d, true, true, clamp});
    for (DType type : {DType::f32, DType::bf16, DType::f16}) {
      table.push_back({type == DType::f32 ? "decode f32" : type == DType::bf16 ? "decode bf16" : "decode f16", 1, 65536, h, d, true, false, 0, type});
    }
  }
  for (const Work& w : table) {
    const std::string text = std::string(w.name) + " d=" + std::to_string(w.Dh) + " T=" + std::to_string(w.T) + " S=" + std::to_string(w.S);
    if (text.find(filter) != std::string::npos) Measure(w, *kernels, seconds);
  }
}

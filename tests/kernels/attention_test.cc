// The attention kernels against the formula in double, on every target; and what they promise about bits, rings and memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "engine/kernels/attention.h"
#include "tests/reference/attention_reference.h"

using namespace tern;
using reference::Attention;
using reference::AttentionResult;

namespace {

std::vector<std::string> Targets() {
  std::vector<std::string> names;
  for (const char* name : {"avx512", "avx2", "neon", "baseline"}) {
    if (AttentionFor(name) != nullptr) names.push_back(name);
  }
  return names;
}

struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t Next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  int64_t Below(int64_t n) { return static_cast<int64_t>(Next() >> 11) % n; }
  float Normal() {  // sum of uniforms: near enough
    double s = 0;
    for (int i = 0; i < 6; ++i) s += static_cast<double>(Next() >> 11) * 0x1p-53;
    return static_cast<float>((s - 3) * 1.4142135);
  }
  std::vector<float> Normals(int64_t n, float factor = 1) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& f : v) f = Normal() * factor;
    return v;
  }
};

// n numbers at a 64-byte boundary with guards on both sides; filled with NaN, so that what is read but never written shows.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t n) : bytes_(static_cast<size_t>(n) * sizeof(T)), memory_(bytes_ + 192, 0xff) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    offset_ = 64 + (64 - address % 64) % 64;
  }
  T* data() { return reinterpret_cast<T*>(memory_.data() + offset_); }
  bool intact() const {
    auto all = [](const unsigned char* p, size_t n) { return std::all_of(p, p + n, [](unsigned char c) { return c == 0xff; }); };
    return all(memory_.data(), offset_) && all(memory_.data() + offset_ + bytes_, memory_.size() - offset_ - bytes_);
  }

 private:
  size_t bytes_;
  std::vector<unsigned char> memory_;
  size_t offset_;
};

float Round(float f, DType type) {
  if (type == DType::bf16) return Bf16ToF32(F32ToBf16(f));
  if (type == DType::f16) return F16ToF32(F32ToF16(f));
  return f;
}

struct Options {
  DType type = DType::f32;
  int64_t ring_positions = 0;  // 0: as many as there are keys
  int64_t block = 0;           // tokens per call; 0: all at once
  bool paged = false;          // panels lie in another order, every second place unused
};

struct Output {
  std::vector<float> out, lse;
};

// Runs the kernels on a reference case. The keys are appended in chunks of uneven length.
Output Run(const std::string& target, const Attention& c, const Options& o = {}) {
  const int64_t positions = static_cast<int64_t>(c.Dh > 0 ? c.k.size() : c.v.size()) / std::max<int64_t>(1, c.Dh > 0 ? c.Dh : c.Dv);
  const int64_t ring = o.ring_positions > 0 ? o.ring_positions : c.first_position + positions;
  const int64_t panels = (ring + 15) / 16;
  Guarded<unsigned char> cache(KvBytes(o.paged ? 32 * panels : ring, c.Dh, c.Dv, o.type));
  KvPanels kv = MakeKvPanels(cache.data(), o.paged ? 32 * panels : ring, c.Dh, c.Dv, o.type);
  std::vector<int32_t> pages(static_cast<size_t>(panels));
  for (int64_t p = 0; p < panels; ++p) pages[static_cast<size_t>(p)] = static_cast<int32_t>(2 * (panels - 1 - p));
  if (o.paged) kv.n_panels = panels, kv.pages = pages.data();
  for (int64_t p = 0, n = 1; p < positions; p += n, n = n % 37 + 5) {
    n = std::min(n, positions - p);
    AppendKv(kv, c.first_position + p, n, c.k.data() + p * c.Dh, c.Dh, c.v.data() + p * c.Dv, c.Dv);
  }
  Guarded<float> distances(c.rk.empty() ? 0 : DistancePanelsBytes(c.max_distance, c.Dh) / 4);
  if (!c.rk.empty()) PackDistances(c.rk.data(), c.Dh, c.max_distance, c.Dh, distances.data());
  Guarded<unsigned char> workspace(AttentionWorkspaceBytes(c.Dh, c.Dv, o.type));
  Guarded<float> out(c.T * c.G * c.Dv), lse(c.T * c.G);

  AttentionArgs a;
  a.q = c.q.data();
  a.q_stride = c.G * c.Dh;
  a.q_head_stride = c.Dh;
  a.out = out.data();
  a.out_stride = c.G * c.Dv;
  a.out_head_stride = c.Dv;
  a.n_tokens = c.T;
  a.n_heads = c.G;
  a.q_position = c.q_position;
  a.kv = kv;
  a.scale = static_cast<float>(c.scale);
  a.first_key = c.first_key;
  a.last_key = c.last_key;
  a.causal = c.causal;
  a.window = c.window;
  if (!c.relative_bias.empty()) {
    a.relative_bias = c.relative_bias.data();
    a.relative_min = c.relative_min;
    a.relative_max = c.relative_max;
    a.relative_head_stride = c.relative_max - c.relative_min + 1;
  }
  if (!c.slopes.empty()) a.alibi_slopes = c.slopes.data();
  if (!c.key_bias.empty()) a.key_bias = c.key_bias.data();
  if (!c.rk.empty()) {
    a.distances = distances.data();
    a.max_distance = c.max_distance;
    a.u = c.bias_u.data();
    a.v = c.bias_v.data();
  }
  a.lse = lse.data();
  a.lse_stride = c.G;
  const int64_t block = o.block > 0 ? o.block : std::max<int64_t>(c.T, 1);
  for (int64_t t = 0; t < c.T; t += block) AttentionFor(target)->attend(a, t, std::min(c.T, t + block), workspace.data());
  CHECK(cache.intact());
  CHECK(distances.intact());
  CHECK(workspace.intact());
  CHECK(out.intact());
  CHECK(lse.intact());
  return {std::vector<float>(out.data(), out.data() + c.T * c.G * c.Dv), std::vector<float>(lse.data(), lse.data() + c.T * c.G)};
}

// The promise of attention.h's accuracy: 1e-5 of the largest value, and what f32 scores of this size cost.
void CheckClose(const Output& got, const AttentionResult& want, double slack = 1) {
  double logit = want.largest_score <= 30 ? 0 : 4 * 0x1p-24 * want.largest_score;
  const double allowed = slack * (1e-5 + logit) * std::max(want.largest_value, 1e-30);
  double worst = 0, worst_lse = 0;
  for (size_t i = 0; i < want.out.size(); ++i) {
    const double d = std::abs(got.out[i] - want.out[i]);
    worst = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(worst, d);
  }
  for (size_t i = 0; i < want.lse.size(); ++i) {
    if (std::isinf(want.lse[i])) CHECK_EQ(got.lse[i], static_cast<float>(want.lse[i]));
    else worst_lse = std::max(worst_lse, std::abs(got.lse[i] - want.lse[i]));
  }
  CHECK(worst <= allowed);
  CHECK(worst_lse <= 1e-5 + 8 * 0x1p-24 * std::max(want.largest_score, 10.0));
}

Attention Case(uint64_t seed, int64_t T, int64_t S, int64_t Dh, int64_t Dv, int64_t G = 1) {
  Random r(seed);
  Attention c;
  c.T = T;
  c.G = G;
  c.Dh = Dh;
  c.Dv = Dv;
  c.q = r.Normals(T * G * Dh);
  c.k = r.Normals(S * Dh);
  c.v = r.Normals(S * Dv);
  c.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(Dh)));
  c.last_key = S - 1;
  c.q_position = S - T;
  return c;
}

void AddDistances(Attention* c, int64_t max_distance, uint64_t seed) {
  Random r(seed);
  c->max_distance = max_distance;
  c->rk = r.Normals((max_distance + 1) * c->Dh);
  c->bias_u = r.Normals(c->Dh);
  c->bias_v = r.Normals(c->Dh);
}

const int64_t kWidths[] = {1, 5, 13, 15, 16, 17, 41, 48, 64, 80, 128, 129, 300};

}  // namespace

TEST_CASE("attention: full, awkward sizes") {
  for (const std::string& target : Targets()) {
    CAPTURE(target);
    for (int64_t T : {0, 1, 2, 3, 7, 15, 17, 84, 85}) {
      for (int64_t S : {1, 15, 16, 17, 64, 255, 257, 530}) {
        const int64_t width = kWidths[(T * 7 + S) % std::size(kWidths)];
        Attention c = Case(static_cast<uint64_t>(T * 1000 + S), T, S, width, kWidths[(T + S * 3) % std::size(kWidths)]);
        CAPTURE(T);
        CAPTURE(S);
        CAPTURE(c.Dh);
        CAPTURE(c.Dv);
        CheckClose(Run(target, c), reference::Attend(c));
      }
    }
    for (int64_t Dh : kWidths) {
      for (int64_t Dv : kWidths) {
        Attention c = Case(static_cast<uint64_t>(Dh * 1000 + Dv), 19, 50, Dh, Dv);
        CAPTURE(Dh);
        CAPTURE(Dv);
        CheckClose(Run(target, c), reference::Attend(c));
      }
    }
  }
}

TEST_CASE("attention: width 0 scores every key alike; values of width 0 give nothing") {
  for (const std::string& target : Targets()) {
    Attention no_key = Case(5, 9, 40, 0, 16);
    no_key.scale = 1;
    CheckClose(Run(target, no_key), reference::Attend(no_key));
    Attention no_value = Case(6, 9, 40, 16, 0);
    CheckClose(Run(target, no_value), reference::Attend(no_value));
  }
}

TEST_CASE("attention: appended panels hold exactly what was given, wherever a chunk starts") {
  for (DType type : {DType::f32, DType::bf16, DType::f16}) {
    for (int64_t start : {0, 3, 14, 47}) {
      const int64_t n = 41, Dh = 13, Dv = 21, ring = 64;
      Random r(static_cast<uint64_t>(start + 1));
      const std::vector<float> k = r.Normals(n * Dh), v = r.Normals(n * Dv);
      Guarded<unsigned char> cache(KvBytes(ring, Dh, Dv, type));
      const KvPanels kv = MakeKvPanels(cache.data(), ring, Dh, Dv, type);
      AppendKv(kv, start, n, k.data(), Dh, v.data(), Dv);
      auto at = [&](const void* base, int64_t i) {
        if (type == DType::f32) return static_cast<const float*>(base)[i];
        const uint16_t bits = static_cast<const uint16_t*>(base)[i];
        return type == DType::bf16 ? Bf16ToF32(bits) : F16ToF32(bits);
      };
      int64_t wrong = 0;
      for (int64_t j = 0; j < n; ++j) {
        const int64_t p = start + j, panel = p / 16 % (ring / 16), slot = p % 16;
        for (int64_t c = 0; c < Dh; ++c) wrong += at(kv.k, (panel * Dh + c) * 16 + slot) != Round(k[static_cast<size_t>(j * Dh + c)], type);
        for (int64_t c = 0; c < 32; ++c) wrong += at(kv.v, (panel * 16 + slot) * 32 + c) != (c < Dv ? Round(v[static_cast<size_t>(j * Dv + c)], type) : 0.0f);
      }
      CHECK_EQ(wrong, 0);
      CHECK(cache.intact());
    }
  }
}

TEST_CASE("attention: no keys, keys of other positions, and all-masked rows give zeros and -inf") {
  for (const std::string& target : Targets()) {
    CAPTURE(target);
    Attention c = Case(3, 9, 40, 16, 16);
    c.first_key = 20;
    c.last_key = 19;
    CheckClose(Run(target, c), reference::Attend(c));
    c.last_key = 39;
    c.causal = true;
    c.q_position = 15;  // queries 15..23: the first five see nothing
    CheckClose(Run(target, c), reference::Attend(c));
    c.key_bias.assign(20, -std::numeric_limits<float>::infinity());
    const Output all_masked = Run(target, c);
    for (float f : all_masked.out) CHECK_EQ(f, 0.0f);
    c.key_bias[7] = 0;
    CheckClose(Run(target, c), reference::Attend(c));
  }
}

TEST_CASE("attention: causal, window, first and last key, grouped heads") {
  Random r(11);
  for (int round = 0; round < 60; ++round) {
    const int64_t T = 1 + r.Below(round % 5 == 0 ? 200 : 40), S = T + r.Below(600), G = round % 3 == 0 ? 1 + r.Below(5) : 1;
    Attention c = Case(static_cast<uint64_t>(round + 100), T, S, kWidths[r.Below(std::size(kWidths))], kWidths[r.Below(std::size(kWidths))], G);
    c.causal = round % 2 == 0;
    if (round % 4 >= 2) c.window = 1 + r.Below(round % 8 < 4 ? 20 : 400);
    c.first_key = r.Below(std::min<int64_t>(S, 100));
    c.last_key = S - 1 - r.Below(std::min<int64_t>(S, 50));
    const AttentionResult want = reference::Attend(c);
    for (const std::string& target : Targets()) {
      CAPTURE(target);
      CAPTURE(round);
      CheckClose(Run(target, c), want);
    }
  }
}

TEST_CASE("attention: relative bias lines, ALiBi, key biases") {
  Random r(12);
  for (int round = 0; round < 40; ++round) {
    const int64_t T = 1 + r.Below(60), S = T + r.Below(400), G = round % 4 == 3 ? 3 : 1;
    Attention c = Case(static_cast<uint64_t>(round + 500), T, S, 32, 24, G);
    c.causal = round % 2 == 0;
    if (round % 3 != 1) {
      c.relative_min = -r.Below(130);
      c.relative_max = r.Below(130);
      c.relative_bias = r.Normals(G * (c.relative_max - c.relative_min + 1), 3);
      if (round % 5 == 0) c.relative_bias[0] = -std::numeric_limits<float>::infinity();
    }
    if (round % 3 == 1) c.slopes = r.Normals(G, 0.05f);
    if (round % 4 == 0) {
      c.first_key = r.Below(20);
      c.key_bias = r.Normals(S - c.first_key, 2);
      c.key_bias[static_cast<size_t>(r.Below(S - c.first_key))] = -10000;
      c.key_bias[static_cast<size_t>(r.Below(S - c.first_key))] = -std::numeric_limits<float>::infinity();
    }
    const AttentionResult want = reference::Attend(c);
    for (const std::string& target : Targets()) {
      CAPTURE(target);
      CAPTURE(round);
      CheckClose(Run(target, c), want);
    }
  }
}

TEST_CASE("attention: Transformer-XL relative positions, any clamp, window and memory") {
  Random r(13);
  for (int round = 0; round < 60; ++round) {
    const int64_t T = round % 6 == 0 ? 1 : 1 + r.Below(100), M = r.Below(700), S = M + T;
    Attention c = Case(static_cast<uint64_t>(round + 900), T, S, kWidths[r.Below(std::size(kWidths))], kWidths[r.Below(std::size(kWidths))]);
    const int64_t clamps[] = {0, 3, 15, 16, S - 1, S + 40, 1 + r.Below(S), 1 + r.Below(S)};
    AddDistances(&c, clamps[round % 8], static_cast<uint64_t>(round));
    if (round % 3 == 1) c.window = 1 + r.Below(S);
    if (round % 3 == 2) c.first_key = r.Below(M + 1);
    c.causal = round % 2 == 0;  // implied
    const AttentionResult want = reference::Attend(c);
    for (const std::string& target : Targets()) {
      CAPTURE(target);
      CAPTURE(round);
      CAPTURE(T);
      CAPTURE(M);
      CAPTURE(c.max_distance);
      CheckClose(Run(target, c), want);
    }
  }
}

TEST_CASE("attention: huge scores, equal scores, a dominating last key: no NaN, within the promise") {
  for (const std::string& target : Targets()) {
    CAPTURE(target);
    for (float size : {30.0f, 1e3f, 1e4f}) {
      Attention c = Case(21, 20, 300, 16, 16);
      Random r(22);
      for (float& f : c.q) f = (r.Next() & 1) != 0 ? 1.0f : -1.0f;
      for (float& f : c.k) f = r.Normal() * size / 8;
      for (int64_t i = 0; i < 16; ++i) c.k[static_cast<size_t>(299 * 16 + i)] = c.q[static_cast<size_t>(i)] * size / 4;
      CAPTURE(size);
      CheckClose(Run(target, c), reference::Attend(c));
    }
    Attention equal = Case(23, 20, 300, 16, 16);
    std::fill(equal.q.begin(), equal.q.end(), 0.0f);
    CheckClose(Run(target, equal), reference::Attend(equal));
    Attention one = Case(24, 5, 1, 64, 64);
    const Output got = Run(target, one);
    for (int64_t i = 0; i < 5 * 64; ++i) CHECK_EQ(got.out[static_cast<size_t>(i)], one.v[static_cast<size_t>(i % 64)]);
  }
}

TEST_CASE("attention: a NaN in a query, key or value comes out, and only where it belongs") {
  for (const std::string& target : Targets()) {
    CAPTURE(target);
    Attention c = Case(31, 30, 30, 16, 16);
    c.causal = true;
    c.k[20 * 16] = std::numeric_limits<float>::quiet_NaN();
    const Output got = Run(target, c);
    for (int64_t t = 0; t < 30; ++t) CHECK_EQ(std::isnan(got.out[static_cast<size_t>(t * 16)]), t >= 20);
  }
}

TEST_CASE("attention: 16-bit keys and values equal f32 ones that were rounded the same way") {
  for (DType type : {DType::bf16, DType::f16}) {
    for (int64_t T : {1, 30}) {
      Attention c = Case(41, T, 500, 41, 37);
      AddDistances(&c, 100, 42);
      Attention rounded = c;
      for (float& f : rounded.k) f = Round(f, type);
      for (float& f : rounded.v) f = Round(f, type);
      const AttentionResult want = reference::Attend(rounded);
      for (const std::string& target : Targets()) {
        CAPTURE(target);
        const Output got = Run(target, c, {.type = type});
        CheckClose(got, want);
        const Output same = Run(target, rounded);
        CHECK(std::memcmp(got.out.data(), same.out.data(), got.out.size() * 4) == 0);
      }
    }
  }
}

TEST_CASE("attention: the same bits for any split, token by token, in a ring that wrapped, and in pages") {
  Random r(51);
  for (int round = 0; round < 12; ++round) {
    const int64_t T = 1 + r.Below(130), M = 200 + r.Below(400), S = M + T, G = round % 3 == 0 ? 2 : 1;
    Attention c = Case(static_cast<uint64_t>(round + 60), T, S, 41, 64, G);
    c.causal = true;
    c.window = 100 + r.Below(100);
    if (G == 1 && round % 2 == 1) AddDistances(&c, 60, 61);
    const AttentionResult want = reference::Attend(c);
    for (const std::string& target : Targets()) {
      CAPTURE(target);
      CAPTURE(round);
      const Output whole = Run(target, c);
      CheckClose(whole, want);
      for (int64_t block : {int64_t{1}, int64_t{5}, int64_t{84}, AttentionBlockTokens(T, G)}) {
        const Output split = Run(target, c, {.block = block});
        CHECK(std::memcmp(split.out.data(), whole.out.data(), whole.out.size() * 4) == 0);
      }
      const Output paged = Run(target, c, {.ring_positions = c.window + T + 15, .paged = true});
      CHECK(std::memcmp(paged.out.data(), whole.out.data(), whole.out.size() * 4) == 0);
      const Output wrapped = Run(target, c, {.ring_positions = c.window + T + 15});
      CHECK(std::memcmp(wrapped.out.data(), whole.out.data(), whole.out.size() * 4) == 0);
    }
  }
}

TEST_CASE("attention: block sizes and workspace are functions of the shapes") {
  CHECK_EQ(AttentionBlockTokens(1, 1), 1);
  CHECK_EQ(AttentionBlockTokens(128, 1), 64);
  CHECK_EQ(AttentionBlockTokens(4096, 1), 84);
  CHECK(AttentionBlockTokens(10, 100) == 1);
  CHECK(AttentionWorkspaceBytes(64, 64, DType::f32) < 256 * 1024);
  CHECK(AttentionWorkspaceBytes(64, 64, DType::bf16) < 512 * 1024);
  CHECK_EQ(KvBytes(17, 5, 3, DType::f32), 2 * 5 * 16 * 4 + 32 * 16 * 4);
  CHECK(AttentionFor("sse9") == nullptr);
  CHECK(AttentionFor("baseline") != nullptr);
}

TEST_CASE("attention: eight query heads on one key head, window, ALiBi and a 16-bit cache, all at once") {
  for (DType type : {DType::f32, DType::bf16, DType::f16}) {
    for (int64_t T : {1, 3, 70}) {
      Attention c = Case(static_cast<uint64_t>(60 + T), T, 400, 40, 24, 8);
      for (auto* x : {&c.k, &c.v})
        for (float& f : *x) f = Round(f, type);
      c.causal = true;
      c.window = 130;
      c.first_key = 5;
      c.slopes = Random(3).Normals(8, 0.05f);
      const AttentionResult want = reference::Attend(c);
      for (const std::string& target : Targets()) {
        CAPTURE(target);
        CAPTURE(T);
        CheckClose(Run(target, c, {type, 464, 0}), want);
      }
    }
  }
}

TEST_CASE("attention: keys masked by -inf in whole tiles, all but one, and all") {
  for (const std::string& target : Targets()) {
    CAPTURE(target);
    Attention c = Case(71, 20, 900, 16, 16);
    c.key_bias.assign(900, -std::numeric_limits<float>::infinity());
    for (int64_t j = 560; j < 600; ++j) c.key_bias[static_cast<size_t>(j)] = 0;  // the blocks before and behind hold nothing
    CheckClose(Run(target, c), reference::Attend(c));
    for (int64_t j = 561; j < 600; ++j) c.key_bias[static_cast<size_t>(j)] = -std::numeric_limits<float>::infinity();
    const Output one = Run(target, c);
    for (int64_t t = 0; t < 20; ++t)
      for (int64_t d = 0; d < 16; ++d) CHECK_EQ(one.out[static_cast<size_t>(t * 16 + d)], c.v[static_cast<size_t>(560 * 16 + d)]);
    c.key_bias[560] = -std::numeric_limits<float>::infinity();
    const Output none = Run(target, c);
    for (float f : none.out) CHECK_EQ(f, 0.0f);
    for (float f : none.lse) CHECK_EQ(f, -std::numeric_limits<float>::infinity());
  }
}

TEST_CASE("attention: 64k tokens in one head: tens of megabytes, and the promise still holds") {
  constexpr int64_t S = 65536, D = 64;
  // Whatever T is: the keys and values of the head once, and a scratch that knows no length.
  CHECK(KvBytes(S, D, D, DType::f32) + AttentionWorkspaceBytes(D, D, DType::f32) <= int64_t{36} << 20);
  CHECK(KvBytes(S, D, D, DType::f16) + AttentionWorkspaceBytes(D, D, DType::f16) <= int64_t{20} << 20);
  Attention c = Case(81, 3, S, D, D);
  c.causal = true;
  CheckClose(Run(Targets().front(), c), reference::Attend(c));
  // One score of 1e4 among 64k, in the last block: everything before it is scaled away.
  for (int64_t d = 0; d < D; ++d) c.k[static_cast<size_t>((S - 4) * D + d)] = c.q[static_cast<size_t>(d)] * 1250;
  CheckClose(Run(Targets().front(), c), reference::Attend(c));
}

// Attention by chunks against a slow version that follows the definition token by token, in double; sorting; buckets.
#include "engine/kernels/chunk_attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/base/rng.h"
#include "engine/kernels/kernels.h"
#include "tests/kernels/guarded.h"
#include "tests/reference/random.h"

namespace tern {
namespace {

struct Aligned {
  explicit Aligned(int64_t bytes) : memory(static_cast<size_t>(bytes) + 64) {}
  void* data() { return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64); }
  std::vector<uint8_t> memory;
};

struct Case {
  int64_t d, length, chunk, before, after, rounds;
  bool ordered, causal, exclude_self, masked;
};

struct Data {
  explicit Data(const Case& c) : q(Random(c.length * c.d, 1)), k(Random(c.length * c.d, 2)), v(Random(c.length * c.d, 3)) {
    Rng rng(4);
    for (int64_t r = 0; r < c.rounds; ++r) {
      std::vector<int32_t> one(static_cast<size_t>(c.length));
      std::iota(one.begin(), one.end(), 0);
      if (c.ordered)
        for (size_t i = one.size(); i > 1; --i) std::swap(one[i - 1], one[rng.Below(i)]);
      order.insert(order.end(), one.begin(), one.end());
    }
    for (int64_t t = 0; t < c.length; ++t) key_scale.push_back(static_cast<float>(0.5 + rng.Uniform())), mask.push_back(t > 0 && rng.Below(4) == 0);
  }
  std::vector<float> q, k, v, key_scale;
  std::vector<int32_t> order;
  std::vector<uint8_t> mask;
};

ChunkAttention Args(const Case& c, const Data& data, float* out, float* lse) {
  ChunkAttention a;
  a.q = data.q.data(), a.k = data.k.data(), a.v = data.v.data();
  a.q_stride = a.k_stride = a.v_stride = a.out_stride = a.head_width = c.d;
  a.length = c.length, a.chunk = c.chunk, a.before = c.before, a.after = c.after, a.rounds = c.rounds;
  a.order = c.ordered ? data.order.data() : nullptr;
  a.scale = 0.7f, a.key_scale = data.key_scale.data();
  a.masked = c.masked ? data.mask.data() : nullptr;
  a.causal = c.causal, a.exclude_self = c.exclude_self;
  a.out = out, a.round_stride = c.length * c.d, a.lse = lse;
  return a;
}

// One query by the definition; false where f32's rounding at -1e5 is what counts, which double does not have.
bool Reference(const Case& c, const Data& data, int64_t place, std::vector<double>* out, double* lse) {
  const int64_t chunks = c.rounds * c.length / c.chunk, mine = place / c.chunk;
  const int64_t i = data.order[static_cast<size_t>(place)];
  std::vector<double> scores;
  std::vector<int64_t> tokens;
  for (int64_t u = mine - c.before; u <= mine + c.after; ++u)
    for (int64_t p = 0; p < c.chunk; ++p) {
      const int64_t j = data.order[static_cast<size_t>((u % chunks + chunks) % chunks * c.chunk + p)];
      double s = 0;
      for (int64_t x = 0; x < c.d; ++x) s += static_cast<double>(data.q[static_cast<size_t>(i * c.d + x)]) * data.k[static_cast<size_t>(j * c.d + x)];
      s *= 0.7 * data.key_scale[static_cast<size_t>(j)];
      if ((c.masked && data.mask[static_cast<size_t>(j)]) || (c.causal && j > i)) s = -1e9;
      if (c.exclude_self && i == j) s = -1e5;
      scores.push_back(s), tokens.push_back(j);
    }
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double s : scores) sum += std::exp(s - most);
  *lse = most + std::log(sum);
  out->assign(static_cast<size_t>(c.d), 0.0);
  for (size_t n = 0; n < scores.size(); ++n)
    for (int64_t x = 0; x < c.d; ++x) (*out)[static_cast<size_t>(x)] += std::exp(scores[n] - *lse) * data.v[static_cast<size_t>(tokens[n] * c.d + x)];
  return most > -1e4;
}

const Case kCases[] = {
    {8, 16, 4, 1, 0, 1, false, true, false, false},  {5, 12, 3, 1, 1, 1, false, false, false, false}, {16, 32, 4, 1, 0, 3, true, true, true, false},
    {20, 24, 6, 2, 1, 2, true, false, true, true},   {64, 256, 64, 1, 0, 2, true, true, true, false}, {33, 17, 17, 0, 0, 1, false, true, true, true},
    {7, 8, 4, 1, 1, 1, true, false, true, false},    {1, 6, 1, 2, 0, 1, true, true, true, false},     {128, 260, 130, 1, 0, 1, false, true, false, true},
    {3, 5, 5, 1, 1, 1, false, false, false, false},
};

}  // namespace

TEST_CASE("attention by chunks is its definition, on every target") {
  for (std::string_view target : KernelTargets()) {
    const KernelTable& kernels = *KernelsFor(target);
    for (const Case& c : kCases) {
      CAPTURE(target);
      CAPTURE(c.d);
      CAPTURE(c.chunk);
      const Data data(c);
      Guarded<float> out(c.rounds * c.length * c.d), lse(c.rounds * c.length);
      const ChunkAttention a = Args(c, data, out.data(), lse.data());
      Aligned workspace(ChunkWorkspaceBytes(c.d, c.chunk, c.before, c.after));
      AttendChunks(kernels, a, 0, a.chunks(), workspace.data());
      CHECK(out.intact());
      int64_t compared = 0;
      for (int64_t place = 0; place < c.rounds * c.length; ++place) {
        std::vector<double> want;
        double want_lse;
        if (!Reference(c, data, place, &want, &want_lse)) continue;
        ++compared;
        const int64_t row = place / c.length * c.length + data.order[static_cast<size_t>(place)];
        CHECK(lse[row] == doctest::Approx(want_lse).epsilon(2e-6));
        for (int64_t x = 0; x < c.d; ++x) CHECK(std::abs(out[row * c.d + x] - want[static_cast<size_t>(x)]) <= 3e-5);  // scores reach 30
      }
      CHECK(compared >= c.length / 2);

      // However the chunks are shared out, the bits are the same.
      Guarded<float> parts(out.size());
      ChunkAttention b = a;
      b.out = parts.data();
      for (int64_t i = a.chunks(); i-- > 0;) AttendChunks(kernels, b, i, i + 1, workspace.data());
      CHECK(SameBits(out.data(), parts.data(), out.size()));
    }
  }
}

TEST_CASE("a row whose only key is itself keeps f32's rounding at -1e5: its weight is exp of a multiple of 2^-7") {
  for (std::string_view target : KernelTargets()) {
    float scores[3] = {0.3f, 0.1f, 0.2f}, lse;
    const int32_t positions[3] = {0, 1, 2}, from[3] = {0, 1, 2};
    KernelsFor(target)->chunk_softmax(scores, positions, from, 3, 0, true, &lse);
    CHECK(lse == -1e5f);
    CHECK(scores[0] == 1.0f);
    CHECK(scores[1] == 0.0f);
    // Every key masked: -1e9 swallows the logarithm of their number, and each weighs 1.
    float all[2] = {1, 2};
    const int32_t never[2] = {INT32_MAX, INT32_MAX};
    KernelsFor(target)->chunk_softmax(all, positions, never, 2, 1, false, &lse);
    CHECK(all[0] == 1.0f);
    CHECK(all[1] == 1.0f);
  }
}

TEST_CASE("in place over the queries, where the order is the identity") {
  const Case c{24, 48, 8, 1, 0, 1, false, true, false, false};
  Data data(c);
  const KernelTable& kernels = Kernels();
  std::vector<float> out(static_cast<size_t>(c.length * c.d));
  ChunkAttention a = Args(c, data, out.data(), nullptr);
  Aligned workspace(ChunkWorkspaceBytes(c.d, c.chunk, c.before, c.after));
  AttendChunks(kernels, a, 0, a.chunks(), workspace.data());
  a.out = data.q.data();
  AttendChunks(kernels, a, 0, a.chunks(), workspace.data());
  CHECK(SameBits(out.data(), data.q.data(), c.length * c.d));
}

TEST_CASE("the sort by counting is a stable sort") {
  Rng rng(5);
  for (int64_t n : {0, 1, 2, 15, 16, 257, 5000})
    for (int64_t buckets : {1, 2, 9, 4096}) {
      std::vector<int32_t> ids(static_cast<size_t>(n)), counts(static_cast<size_t>(buckets) + 1), order(static_cast<size_t>(n)), want(static_cast<size_t>(n));
      for (int32_t& id : ids) id = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(buckets)));
      SortByBucket(ids.data(), n, buckets, counts.data(), order.data());
      std::iota(want.begin(), want.end(), 0);
      std::stable_sort(want.begin(), want.end(), [&](int32_t a, int32_t b) { return ids[static_cast<size_t>(a)] < ids[static_cast<size_t>(b)]; });
      CHECK(order == want);
    }
}

TEST_CASE("the nearest axis: the largest of x and -x, the first on ties, in range whatever x is") {
  for (std::string_view target : KernelTargets()) {
    const auto nearest = KernelsFor(target)->nearest_axis;
    for (int64_t n : {1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 65, 131, 256}) {
      auto x = Random(n, static_cast<uint64_t>(n));
      int64_t want = 0;
      auto axis = [&](int64_t i) { return i < n ? x[static_cast<size_t>(i)] : -x[static_cast<size_t>(i - n)]; };
      for (int64_t i = 0; i < 2 * n; ++i)
        if (axis(i) > axis(want)) want = i;
      CHECK(nearest(x.data(), n) == want);
      for (float& f : x) f *= 3;  // the length of a vector does not matter
      CHECK(nearest(x.data(), n) == want);
      for (float& f : x) f = -f;  // and its opposite falls on the opposite axis
      CHECK(nearest(x.data(), n) == (want + n) % (2 * n));
      std::fill(x.begin(), x.end(), 1.0f);
      CHECK(nearest(x.data(), n) == 0);
      std::fill(x.begin(), x.end(), -1.0f);
      CHECK(nearest(x.data(), n) == n);
      std::fill(x.begin(), x.end(), std::numeric_limits<float>::quiet_NaN());
      const int32_t lost = nearest(x.data(), n);
      CHECK(lost >= 0);
      CHECK(lost < 2 * n);
    }
  }
}

TEST_CASE("rounds are joined by their logarithms; equal rounds change nothing") {
  const int64_t s = 7, d = 19, rounds = 3;
  const auto o = Random(rounds * s * d, 1), lse = Random(rounds * s, 2, 3);
  std::vector<float> out(static_cast<size_t>(s * d));
  MergeRounds(Kernels(), o.data(), lse.data(), rounds, s, d, 0, s, out.data(), d);
  for (int64_t t = 0; t < s; ++t)
    for (int64_t x = 0; x < d; ++x) {
      double sum = 0, all = 0;
      for (int64_t r = 0; r < rounds; ++r) {
        const double w = std::exp(static_cast<double>(lse[static_cast<size_t>(r * s + t)]));
        sum += w * o[static_cast<size_t>((r * s + t) * d + x)], all += w;
      }
      CHECK(std::abs(out[static_cast<size_t>(t * d + x)] - sum / all) <= 2e-6);
    }
}

}  // namespace tern

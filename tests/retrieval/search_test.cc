// Exhaustive search against brute force in double, over awkward sizes, metrics, targets and threads.
#include "engine/retrieval/search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/base/dtype.h"
#include "engine/base/memory.h"
#include "tests/reference/golden.h"

using namespace tern;

namespace {

// The generators of the golden cases (SplitMix64).
struct Split {
  uint64_t state;
  uint64_t Next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  float Unit() { return static_cast<float>(Next() >> 40) * 0x1p-23f - 1; }
};

std::vector<float> Uniform(int64_t n, uint64_t seed) {
  Split s{seed};
  std::vector<float> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(s.Unit());
  return out;
}
std::vector<float> Integers(int64_t n, uint64_t seed) {
  Split s{seed};
  std::vector<float> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<float>(s.Next() >> 61) - 4);
  return out;
}

double Exact(Metric metric, const float* q, const float* x, int64_t d) {
  double dot = 0, qq = 0, xx = 0, l2 = 0;
  for (int64_t i = 0; i < d; ++i) {
    dot += static_cast<double>(q[i]) * x[i], qq += static_cast<double>(q[i]) * q[i], xx += static_cast<double>(x[i]) * x[i];
    l2 += (static_cast<double>(q[i]) - x[i]) * (static_cast<double>(q[i]) - x[i]);
  }
  if (metric == Metric::kIp) return dot;
  if (metric == Metric::kL2) return -l2;
  const double length = std::sqrt(qq) * std::sqrt(xx);
  return length > 0 ? dot / length : 0;
}

std::vector<int64_t> BruteIds(Metric metric, const float* q, const std::vector<float>& rows, int64_t d, int64_t k) {
  std::vector<std::pair<double, int64_t>> all;
  for (int64_t i = 0; i * d < static_cast<int64_t>(rows.size()); ++i) all.push_back({-Exact(metric, q, rows.data() + i * d, d), i});
  std::sort(all.begin(), all.end());
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < k; ++i) ids.push_back(i < static_cast<int64_t>(all.size()) ? all[static_cast<size_t>(i)].second : -1);
  return ids;
}

struct Flat {
  std::vector<float> squares;
  VectorSet set;
};
Flat FlatSet(const std::vector<float>& rows, int64_t d) {
  Flat f;
  Gang gang(1);
  const int64_t n = static_cast<int64_t>(rows.size()) / d;
  f.squares.resize(static_cast<size_t>(n));
  REQUIRE(RowSquares(rows.data(), n, d, &gang, f.squares.data()).ok());
  f.set.dim = d;
  VectorBlock b;
  b.rows = n, b.f32 = rows.data(), b.squares = f.squares.data();
  if (n > 0) f.set.blocks.push_back(b);
  for (float s : f.squares) f.set.longest = std::max(f.set.longest, std::sqrt(static_cast<double>(s)) * (1 + 0x1p-20));
  return f;
}

constexpr Metric kMetrics[] = {Metric::kIp, Metric::kL2, Metric::kCos};

}  // namespace

TEST_CASE("search: exactly the rows of brute force, on every target, for any number of threads") {
  for (auto [n, d, q, k] : {std::array<int64_t, 4>{1, 1, 1, 1}, {17, 3, 2, 5}, {60, 7, 17, 10}, {1025, 33, 5, 10}, {2051, 31, 18, 3}, {5, 9, 1, 8}}) {
    CAPTURE(n);
    const auto rows = Uniform(n * d, 3), queries = Uniform(q * d, 4);
    const Flat flat = FlatSet(rows, d);
    for (Metric metric : kMetrics) {
      SearchOptions options;
      options.metric = metric, options.k = k;
      std::vector<SearchHit> first;
      for (std::string_view target : KernelTargets())
        for (int threads : {1, 3}) {
          options.kernels = KernelsFor(target);
          Gang gang(threads);
          auto hits = Search(flat.set, queries, options, &gang);
          REQUIRE(hits.ok());
          if (first.empty()) first = *hits;
          CHECK(first == *hits);
        }
      for (int64_t i = 0; i < q; ++i) {
        const auto want = BruteIds(metric, queries.data() + i * d, rows, d, k);
        for (int64_t j = 0; j < k; ++j) {
          CHECK(first[static_cast<size_t>(i * k + j)].id == want[static_cast<size_t>(j)]);
          if (want[static_cast<size_t>(j)] >= 0) {
            const double exact = Exact(metric, queries.data() + i * d, rows.data() + want[static_cast<size_t>(j)] * d, d);
            CHECK(first[static_cast<size_t>(i * k + j)].score == doctest::Approx(metric == Metric::kL2 ? -exact : exact).epsilon(1e-6));
          }
        }
      }
    }
  }
}

TEST_CASE("search: equal scores go by the lower id, however many there are") {
  // Exact in f32, full of ties; and 3000 copies of three vectors, so that no number of candidates but all proves the order.
  const int64_t d = 8;
  std::vector<float> rows = Integers(3000 * d, 4);
  for (int64_t i = 24 * d; i < 3000 * d; ++i)
    if (i / d % 2 == 0) rows[static_cast<size_t>(i)] = rows[static_cast<size_t>(i % (3 * d))];
  const auto queries = Integers(4 * d, 5);
  const Flat flat = FlatSet(rows, d);
  Gang gang(2);
  for (Metric metric : {Metric::kIp, Metric::kL2}) {
    SearchOptions options;
    options.metric = metric, options.k = 20;
    auto hits = Search(flat.set, queries, options, &gang);
    REQUIRE(hits.ok());
    for (int64_t q = 0; q < 4; ++q) {
      const auto want = BruteIds(metric, queries.data() + q * d, rows, d, 20);
      for (int64_t j = 0; j < 20; ++j) CHECK((*hits)[static_cast<size_t>(q * 20 + j)].id == want[static_cast<size_t>(j)]);
    }
  }
}

TEST_CASE("search: values far from one keep their order") {
  const int64_t d = 5;
  for (float scale : {1e-22f, 1e-18f, 1e12f}) {
    auto rows = Uniform(300 * d, 8), queries = Uniform(3 * d, 9);
    for (float& x : rows) x *= scale;
    const Flat flat = FlatSet(rows, d);
    Gang gang(1);
    for (Metric metric : kMetrics) {
      SearchOptions options;
      options.metric = metric, options.k = 4;
      auto hits = Search(flat.set, queries, options, &gang);
      REQUIRE(hits.ok());
      for (int64_t q = 0; q < 3; ++q) {
        const auto want = BruteIds(metric, queries.data() + q * d, rows, d, 4);
        for (int64_t j = 0; j < 4; ++j) CHECK((*hits)[static_cast<size_t>(q * 4 + j)].id == want[static_cast<size_t>(j)]);
      }
    }
  }
}

TEST_CASE("search: int8 rows with half floats beside them find what the exact search finds") {
  const int64_t n = 4000, d = 64, q = 40, k = 10;
  const auto rows = Uniform(n * d, 1), queries = Uniform(q * d, 2);
  Flat flat = FlatSet(rows, d);
  auto packed = Region::Create(*PackedBytes(DType::i8, n, d));
  REQUIRE(packed.ok());
  PackMatrix(DType::i8, rows.data(), d, n, d, packed->data());
  std::vector<uint16_t> halves;
  for (float x : rows) halves.push_back(F32ToF16(x));
  VectorSet set = flat.set;
  set.blocks[0].f32 = nullptr, set.blocks[0].packed = {packed->data(), DType::i8, n, d}, set.blocks[0].f16 = halves.data();
  SearchOptions options;
  options.metric = Metric::kCos, options.k = k;
  Gang one(1), three(3);
  auto exact = Search(flat.set, queries, options, &one);
  std::vector<SearchHit> first;
  for (std::string_view target : KernelTargets()) {
    options.kernels = KernelsFor(target);
    auto a = Search(set, queries, options, &one), b = Search(set, queries, options, &three);
    REQUIRE(a.ok());
    CHECK(*a == *b);
    if (first.empty()) first = *a;
    CHECK(first == *a);
  }
  int64_t hit = 0;
  for (int64_t i = 0; i < q; ++i)
    for (int64_t a = 0; a < k; ++a)
      for (int64_t b = 0; b < k; ++b) hit += (*exact)[static_cast<size_t>(i * k + a)].id == first[static_cast<size_t>(i * k + b)].id;
  CHECK(static_cast<double>(hit) / static_cast<double>(q * k) >= 0.99);
}

TEST_CASE("search: a filter is asked, bad input is refused") {
  const int64_t d = 6;
  auto rows = Uniform(50 * d, 1);
  const auto queries = Uniform(d, 2);
  Flat flat = FlatSet(rows, d);
  Gang gang(2);
  SearchOptions options;
  options.metric = Metric::kL2, options.k = 30;
  options.allowed = [](int64_t, int64_t id) { return id % 2 == 1; };
  auto hits = Search(flat.set, queries, options, &gang);
  REQUIRE(hits.ok());
  for (size_t i = 0; i < 25; ++i) CHECK((*hits)[i].id % 2 == 1);
  for (size_t i = 25; i < 30; ++i) CHECK((*hits)[i] == SearchHit{});
  options.k = 0;
  CHECK(Search(flat.set, queries, options, &gang).status().code() == Code::kUsage);
  options.k = 3;
  CHECK(Search(flat.set, std::span(queries).first(5), options, &gang).status().code() == Code::kUsage);
  auto bad = queries;
  bad[2] = NAN;
  CHECK(Search(flat.set, bad, options, &gang).status().code() == Code::kNumeric);
  rows[100] = INFINITY;
  CHECK(RowSquares(rows.data(), 50, d, &gang, flat.squares.data()).code() == Code::kNumeric);
  CancelToken cancelled;
  cancelled.Cancel();
  options.cancel = &cancelled;
  CHECK(Search(flat.set, queries, options, &gang).status().code() == Code::kCancelled);
}

TEST_CASE("search: recorded cases with duplicates, a zero vector, and more neighbours than rows") {
  for (const char* name : {"stored_edge_60x7", "k_larger_than_rows_5x9"}) {
    CAPTURE(name);
    const std::string folder = std::string(TERN_SOURCE_DIR) + "/tests/golden/retro-index/" + name;
    auto in = Safetensors::Open(folder + "/inputs.safetensors"), out = Safetensors::Open(folder + "/outputs.safetensors");
    REQUIRE(in.ok());
    REQUIRE(out.ok());
    const ConstTensor &v = *in->Find("vectors"), &q = *in->Find("queries");
    const std::vector<float> rows(v.as<float>(), v.as<float>() + v.shape.elements());
    const Flat flat = FlatSet(rows, v.shape[1]);
    Gang gang(1);
    for (Metric metric : kMetrics) {
      const std::string m(MetricName(metric));
      const ConstTensor &ids = *out->Find(m + ".ids"), &scores = *out->Find(m + ".scores");
      SearchOptions options;
      options.metric = metric, options.k = ids.shape[1];
      auto hits = Search(flat.set, {q.as<float>(), static_cast<size_t>(q.shape.elements())}, options, &gang);
      REQUIRE(hits.ok());
      for (size_t i = 0; i < hits->size(); ++i) {
        CHECK((*hits)[i].id == ids.as<int64_t>()[i]);
        CHECK((*hits)[i].score == doctest::Approx(scores.as<float>()[i]).epsilon(2e-5));
      }
    }
  }
}

// Exhaustive and listed search over random rows on a sphere with some structure: time per query, share of the read bandwidth, recall.
//   search_bench [ROWS] [WIDTH] [THREADS] [LISTS]     1000000 384 1 0; LISTS > 0: inverted lists too
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/memory.h"
#include "engine/base/rng.h"
#include "engine/retrieval/ivf.h"

#include <chrono>

using namespace tern;

namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double Recall(const std::vector<SearchHit>& truth, const std::vector<SearchHit>& got, size_t k) {
  int64_t hit = 0;
  for (size_t i = 0; i < truth.size(); ++i)
    for (size_t j = 0; j < k; ++j) hit += got[i - i % k + j].id == truth[i].id;
  return static_cast<double>(hit) / static_cast<double>(truth.size());
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t n = argc > 1 ? std::atoll(argv[1]) : 1'000'000, d = argc > 2 ? std::atoll(argv[2]) : 384;
  const int threads = argc > 3 ? std::atoi(argv[3]) : 1;
  const int64_t lists = argc > 4 ? std::atoll(argv[4]) : 0;
  Gang gang(threads);
  // A row is one of 1000 centres and noise, of length one.
  std::vector<float> centres, rows(static_cast<size_t>(n * d)), queries;
  Rng rng(1);
  for (int64_t i = 0; i < 1000 * d; ++i) centres.push_back(static_cast<float>(rng.Uniform() - 0.5));
  auto fill = [&](float* row, uint64_t seed) {
    Rng own(seed);
    const float* centre = centres.data() + static_cast<int64_t>(own.Below(1000)) * d;
    double sum = 0;
    for (int64_t j = 0; j < d; ++j) row[j] = centre[j] + static_cast<float>(own.Uniform() - 0.5), sum += static_cast<double>(row[j]) * row[j];
    for (int64_t j = 0; j < d; ++j) row[j] = static_cast<float>(row[j] / std::sqrt(sum));
  };
  gang.Run([&] { gang.For(n, [&](int64_t i, int) { fill(rows.data() + i * d, 1000 + static_cast<uint64_t>(i)); }); });
  queries.resize(static_cast<size_t>(16 * d));
  for (int64_t i = 0; i < 16; ++i) fill(queries.data() + i * d, static_cast<uint64_t>(i));
  std::vector<float> squares(static_cast<size_t>(n));
  if (!RowSquares(rows.data(), n, d, &gang, squares.data()).ok()) return 1;
  VectorSet exact;
  VectorBlock block;
  block.rows = n, block.f32 = rows.data(), block.squares = squares.data();
  exact.dim = d, exact.longest = 1.001, exact.blocks = {block};
  auto packed = Region::Create(*PackedBytes(DType::i8, n, d));
  if (!packed.ok()) return 1;
  PackMatrix(DType::i8, rows.data(), d, n, d, packed->data());
  std::vector<uint16_t> halves(rows.size());
  Kernels().f32_to_f16(rows.data(), n * d, halves.data());
  VectorSet q8 = exact;
  q8.blocks[0].f32 = nullptr, q8.blocks[0].packed = {packed->data(), DType::i8, n, d}, q8.blocks[0].f16 = halves.data();

  SearchOptions options;
  options.metric = Metric::kCos, options.k = 10;
  std::vector<SearchHit> truth;
  auto time = [&](const char* what, const VectorSet& set, int64_t count) {
    double best = 1e9;
    std::vector<SearchHit> hits;
    for (int turn = 0; turn < 5; ++turn) {
      const double start = Seconds();
      auto found = Search(set, {queries.data(), static_cast<size_t>(count * d)}, options, &gang);
      if (!found.ok()) std::exit(1);
      best = std::min(best, Seconds() - start);
      hits = std::move(*found);
    }
    std::printf("%-6s %2lld queries  %8.2f ms a query  %6.2f GB/s of rows", what, static_cast<long long>(count), best * 1e3 / static_cast<double>(count),
                static_cast<double>(n * d * (&set == &q8 ? 1 : 4)) / best * 1e-9);
    if (!truth.empty()) std::printf("  recall@10 %.4f", Recall({truth.begin(), truth.begin() + count * 10}, hits, 10));
    std::printf("\n");
    return hits;
  };
  truth = time("f32", exact, 16);
  time("f32", exact, 1);
  time("q8", q8, 1);
  time("q8", q8, 8);
  time("q8", q8, 16);
  if (lists > 0) {
    IvfOptions ivf;
    ivf.lists = lists;
    double start = Seconds();
    auto index = IvfIndex::Build(n, d, [&](int64_t id, float* out) { std::copy_n(rows.begin() + id * d, d, out); }, ivf, &gang);
    if (!index.ok()) return 1;
    std::printf("%lld lists built in %.1f s\n", static_cast<long long>(lists), Seconds() - start);
    for (int64_t nprobe = 1; nprobe <= lists && nprobe <= 64; nprobe *= 2) {
      start = Seconds();
      auto found = (*index)->Find(exact, queries, nprobe, options, &gang);
      if (!found.ok()) return 1;
      std::printf("nprobe %3lld  %8.3f ms a query  recall@10 %.4f\n", static_cast<long long>(nprobe), (Seconds() - start) * 1e3 / 16, Recall(truth, *found, 10));
    }
  }
  return 0;
}

// Exhaustive and listed search over random rows on a sphere with some structure: time per query, share of the read bandwidth, recall.
//   search_bench [ROWS] [WIDTH] [THREADS] [LISTS] [KINDS]     1000000 384 1 0 q8; LISTS > 0: inverted lists too; KINDS: of q8,pq,f32
//   search_bench --write FILE ROWS WIDTH                      the same rows and 1000 queries as raw f32, for other programs
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/base/checked.h"
#include "engine/base/dtype.h"
#include "engine/base/memory.h"
#include "engine/base/rng.h"
#include "engine/retrieval/ivf.h"

using namespace tern;

namespace {

constexpr int64_t kQueries = 1000;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double Recall(const std::vector<SearchHit>& truth, const std::vector<SearchHit>& got, size_t k) {
  int64_t hit = 0;
  for (size_t i = 0; i < got.size(); ++i)
    for (size_t j = 0; j < k; ++j) hit += got[i - i % k + j].id == truth[i].id;
  return static_cast<double>(hit) / static_cast<double>(got.size());
}

// A row is one of 1000 centres and noise, of length one.
void Fill(const std::vector<float>& centres, int64_t d, uint64_t seed, float* row) {
  Rng own(seed);
  const float* centre = centres.data() + static_cast<int64_t>(own.Below(1000)) * d;
  double sum = 0;
  for (int64_t j = 0; j < d; ++j) row[j] = centre[j] + static_cast<float>(own.Uniform() - 0.5), sum += static_cast<double>(row[j]) * row[j];
  for (int64_t j = 0; j < d; ++j) row[j] = static_cast<float>(row[j] / std::sqrt(sum));
}

// What the machine reads a second, by as many threads.
double ReadBandwidth(const Region& region, Gang* gang) {
  constexpr int64_t kPiece = 1 << 20;
  double best = 0;
  std::vector<uint64_t> sums(static_cast<size_t>(gang->threads()) * 64);
  for (int turn = 0; turn < 5; ++turn) {
    const double start = Seconds();
    gang->Run([&] {
      gang->For(region.bytes() / kPiece, [&](int64_t piece, int worker) {
        const uint64_t* p = reinterpret_cast<const uint64_t*>(region.data() + piece * kPiece);
        uint64_t sum[8] = {};
        for (int64_t i = 0; i < kPiece / 8; i += 8)
          for (int j = 0; j < 8; ++j) sum[j] += p[i + j];
        for (uint64_t s : sum) sums[static_cast<size_t>(worker) * 64] += s;
      });
    });
    best = std::max(best, static_cast<double>(region.bytes()) / (Seconds() - start));
  }
  if (sums[0] == 42) std::printf(" ");
  return best * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  const bool write = argc > 1 && std::string(argv[1]) == "--write";
  const int64_t n = write ? std::atoll(argv[3]) : argc > 1 ? std::atoll(argv[1]) : 1'000'000, d = write ? std::atoll(argv[4]) : argc > 2 ? std::atoll(argv[2]) : 384;
  const int threads = !write && argc > 3 ? std::atoi(argv[3]) : 1;
  const int64_t lists = !write && argc > 4 ? std::atoll(argv[4]) : 0;
  const std::string kinds = argc > 5 ? argv[5] : "q8";
  Gang gang(threads);
  std::vector<float> centres, rows(static_cast<size_t>(n * d)), queries(static_cast<size_t>(kQueries * d));
  Rng rng(1);
  for (int64_t i = 0; i < 1000 * d; ++i) centres.push_back(static_cast<float>(rng.Uniform() - 0.5));
  gang.Run([&] { gang.For(n, [&](int64_t i, int) { Fill(centres, d, 10000 + static_cast<uint64_t>(i), rows.data() + i * d); }); });
  for (int64_t i = 0; i < kQueries; ++i) Fill(centres, d, static_cast<uint64_t>(i), queries.data() + i * d);
  if (write) {
    std::FILE* f = std::fopen(argv[2], "wb");
    if (!f || std::fwrite(rows.data(), 4, rows.size(), f) != rows.size() || std::fwrite(queries.data(), 4, queries.size(), f) != queries.size()) return 1;
    return std::fclose(f);
  }
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
  std::printf("%lld x %lld, %d threads, reads %.2f GB/s\n", static_cast<long long>(n), static_cast<long long>(d), threads, ReadBandwidth(*packed, &gang));

  SearchOptions options;
  options.metric = Metric::kCos, options.k = 10;
  std::vector<SearchHit> truth;
  auto some = [&](int64_t count) { return std::span<const float>(queries.data(), static_cast<size_t>(count * d)); };
  auto time = [&](const char* what, const VectorSet& set, int64_t count, int turns) {
    double best = 1e9;
    std::vector<SearchHit> hits;
    for (int turn = 0; turn < turns; ++turn) {
      const double start = Seconds();
      auto found = Search(set, some(count), options, &gang);
      if (!found.ok()) std::exit(1);
      best = std::min(best, Seconds() - start);
      hits = std::move(*found);
    }
    std::printf("%-6s %4lld queries  %8.2f ms a query  %6.2f GB/s of rows", what, static_cast<long long>(count), best * 1e3 / static_cast<double>(count),
                static_cast<double>(n * d * (&set == &q8 ? 1 : 4)) / best * 1e-9);
    if (!truth.empty()) std::printf("  recall@10 %.4f", Recall(truth, hits, 10));
    std::printf("\n");
    std::fflush(stdout);
    return hits;
  };
  const int64_t asked = lists > 0 ? kQueries : 64;
  truth = time("f32", exact, asked, 1);
  time("f32", exact, 1, 3);
  for (int64_t count : {1, 8, 16, 64}) time("q8", q8, count, 7);
  for (ListType type : {ListType::kQ8, ListType::kPq, ListType::kF32}) {
    if (lists <= 0 || kinds.find(ListTypeName(type)) == std::string::npos) continue;
    IvfOptions ivf;
    ivf.lists = lists, ivf.type = type;
    if (const char* v = std::getenv("ROWS_PER_LIST")) ivf.rows_per_list = std::atoll(v);
    const std::string path = std::string(std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp") + "/search_bench.tivf";
    double start = Seconds();
    if (Status s = IvfIndex::Build(path, n, d, [&](int64_t id, float* out) { std::copy_n(rows.begin() + id * d, d, out); }, ivf, &gang); !s.ok()) return 1;
    const double built = Seconds() - start;
    start = Seconds();
    auto index = IvfIndex::Open(path);
    if (!index.ok()) return 1;
    std::printf("%lld lists of %s built in %.1f s, opened in %.3f s, %.1f bytes a row\n", static_cast<long long>(lists), std::string(ListTypeName(type)).c_str(), built, Seconds() - start,
                static_cast<double>((*index)->bytes()) / static_cast<double>(n));
    for (int64_t nprobe = 1; nprobe <= lists && nprobe <= 64; nprobe *= 2) {
      double best = 1e9;
      std::vector<SearchHit> hits;
      for (int turn = 0; turn < 3; ++turn) {
        start = Seconds();
        auto found = (*index)->Find(exact, queries, nprobe, options, &gang);
        if (!found.ok()) return 1;
        best = std::min(best, Seconds() - start), hits = std::move(*found);
      }
      start = Seconds();
      for (int64_t i = 0; i < 100; ++i)
        if (!(*index)->Find(exact, some(1), nprobe, options, &gang).ok()) return 1;
      std::printf("nprobe %3lld  %8.1f queries/s in batches, %8.1f alone  recall@10 %.4f\n", static_cast<long long>(nprobe), kQueries / best, 100 / (Seconds() - start), Recall(truth, hits, 10));
      std::fflush(stdout);
    }
    std::remove(path.c_str());
  }
  return 0;
}

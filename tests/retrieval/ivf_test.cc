// Inverted lists: all lists probed is the exhaustive search; recall at the recorded settings; the same bytes for any number of threads; damage.
#include "engine/retrieval/ivf.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "tests/reference/scratch.h"

using namespace tern;

namespace {

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

// The generator and the queries of the recorded case ivf_random_10000x32 (faiss: recall@10 .209 .3135 .458 .6145 .7675 .9145 .9895 1).
struct Data {
  int64_t n = 10000, d = 32, q = 200;
  std::vector<float> rows, queries, squares;
  VectorSet set;
  Data() {
    Split s{12};
    for (int64_t i = 0; i < n * d; ++i) rows.push_back(s.Unit());
    Split pick{7 ^ 0xABCDEF}, noise{7};
    for (int64_t i = 0; i < q; ++i) {
      const int64_t row = static_cast<int64_t>(pick.Next() % static_cast<uint64_t>(n));
      for (int64_t j = 0; j < d; ++j) queries.push_back(rows[static_cast<size_t>(row * d + j)] + 0.5f * noise.Unit());
    }
    squares.resize(static_cast<size_t>(n));
    Gang gang(1);
    REQUIRE(RowSquares(rows.data(), n, d, &gang, squares.data()).ok());
    VectorBlock b;
    b.rows = n, b.f32 = rows.data(), b.squares = squares.data();
    set.dim = d, set.blocks = {b};
    for (float v : squares) set.longest = std::max(set.longest, std::sqrt(static_cast<double>(v)) * (1 + 0x1p-20));
  }
  IvfIndex::ReadRow Read() const {
    return [this](int64_t id, float* out) { std::copy_n(rows.begin() + id * d, d, out); };
  }
};

double Recall(const std::vector<SearchHit>& truth, const std::vector<SearchHit>& got, int64_t k) {
  int64_t hit = 0;
  for (size_t i = 0; i < truth.size(); ++i)
    for (int64_t j = 0; j < k; ++j) hit += got[i / static_cast<size_t>(k) * static_cast<size_t>(k) + static_cast<size_t>(j)].id == truth[i].id;
  return static_cast<double>(hit) / static_cast<double>(truth.size());
}

std::string Bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("ivf: recall of the recorded settings, exact with all lists, the same bytes for any number of threads") {
  const Data data;
  Gang one(1), three(3);
  ScratchFolder scratch;
  SearchOptions search;
  search.metric = Metric::kL2, search.k = 10;
  auto truth = Search(data.set, data.queries, search, &one);
  REQUIRE(truth.ok());
  for (VectorType type : {VectorType::kF32, VectorType::kQ8}) {
    IvfOptions options;
    options.metric = Metric::kL2, options.lists = 100, options.type = type;
    auto index = IvfIndex::Build(data.n, data.d, data.Read(), options, &one), again = IvfIndex::Build(data.n, data.d, data.Read(), options, &three);
    REQUIRE_MESSAGE(index.ok(), index.status().message());
    REQUIRE((*index)->Save(scratch.path() + "/a").ok());
    REQUIRE((*again)->Save(scratch.path() + "/b").ok());
    CHECK(Bytes(scratch.path() + "/a") == Bytes(scratch.path() + "/b"));
    auto opened = IvfIndex::Open(scratch.path() + "/a");
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    for (auto [nprobe, least] : {std::pair{1, 0.209}, {4, 0.458}, {16, 0.7675}, {64, 0.9895}}) {
      auto hits = (*index)->Find(data.set, data.queries, nprobe, search, &one), other = (*opened)->Find(data.set, data.queries, nprobe, search, &three);
      REQUIRE(hits.ok());
      CHECK(*hits == *other);
      CAPTURE(nprobe);
      CHECK(Recall(*truth, *hits, 10) >= least - 0.02);
    }
    auto all = (*index)->Find(data.set, data.queries, 100, search, &one);
    REQUIRE(all.ok());
    if (type == VectorType::kF32) CHECK(*all == *truth);
    else CHECK(Recall(*truth, *all, 10) >= 0.99);
  }
}

TEST_CASE("ivf: other metrics, few rows, sizes, damage") {
  const Data data;
  Gang gang(2);
  for (Metric metric : {Metric::kIp, Metric::kCos}) {
    IvfOptions options;
    options.metric = metric, options.lists = 40, options.type = VectorType::kF32;
    auto index = IvfIndex::Build(data.n, data.d, data.Read(), options, &gang);
    REQUIRE(index.ok());
    SearchOptions search;
    search.metric = metric, search.k = 5;
    auto truth = Search(data.set, data.queries, search, &gang), all = (*index)->Find(data.set, data.queries, 40, search, &gang);
    CHECK(*truth == *all);
  }
  CHECK(IvfLists(1) == 1);
  CHECK(IvfLists(100) == 2);
  CHECK(IvfLists(1000000) == 4096);
  IvfOptions tiny;
  tiny.lists = 3;
  auto few = IvfIndex::Build(3, data.d, data.Read(), tiny, &gang);
  REQUIRE(few.ok());
  tiny.lists = 4;
  CHECK(IvfIndex::Build(3, data.d, data.Read(), tiny, &gang).status().code() == Code::kUsage);
  CHECK((*few)->Find(data.set, data.queries, 1, {}, &gang).status().code() == Code::kUsage);
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/x";
  REQUIRE((*few)->Save(path).ok());
  const std::string good = Bytes(path);
  for (size_t keep = 0; keep < good.size(); keep += 13) {
    std::ofstream(path, std::ios::binary) << good.substr(0, keep);
    CHECK_FALSE(IvfIndex::Open(path).ok());
  }
  for (size_t at = 0; at < good.size(); at += 7) {
    if (at >= 56 && at < 64) continue;  // nothing stands there
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    std::ofstream(path, std::ios::binary) << bad;
    CHECK_FALSE(IvfIndex::Open(path).ok());
  }
}

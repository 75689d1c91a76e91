// Inverted lists: all lists probed is the exhaustive search; recall at the recorded settings; the same bytes for any number of threads; damage.
#include "engine/retrieval/ivf.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
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
  for (ListType type : {ListType::kF32, ListType::kQ8, ListType::kPq}) {
    CAPTURE(ListTypeName(type));
    IvfOptions options;
    options.metric = Metric::kL2, options.lists = 100, options.type = type;
    const std::string path = scratch.path() + "/a";
    Status built = IvfIndex::Build(path, data.n, data.d, data.Read(), options, &one);
    REQUIRE_MESSAGE(built.ok(), built.message());
    REQUIRE(IvfIndex::Build(scratch.path() + "/b", data.n, data.d, data.Read(), options, &three).ok());
    CHECK(Bytes(path) == Bytes(scratch.path() + "/b"));
    auto index = IvfIndex::Open(path);
    REQUIRE_MESSAGE(index.ok(), index.status().message());
    CHECK((*index)->Verify().ok());
    for (auto [nprobe, least] : {std::pair{1, 0.209}, {4, 0.458}, {16, 0.7675}, {64, 0.9895}}) {
      auto hits = (*index)->Find(data.set, data.queries, nprobe, search, &one), other = (*index)->Find(data.set, data.queries, nprobe, search, &three);
      REQUIRE(hits.ok());
      CHECK(*hits == *other);
      // One query by all threads.
      auto alone = (*index)->Find(data.set, {data.queries.data() + 5 * data.d, static_cast<size_t>(data.d)}, nprobe, search, &three);
      REQUIRE(alone.ok());
      CHECK(std::equal(alone->begin(), alone->end(), hits->begin() + 50));
      CAPTURE(nprobe);
      CHECK(Recall(*truth, *hits, 10) >= least - 0.03);  // another start of k-means: two of 200 queries' deviations
    }
    auto all = (*index)->Find(data.set, data.queries, 100, search, &one);
    REQUIRE(all.ok());
    if (type == ListType::kF32) CHECK(*all == *truth);
    else CHECK(Recall(*truth, *all, 10) >= 0.99);
  }
}

TEST_CASE("ivf: other metrics and widths, all lists probed") {
  const Data data;
  Gang gang(2);
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/x";
  for (Metric metric : {Metric::kIp, Metric::kCos})
    for (ListType type : {ListType::kF32, ListType::kQ8, ListType::kPq}) {
      IvfOptions options;
      options.metric = metric, options.lists = 40, options.type = type;
      REQUIRE(IvfIndex::Build(path, data.n, data.d, data.Read(), options, &gang).ok());
      auto index = IvfIndex::Open(path);
      REQUIRE(index.ok());
      SearchOptions search;
      search.metric = metric, search.k = 5;
      auto truth = Search(data.set, data.queries, search, &gang), all = (*index)->Find(data.set, data.queries, 40, search, &gang);
      if (type == ListType::kF32) CHECK(*truth == *all);
      else CHECK(Recall(*truth, *all, 5) >= 0.99);
    }
  // Awkward widths: the same rows seen as narrower ones.
  for (int64_t width : {1, 3, 5, 17}) {
    VectorSet set;
    std::vector<float> rows(data.rows.begin(), data.rows.begin() + 300 * width), squares(300);
    REQUIRE(RowSquares(rows.data(), 300, width, &gang, squares.data()).ok());
    VectorBlock block;
    block.rows = 300, block.f32 = rows.data(), block.squares = squares.data();
    set.dim = width, set.blocks = {block}, set.longest = 5;
    for (ListType type : {ListType::kF32, ListType::kQ8, ListType::kPq}) {
      IvfOptions options;
      options.metric = Metric::kL2, options.lists = 7, options.type = type;
      REQUIRE(IvfIndex::Build(path, 300, width, [&](int64_t id, float* out) { std::copy_n(rows.begin() + id * width, width, out); }, options, &gang).ok());
      auto index = IvfIndex::Open(path);
      REQUIRE(index.ok());
      SearchOptions search;
      search.metric = Metric::kL2, search.k = 3;
      const std::span<const float> queries(data.queries.data(), static_cast<size_t>(20 * width));
      auto truth = Search(set, queries, search, &gang), all = (*index)->Find(set, queries, 7, search, &gang);
      REQUIRE(all.ok());
      CHECK(Recall(*truth, *all, 3) >= (type == ListType::kF32 ? 1 : 0.95));
    }
  }
}

TEST_CASE("ivf: filters reach beyond the probed lists, k larger than the rows, more neighbours than a list holds") {
  const Data data;
  Gang gang(2);
  ScratchFolder scratch;
  IvfOptions options;
  options.metric = Metric::kL2, options.lists = 100;
  REQUIRE(IvfIndex::Build(scratch.path() + "/x", data.n, data.d, data.Read(), options, &gang).ok());
  auto index = IvfIndex::Open(scratch.path() + "/x");
  REQUIRE(index.ok());
  SearchOptions search;
  search.metric = Metric::kL2, search.k = 4;
  const std::span<const float> query(data.queries.data(), static_cast<size_t>(data.d));
  search.allowed = [](int64_t, int64_t id) { return id == 17 || id == 9000; };
  auto hits = (*index)->Find(data.set, query, 1, search, &gang);
  REQUIRE(hits.ok());
  std::vector<int64_t> ids;
  for (const SearchHit& h : *hits) ids.push_back(h.id);
  std::sort(ids.begin(), ids.end());
  CHECK(ids == std::vector<int64_t>{-1, -1, 17, 9000});
  search.allowed = nullptr, search.k = data.n + 5;
  hits = (*index)->Find(data.set, query, 1, search, &gang);
  REQUIRE(hits.ok());
  CHECK((*hits)[static_cast<size_t>(data.n - 1)].id >= 0);
  CHECK((*hits)[static_cast<size_t>(data.n)].id == -1);
  search.k = 0;
  CHECK((*index)->Find(data.set, query, 1, search, &gang).status().code() == Code::kUsage);
  CancelToken cancel;
  cancel.Cancel();
  search.k = 4, search.cancel = &cancel;
  CHECK((*index)->Find(data.set, query, 1, search, &gang).status().code() == Code::kCancelled);
  options.cancel = &cancel;
  CHECK(IvfIndex::Build(scratch.path() + "/y", data.n, data.d, data.Read(), options, &gang).code() == Code::kCancelled);
  CHECK_FALSE(FileExists(scratch.path() + "/y"));
}

TEST_CASE("ivf: few rows, sizes, memory, damage") {
  const Data data;
  Gang gang(2);
  CHECK(IvfLists(1) == 1);
  CHECK(IvfLists(100) == 2);
  CHECK(IvfLists(1000000) == 4096);
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/x";
  IvfOptions tiny;
  tiny.lists = 4;
  CHECK(IvfIndex::Build(path, 3, data.d, data.Read(), tiny, &gang).code() == Code::kUsage);
  tiny.lists = 3;
  tiny.type = ListType::kPq, tiny.parts = 6;
  CHECK(IvfIndex::Build(path, 3, data.d, data.Read(), tiny, &gang).code() == Code::kUsage);
  tiny.parts = 0;
  IvfOptions little;
  little.max_bytes = 1000;
  CHECK(IvfIndex::Build(path, data.n, data.d, data.Read(), little, &gang).code() == Code::kMemory);
  for (ListType type : {ListType::kF32, ListType::kQ8, ListType::kPq}) {
    tiny.type = type;
    REQUIRE(IvfIndex::Build(path, 3, data.d, data.Read(), tiny, &gang).ok());
    auto few = IvfIndex::Open(path);
    REQUIRE(few.ok());
    CHECK((*few)->Find(data.set, data.queries, 1, {}, &gang).status().code() == Code::kUsage);
    const std::string good = Bytes(path);
    for (size_t keep = 0; keep < good.size(); keep += std::max<size_t>(13, good.size() / 97)) {
      std::ofstream(path, std::ios::binary) << good.substr(0, keep);
      CHECK_FALSE(IvfIndex::Open(path).ok());
    }
    for (size_t at = 0; at < good.size(); at += std::max<size_t>(7, good.size() / 499)) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 4);
      std::ofstream(path, std::ios::binary) << bad;
      auto opened = IvfIndex::Open(path);
      CHECK_MESSAGE((!opened.ok() || (*opened)->Verify().code() == Code::kDigest), "offset " << at);
    }
    std::filesystem::remove(path);
  }
}

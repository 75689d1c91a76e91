#include "engine/retrieval/recall.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "engine/base/checked.h"
#include "engine/base/rng.h"
#include "engine/retrieval/candidates.h"
#include "engine/retrieval/manifest.h"

namespace tern {
namespace {

constexpr int64_t kPieceBytes = int64_t{64} << 20;  // of rows in f32 that are searched at a time
constexpr double kPlainWork = 4e9;                  // products of a plain check

struct Piece {
  std::vector<float> rows, squares;
  VectorSet set;
  int64_t first = 0;
};

Status ReadPiece(const Database& d, int64_t first, int64_t count, Gang* gang, Piece* p) {
  const int64_t dim = d.settings().dim;
  p->rows.resize(static_cast<size_t>(count * dim)), p->squares.resize(static_cast<size_t>(count));
  gang->Run([&] {
    gang->For(CeilDiv(count, 256), [&](int64_t chunk, int) {
      for (int64_t i = chunk * 256; i < std::min(count, (chunk + 1) * 256); ++i) d.Read(first + i, p->rows.data() + i * dim);
    });
  });
  TERN_RETURN_IF_ERROR(RowSquares(p->rows.data(), count, dim, gang, p->squares.data()));
  VectorBlock block;
  block.rows = count, block.f32 = p->rows.data(), block.squares = p->squares.data();
  p->set.dim = dim, p->set.longest = d.vectors().longest * 1.01, p->set.blocks = {block};  // f16 rows may be a little longer
  p->first = first;
  return {};
}

struct RemovedAtEnd {
  const std::string& path;
  ~RemovedAtEnd() { std::remove(path.c_str()); }
};

}  // namespace

Result<RecallSample> RecallSample::Draw(const Database& d, int64_t sample, bool plain, const CancelToken* cancel, Gang* gang) {
  const int64_t n = d.chunks(), dim = d.settings().dim;
  RecallSample s;
  s.options_.metric = d.settings().metric, s.options_.k = std::clamp<int64_t>(n - 1, 1, 10), s.options_.cancel = cancel;
  if (plain) sample = std::min(sample, std::max<int64_t>(10, static_cast<int64_t>(kPlainWork / static_cast<double>(n * dim))));
  const int64_t count = std::min(sample, n);
  Rng rng(9);
  s.queries_.resize(static_cast<size_t>(count * dim));
  for (int64_t i = 0; i < count; ++i) {
    s.ids_.push_back(count == n ? i : static_cast<int64_t>(rng.Below(static_cast<uint64_t>(n))));
    d.Read(s.ids_.back(), s.queries_.data() + i * dim);
  }
  const size_t k = static_cast<size_t>(s.options_.k);
  const KernelTable& kernels = Kernels();
  std::vector<Best> best(static_cast<size_t>(count));
  for (Best& b : best) b.Reset(s.options_.k);
  const double sign = s.options_.metric == Metric::kL2 ? -1 : 1;  // of a hit's score, so that larger is nearer
  Piece p;
  const int64_t step = std::max<int64_t>(256, kPieceBytes / (4 * dim));
  for (int64_t first = 0; first < n; first += step) {
    TERN_RETURN_IF_ERROR(ReadPiece(d, first, std::min(step, n - first), gang, &p));
    if (plain) {
      const ExactScorer scorer(p.set, s.options_.metric, kernels);
      std::vector<std::vector<float>> buffers(static_cast<size_t>(gang->threads()));
      gang->Run([&] {
        gang->For(count, [&](int64_t q, int worker) {
          if (cancel && cancel->cancelled()) return;
          const float* query = s.queries_.data() + q * dim;
          const double length = LengthOf(query, dim);
          for (int64_t i = 0; i < p.set.rows(); ++i) {
            const Candidate c{scorer.Score(query, length, i, &buffers[static_cast<size_t>(worker)]), first + i};
            if (c.id != s.ids_[static_cast<size_t>(q)] && best[static_cast<size_t>(q)].Wants(c)) best[static_cast<size_t>(q)].Add(c);
          }
        });
      });
    } else {
      SearchOptions o = s.options_;
      o.allowed = [&](int64_t q, int64_t id) { return first + id != s.ids_[static_cast<size_t>(q)]; };
      TERN_ASSIGN(auto hits, Search(p.set, s.queries_, o, gang));
      for (size_t i = 0; i < hits.size(); ++i) {
        const Candidate c{sign * hits[i].score, first + hits[i].id};
        if (hits[i].id >= 0 && best[i / k].Wants(c)) best[i / k].Add(c);
      }
    }
    if (cancel && cancel->cancelled()) return Status(Code::kCancelled, "cancelled");
  }
  for (Best& b : best) {
    std::sort(b.list().begin(), b.list().end(), Better);
    for (size_t i = 0; i < k; ++i) s.truth_.push_back(i < b.list().size() ? SearchHit{b.list()[i].id, static_cast<float>(sign * b.list()[i].score)} : SearchHit{});
  }
  return s;
}

Result<RecallFigures> RecallSample::Measure(const Finder& find) const {
  SearchOptions o = options_;
  o.allowed = [this](int64_t q, int64_t id) { return id != ids_[static_cast<size_t>(q)]; };
  const auto start = std::chrono::steady_clock::now();
  TERN_ASSIGN(auto hits, find(queries_, o));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // A hit counts if it is one of the nearest, or as near as the last of them: equal rows may stand for each other.
  int64_t found = 0, there = 0;
  const size_t k = static_cast<size_t>(options_.k);
  for (size_t q = 0; q < ids_.size(); ++q) {
    const auto begin = truth_.begin() + static_cast<int64_t>(q * k), end = begin + static_cast<int64_t>(k);
    const int64_t real = std::count_if(begin, end, [](const SearchHit& h) { return h.id >= 0; });
    there += real;
    for (size_t i = 0; i < k; ++i) {
      const SearchHit& h = hits[q * k + i];
      if (h.id < 0 || real == 0) continue;
      const float last = (begin + real - 1)->score;
      found += std::any_of(begin, end, [&](const SearchHit& t) { return t.id == h.id; }) || h.score == last;
    }
  }
  const double count = static_cast<double>(ids_.size());
  return RecallFigures{static_cast<int64_t>(ids_.size()), options_.k, there > 0 ? static_cast<double>(found) / static_cast<double>(there) : 1, count / std::max(seconds, 1e-9)};
}

Result<RecallFigures> CheckRecall(const Database& d, int64_t sample, const CancelToken* cancel, Gang* gang) {
  const bool plain = d.settings().type == VectorType::kF32 && !d.lists();
  TERN_ASSIGN(RecallSample drawn, RecallSample::Draw(d, sample, plain, cancel, gang));
  TERN_ASSIGN(RecallFigures r, drawn.Measure([&](std::span<const float> queries, const SearchOptions& o) { return d.Find(queries, o, 0, false, gang); }));
  TERN_RETURN_IF_ERROR(AmendManifest(d.folder(), {{"check", {{"sample", r.sample}, {"recall_at_10", r.recall}, {"queries_per_second", r.queries_per_second}}}}));
  return r;
}

Result<ListsReport> BuildLists(const std::string& folder, const IvfOptions& wanted, double recall, Gang* gang) {
  TERN_RETURN_IF_ERROR(ReadManifest(folder).status());
  TERN_ASSIGN(FileWriter lock, LockDatabase(folder));
  TERN_ASSIGN(auto d, Database::Open(folder, Database::Lists::kIgnore));
  IvfOptions options = wanted;
  options.metric = d->settings().metric;
  const std::string path = folder + kListsName, made = path + ".new";
  const RemovedAtEnd unfinished{made};
  TERN_RETURN_IF_ERROR(IvfIndex::Build(made, d->chunks(), d->settings().dim, [&](int64_t id, float* out) { d->Read(id, out); }, options, gang));
  TERN_ASSIGN(auto index, IvfIndex::Open(made));
  if (options.progress) options.progress("measuring recall", 0, 1);
  TERN_ASSIGN(RecallSample sample, RecallSample::Draw(*d, 200, false, options.cancel, gang));
  ListsReport report{index->lists(), 1, index->bytes(), 0};
  for (;; report.nprobe = std::min(report.nprobe * 2, report.lists)) {
    TERN_ASSIGN(RecallFigures r, sample.Measure([&](std::span<const float> queries, const SearchOptions& o) { return index->Find(d->vectors(), queries, report.nprobe, o, gang); }));
    report.recall = r.recall;
    if (report.recall >= recall || report.nprobe == report.lists) break;
  }
  std::error_code error;
  std::filesystem::rename(made, path, error);
  if (error) return IoError(Str("cannot be renamed: ", error.message())).File(made);
  TERN_RETURN_IF_ERROR(AmendLockedManifest(folder, {{"lists", {{"count", report.lists}, {"type", ListTypeName(options.type)}, {"nprobe", report.nprobe}, {"recall_at_10", report.recall}}}}));
  return report;
}

}  // namespace tern

#include "engine/retrieval/search.h"

#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "engine/base/dtype.h"
#include "engine/base/memory.h"
#include "engine/retrieval/candidates.h"

namespace tern {
namespace {

// Rows scanned at a time. Rows that are packed first go through the cache; panels that lie in memory are passed once, by all queries of a batch.
constexpr int64_t kPackedSlice = 4096, kPlainSlice = 1024;
constexpr int64_t kQueryBatch = 16;

class Searcher {
 public:
  Searcher(const VectorSet& set, std::span<const float> queries, const SearchOptions& options, Gang* gang)
      : set_(set), queries_(queries), o_(options), gang_(gang), k_(options.kernels ? *options.kernels : Kernels()), q_(static_cast<int64_t>(queries.size()) / set.dim), total_(set.rows()),
        scorer_(set, options.metric, k_) {}

  Result<std::vector<SearchHit>> Run();

 private:
  struct Slice {
    const VectorBlock* block;
    int64_t row, rows;
  };
  struct Worker {
    Region panels, products, scratch;
    std::vector<Best> best;  // per query of the batch
    std::vector<float> buffer;
  };

  Status Prepare();
  Status Batch(int64_t begin, int64_t end, int64_t candidates, std::vector<SearchHit>* hits);
  void Scan(const Slice& slice, int64_t begin, int64_t count, Worker* worker);
  // Puts the hits of one query in place; false: with so few candidates the result is not proven.
  bool Finish(int64_t query, int64_t place, int64_t candidates, Worker* worker, std::vector<SearchHit>* hits);
  const float* Query(int64_t query) const { return queries_.data() + query * set_.dim; }

  const VectorSet& set_;
  std::span<const float> queries_;
  const SearchOptions& o_;
  Gang* gang_;
  const KernelTable& k_;
  const int64_t q_, total_;
  const ExactScorer scorer_;
  bool proven_ = true;  // f32 rows everywhere
  std::vector<Slice> slices_;
  std::vector<Worker> workers_;
  std::vector<double> lengths_;     // |q|
  std::vector<uint8_t> quantized_;  // of the batch, rows padded to 4
  std::vector<float> scales_;
  int64_t padded_ = 0;
};

Status Searcher::Prepare() {
  const int64_t d = set_.dim;
  padded_ = RoundUp(d, 4);
  bool plain = false;
  for (const VectorBlock& b : set_.blocks) {
    proven_ = proven_ && (b.f32 || b.packed.type != DType::i8);
    plain = plain || b.f32;
    const int64_t step = b.f32 ? kPlainSlice : kPackedSlice;
    for (int64_t row = 0; row < b.rows; row += step) slices_.push_back({&b, row, std::min(step, b.rows - row)});
  }
  for (int64_t q = 0; q < q_; ++q) {
    lengths_.push_back(LengthOf(Query(q), d));
    if (!std::isfinite(lengths_.back())) return Status(Code::kNumeric, "a query holds a NaN or infinity").Where(Str("query ", q));
  }
  const int64_t batch = std::min(kQueryBatch, q_);
  workers_ = std::vector<Worker>(static_cast<size_t>(gang_->threads()));
  for (Worker& w : workers_) {
    TERN_ASSIGN(w.panels, Region::Create(plain ? *PackedBytes(DType::f32, kPlainSlice, d) : 64));
    TERN_ASSIGN(w.products, Region::Create(batch * kPackedSlice * 4));
    TERN_ASSIGN(w.scratch, Region::Create(GemmScratchBytes(DType::f32, batch, d)));
    w.best.resize(static_cast<size_t>(batch));
  }
  quantized_.resize(static_cast<size_t>(batch * padded_));
  scales_.resize(static_cast<size_t>(batch));
  return {};
}

void Searcher::Scan(const Slice& s, int64_t begin, int64_t count, Worker* w) {
  const VectorBlock& b = *s.block;
  const int64_t d = set_.dim, stride = RoundUp(s.rows, kPanelColumns);
  float* products = reinterpret_cast<float*>(w->products.data());
  const int64_t panel_begin = s.row / kPanelColumns, panel_end = CeilDiv(s.row + s.rows, kPanelColumns);
  if (!b.f32 && b.packed.type == DType::i8) {
    GemmQ8Call g;
    g.x = quantized_.data(), g.x_scales = scales_.data(), g.ldx = padded_, g.m = count;
    g.w = b.packed, g.panel_begin = panel_begin, g.panel_end = panel_end;
    g.y = products - s.row, g.ldy = stride;
    k_.gemm_q8(g);
  } else {
    GemmCall g;
    g.x = Query(begin), g.ldx = d, g.m = count;
    g.scratch = w->scratch.data(), g.ldy = stride;
    if (b.f32) {
      k_.pack_rows(b.f32 + s.row * d, d, s.rows, d, reinterpret_cast<float*>(w->panels.data()));
      g.w = {w->panels.data(), DType::f32, s.rows, d};
      g.panel_end = CeilDiv(s.rows, kPanelColumns);
      g.y = products;
    } else {
      g.w = b.packed, g.panel_begin = panel_begin, g.panel_end = panel_end;
      g.y = products - s.row;
    }
    k_.gemm(g);
  }
  for (int64_t q = 0; q < count; ++q) {
    const int64_t query = begin + q;
    const double length = lengths_[static_cast<size_t>(query)];
    std::function<bool(int64_t)> allowed;
    if (o_.allowed) allowed = [&](int64_t id) { return o_.allowed(query, id); };
    KeepBest({o_.metric, products + q * stride, b.squares + s.row, s.rows, 0, nullptr, b.first + s.row}, allowed,
             [&](int64_t id) { return scorer_.Score(Query(query), length, id, &w->buffer) * length; }, &w->best[static_cast<size_t>(q)]);
  }
}

bool Searcher::Finish(int64_t query, int64_t place, int64_t candidates, Worker* worker, std::vector<SearchHit>* hits) {
  std::vector<Candidate> all;
  for (Worker& w : workers_) all.insert(all.end(), w.best[static_cast<size_t>(place)].list().begin(), w.best[static_cast<size_t>(place)].list().end());
  std::sort(all.begin(), all.end(), Better);
  const int64_t found = static_cast<int64_t>(all.size()), kept = std::min(found, candidates);
  const bool dropped = found > candidates || (found == candidates && candidates < total_);
  all.resize(static_cast<size_t>(kept));
  const double last = all.empty() ? 0 : all.back().score, length = lengths_[static_cast<size_t>(query)];
  scorer_.Rescore(Query(query), length, &all, &worker->buffer);
  if (proven_ && dropped && kept >= o_.k && MayHaveDropped(o_.metric, set_.dim, length, set_.longest, all[static_cast<size_t>(o_.k - 1)].score, last)) return false;
  for (int64_t i = 0; i < std::min(o_.k, kept); ++i) {
    const Candidate& c = all[static_cast<size_t>(i)];
    (*hits)[static_cast<size_t>(query * o_.k + i)] = {c.id, static_cast<float>(o_.metric == Metric::kL2 ? -c.score : c.score)};
  }
  return true;
}

Status Searcher::Batch(int64_t begin, int64_t end, int64_t candidates, std::vector<SearchHit>* hits) {
  const int64_t count = end - begin;
  for (Worker& w : workers_)
    for (int64_t q = 0; q < count; ++q) w.best[static_cast<size_t>(q)].Reset(candidates);
  if (!proven_)
    for (int64_t q = 0; q < count; ++q) k_.quantize_row(Query(begin + q), set_.dim, quantized_.data() + q * padded_, scales_.data() + q);
  std::vector<uint8_t> good(static_cast<size_t>(count), 1);
  gang_->Run([&] {
    gang_->For(static_cast<int64_t>(slices_.size()), [&](int64_t i, int worker) {
      if (o_.cancel && o_.cancel->cancelled()) return;
      Scan(slices_[static_cast<size_t>(i)], begin, count, &workers_[static_cast<size_t>(worker)]);
    });
    gang_->For(count, [&](int64_t q, int worker) {
      good[static_cast<size_t>(q)] = (o_.cancel && o_.cancel->cancelled()) || Finish(begin + q, q, candidates, &workers_[static_cast<size_t>(worker)], hits);
    });
  });
  if (o_.cancel && o_.cancel->cancelled()) return {Code::kCancelled, "cancelled"};
  // What could not be proven, with more candidates; in the end with all rows.
  for (int64_t q = 0; q < count; ++q)
    if (!good[static_cast<size_t>(q)]) TERN_RETURN_IF_ERROR(Batch(begin + q, begin + q + 1, std::min(total_, candidates * 8), hits));
  return {};
}

Result<std::vector<SearchHit>> Searcher::Run() {
  std::vector<SearchHit> hits(static_cast<size_t>(q_ * o_.k));
  if (total_ == 0 || q_ == 0) return hits;
  TERN_RETURN_IF_ERROR(Prepare());
  if (*std::max_element(lengths_.begin(), lengths_.end()) * set_.longest > 1e37 || set_.longest * set_.longest > 1e37)
    return Status(Code::kNumeric, "the vectors are too long for products in f32");
  int64_t candidates = o_.candidates > 0 ? std::max(o_.candidates, o_.k) : proven_ ? o_.k + std::max<int64_t>(16, o_.k) : std::max<int64_t>(8 * o_.k, 128);
  candidates = std::min(candidates, total_);
  for (int64_t begin = 0; begin < q_; begin += kQueryBatch) TERN_RETURN_IF_ERROR(Batch(begin, std::min(q_, begin + kQueryBatch), candidates, &hits));
  return hits;
}

}  // namespace

std::string_view MetricName(Metric metric) { return metric == Metric::kIp ? "ip" : metric == Metric::kL2 ? "l2" : "cos"; }

std::optional<Metric> MetricOf(std::string_view name) {
  for (Metric m : {Metric::kIp, Metric::kL2, Metric::kCos})
    if (MetricName(m) == name) return m;
  return {};
}

Status RowSquares(const float* rows, int64_t count, int64_t dim, Gang* gang, float* squares) {
  constexpr int64_t kRows = 256;
  gang->Run([&] {
    gang->For(CeilDiv(count, kRows), [&](int64_t chunk, int) {
      for (int64_t r = chunk * kRows; r < std::min(count, (chunk + 1) * kRows); ++r) {
        double lanes[4] = {};
        const float* x = rows + r * dim;
        for (int64_t i = 0; i < dim; ++i) lanes[i % 4] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        squares[r] = static_cast<float>((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
      }
    });
  });
  for (int64_t r = 0; r < count; ++r)
    if (!std::isfinite(squares[r])) return Status(Code::kNumeric, "a vector holds a NaN or infinity, or is too long").Where(Str("row ", r));
  return {};
}

Result<std::vector<SearchHit>> Search(const VectorSet& set, std::span<const float> queries, const SearchOptions& options, Gang* gang) {
  if (options.k < 1 || options.k > (1 << 20)) return UsageError("the number of neighbours is out of range").Got(options.k, Str("1 to ", 1 << 20));
  if (set.dim < 1 || set.dim > 65536 || static_cast<int64_t>(queries.size()) % set.dim != 0) return UsageError("the queries have another width than the vectors").Got(queries.size(), Str("a multiple of ", set.dim));
  return Searcher(set, queries, options, gang).Run();
}

}  // namespace tern

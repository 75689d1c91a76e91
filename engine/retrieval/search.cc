#include "engine/retrieval/search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/base/checked.h"
#include "engine/base/dtype.h"
#include "engine/base/memory.h"

namespace tern {
namespace {

constexpr int64_t kSliceRows = 1024;   // rows scanned at a time: their panels and scores stay in the cache
constexpr double kTiny = 0x1p-100;     // squares below have lost digits in f32
constexpr int64_t kQueryBatch = 16;    // queries that share one pass over a slice

// A row the scan kept. Total order: higher score first, then lower id; so the best n of a set do not depend on the order they came in.
struct Candidate {
  double score;
  int64_t id;
};
bool Better(const Candidate& a, const Candidate& b) { return a.score > b.score || (a.score == b.score && a.id < b.id); }

// The best `most` candidates so far: a heap with the worst on top.
class Best {
 public:
  void Reset(int64_t most) {
    most_ = static_cast<size_t>(most);
    heap_.clear();
  }
  bool Wants(double score, int64_t id) const { return heap_.size() < most_ || Better({score, id}, heap_.front()); }
  void Add(double score, int64_t id) {
    if (heap_.size() == most_) std::pop_heap(heap_.begin(), heap_.end(), Better), heap_.pop_back();
    heap_.push_back({score, id});
    std::push_heap(heap_.begin(), heap_.end(), Better);
  }
  std::vector<Candidate>& list() { return heap_; }
  size_t most() const { return most_; }

 private:
  size_t most_ = 0;
  std::vector<Candidate> heap_;
};

class Searcher {
 public:
  Searcher(const VectorSet& set, std::span<const float> queries, const SearchOptions& options, Gang* gang)
      : set_(set), queries_(queries), o_(options), gang_(gang), k_(options.kernels ? *options.kernels : Kernels()), q_(set.dim > 0 ? static_cast<int64_t>(queries.size()) / set.dim : 0), exact_(options.exact_rows ? *options.exact_rows : set), total_(exact_.rows()) {}

  Result<std::vector<SearchHit>> Run();

 private:
  struct Slice {
    const VectorBlock* block;
    int64_t row, rows;
  };
  struct Worker {
    Region panels, scores, scratch;
    std::vector<Best> best;  // per query of the batch
  };

  static void AddSlices(const VectorBlock& b, std::vector<Slice>* slices) {
    for (int64_t row = 0; row < b.rows; row += kSliceRows) slices->push_back({&b, row, std::min(kSliceRows, b.rows - row)});
  }
  int64_t batch_queries() const { return o_.probed ? 1 : kQueryBatch; }
  Status Prepare();
  Status Batch(int64_t begin, int64_t end, int64_t candidates, std::vector<SearchHit>* hits);
  void Scan(const Slice& slice, int64_t begin, int64_t count, Worker* worker);
  double Score(int64_t query, int64_t id) const;            // exact: larger is nearer
  const float* Row(int64_t id, std::vector<float>* buffer) const;
  const VectorBlock& BlockOf(int64_t id) const;
  // The most that a row's score in the scan may be off, for this query.
  double Bound(int64_t query) const;
  double Shown(double score) const { return o_.metric == Metric::kL2 ? -score : score; }

  const VectorSet& set_;
  std::span<const float> queries_;
  const SearchOptions& o_;
  Gang* gang_;
  const KernelTable& k_;
  const int64_t q_;
  const VectorSet& exact_;           // rows by id
  const int64_t total_;
  bool proven_ = true;               // f32 rows everywhere
  std::vector<Slice> slices_, some_;   // all, or those of one query's blocks
  std::vector<Worker> workers_;
  std::vector<double> lengths_;      // |q|
  std::vector<uint8_t> quantized_;   // of the batch, rows padded to 4
  std::vector<float> scales_;
  int64_t padded_ = 0;
};

Status Searcher::Prepare() {
  const int64_t d = set_.dim;
  padded_ = RoundUp(d, 4);
  bool packed_i8 = false, rows_f32 = false;
  for (const VectorBlock& b : set_.blocks) {
    packed_i8 = packed_i8 || (!b.f32 && b.packed.type == DType::i8);
    rows_f32 = rows_f32 || b.f32;
    if (!o_.probed) AddSlices(b, &slices_);
  }
  proven_ = !packed_i8;
  for (int64_t q = 0; q < q_; ++q) {
    double sum = 0;
    for (int64_t i = 0; i < d; ++i) sum += static_cast<double>(queries_[static_cast<size_t>(q * d + i)]) * queries_[static_cast<size_t>(q * d + i)];
    if (!std::isfinite(sum)) return Status(Code::kNumeric, "a query holds a NaN or infinity").Where(Str("query ", q));
    lengths_.push_back(std::sqrt(sum));
  }
  const int64_t batch = std::min(batch_queries(), q_), slice = kSliceRows;
  workers_ = std::vector<Worker>(static_cast<size_t>(gang_->threads()));
  for (Worker& w : workers_) {
    TERN_ASSIGN(w.panels, Region::Create(!rows_f32 ? 64 : *PackedBytes(DType::f32, slice, d)));
    TERN_ASSIGN(w.scores, Region::Create(batch * slice * 4));
    TERN_ASSIGN(w.scratch, Region::Create(GemmScratchBytes(DType::f32, batch, d)));
    w.best.resize(static_cast<size_t>(batch));
  }
  quantized_.resize(static_cast<size_t>(batch * padded_));
  scales_.resize(static_cast<size_t>(batch));
  return {};
}

void Searcher::Scan(const Slice& s, int64_t begin, int64_t count, Worker* w) {
  const VectorBlock& b = *s.block;
  const int64_t d = set_.dim;
  float* scores = reinterpret_cast<float*>(w->scores.data());
  const int64_t stride = RoundUp(s.rows, kPanelColumns);
  if (!b.f32 && b.packed.type == DType::i8) {
    GemmQ8Call g;
    g.x = quantized_.data(), g.x_scales = scales_.data(), g.ldx = padded_, g.m = count;
    g.w = b.packed, g.panel_begin = s.row / kPanelColumns, g.panel_end = CeilDiv(s.row + s.rows, kPanelColumns);
    g.y = scores - s.row, g.ldy = stride;
    k_.gemm_q8(g);
  } else {
    GemmCall g;
    g.x = queries_.data() + begin * d, g.ldx = d, g.m = count;
    g.scratch = w->scratch.data(), g.ldy = stride;
    if (b.f32) {
      k_.pack_rows(b.f32 + s.row * d, d, s.rows, d, reinterpret_cast<float*>(w->panels.data()));
      g.w = {w->panels.data(), DType::f32, s.rows, d};
      g.panel_end = CeilDiv(s.rows, kPanelColumns);
      g.y = scores;
    } else {
      g.w = b.packed, g.panel_begin = s.row / kPanelColumns, g.panel_end = CeilDiv(s.row + s.rows, kPanelColumns);
      g.y = scores - s.row;
    }
    k_.gemm(g);
  }
  for (int64_t q = 0; q < count; ++q) {
    Best& best = w->best[static_cast<size_t>(q)];
    const float* row = scores + q * stride;
    for (int64_t i = 0; i < s.rows; ++i) {
      double score = row[i];
      const double square = b.squares[s.row + i];
      const int64_t id = b.ids ? b.ids[s.row + i] : b.first + s.row + i;
      if (o_.metric == Metric::kL2) score = 2 * score - square;
      else if (o_.metric == Metric::kCos) score = square > kTiny ? score / std::sqrt(square) : Score(begin + q, id) * lengths_[static_cast<size_t>(begin + q)];
      if (std::isnan(score)) score = -std::numeric_limits<double>::infinity();  // a damaged row: it must not spoil the order
      if (best.Wants(score, id) && (!o_.allowed || o_.allowed(begin + q, id))) best.Add(score, id);
    }
  }
}

const VectorBlock& Searcher::BlockOf(int64_t id) const {
  auto it = std::upper_bound(exact_.blocks.begin(), exact_.blocks.end(), id, [](int64_t v, const VectorBlock& b) { return v < b.first; });
  return *(it - 1);
}

const float* Searcher::Row(int64_t id, std::vector<float>* buffer) const {
  const VectorBlock& b = BlockOf(id);
  const int64_t row = id - b.first;
  if (b.f32) return b.f32 + row * set_.dim;
  buffer->resize(static_cast<size_t>(set_.dim));
  if (b.f16) k_.f16_to_f32(b.f16 + row * set_.dim, set_.dim, buffer->data());
  else UnpackRow(b.packed, row, buffer->data());
  return buffer->data();
}

double Searcher::Score(int64_t query, int64_t id) const {
  thread_local std::vector<float> buffer;
  const float *x = Row(id, &buffer), *q = queries_.data() + query * set_.dim;
  double sum = 0, square = 0;
  if (o_.metric == Metric::kL2) {
    for (int64_t i = 0; i < set_.dim; ++i) {
      const double difference = static_cast<double>(q[i]) - static_cast<double>(x[i]);
      sum += difference * difference;
    }
    return -sum;
  }
  for (int64_t i = 0; i < set_.dim; ++i) {
    sum += static_cast<double>(q[i]) * static_cast<double>(x[i]);
    square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  if (o_.metric == Metric::kIp) return sum;
  const double length = lengths_[static_cast<size_t>(query)] * std::sqrt(square);
  return length > 0 ? sum / length : 0;
}

// An f32 product of d terms is off by at most (d + 2) eps |q| |x|; then the metric's own f32 inputs (|x|^2 rounded once).
double Searcher::Bound(int64_t query) const {
  constexpr double kEps = 0x1p-24;
  const double q = lengths_[static_cast<size_t>(query)], x = set_.longest, n = static_cast<double>(set_.dim) + 4;
  switch (o_.metric) {
    case Metric::kIp: return (n + 1) * kEps * q * x + n * 0x1p-149;
    case Metric::kL2: return (2 * n + 2) * kEps * q * x + 3 * kEps * (x * x + q * q * 0x1p-14) + n * 0x1p-148;
    case Metric::kCos: return (n + 4) * kEps * q;
  }
  return 0;
}

Status Searcher::Batch(int64_t begin, int64_t end, int64_t candidates, std::vector<SearchHit>* hits) {
  const int64_t count = end - begin;
  for (Worker& w : workers_)
    for (int64_t q = 0; q < count; ++q) w.best[static_cast<size_t>(q)].Reset(candidates);
  if (!proven_)
    for (int64_t q = 0; q < count; ++q)
      k_.quantize_row(queries_.data() + (begin + q) * set_.dim, set_.dim, quantized_.data() + q * padded_, scales_.data() + q);
  if (o_.probed) {
    some_.clear();
    for (int32_t block : (*o_.probed)[static_cast<size_t>(begin)]) AddSlices(set_.blocks[static_cast<size_t>(block)], &some_);
  }
  const std::vector<Slice>& slices = o_.probed ? some_ : slices_;
  gang_->Run([&] {
    gang_->For(static_cast<int64_t>(slices.size()), [&](int64_t i, int worker) {
      if (o_.cancel && o_.cancel->cancelled()) return;
      Scan(slices[static_cast<size_t>(i)], begin, count, &workers_[static_cast<size_t>(worker)]);
    });
  });
  if (o_.cancel && o_.cancel->cancelled()) return {Code::kCancelled, "cancelled"};
  std::vector<Candidate> all;
  std::vector<int64_t> again;
  for (int64_t q = 0; q < count; ++q) {
    all.clear();
    for (Worker& w : workers_) all.insert(all.end(), w.best[static_cast<size_t>(q)].list().begin(), w.best[static_cast<size_t>(q)].list().end());
    std::sort(all.begin(), all.end(), Better);
    const bool dropped = static_cast<int64_t>(all.size()) > candidates || (static_cast<int64_t>(all.size()) == candidates && candidates < total_);
    if (static_cast<int64_t>(all.size()) > candidates) all.resize(static_cast<size_t>(candidates));
    const double last = all.empty() ? 0 : all.back().score;
    for (Candidate& c : all) {
      c.score = Score(begin + q, c.id);
      if (std::isnan(c.score)) c.score = -std::numeric_limits<double>::infinity();
    }
    std::sort(all.begin(), all.end(), Better);
    if (proven_ && dropped && static_cast<int64_t>(all.size()) >= o_.k) {
      // The scan's scale: l2 without |q|^2, cosine times |q|.
      const double q_length = lengths_[static_cast<size_t>(begin + q)];
      double worst = all[static_cast<size_t>(o_.k - 1)].score;
      if (o_.metric == Metric::kL2) worst += q_length * q_length;
      else if (o_.metric == Metric::kCos) worst *= q_length;
      if (!(worst > last + Bound(begin + q))) {
        again.push_back(begin + q);
        continue;
      }
    }
    for (int64_t i = 0; i < std::min<int64_t>(o_.k, static_cast<int64_t>(all.size())); ++i)
      (*hits)[static_cast<size_t>((begin + q) * o_.k + i)] = {all[static_cast<size_t>(i)].id, static_cast<float>(Shown(all[static_cast<size_t>(i)].score))};
  }
  // What could not be proven, with more candidates; in the end with all rows.
  for (int64_t q : again) TERN_RETURN_IF_ERROR(Batch(q, q + 1, std::min(total_, candidates * 8), hits));
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
  for (int64_t begin = 0; begin < q_; begin += batch_queries()) TERN_RETURN_IF_ERROR(Batch(begin, std::min(q_, begin + batch_queries()), candidates, &hits));
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

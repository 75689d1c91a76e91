// Looking into inverted lists. Several queries are shared out over the threads, one alone is: over its lists. Either way the same candidates are kept.
#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "engine/retrieval/candidates.h"
#include "engine/retrieval/ivf.h"
#include "engine/retrieval/pq.h"

namespace tern {
namespace {

constexpr int64_t kSlice = 4096;        // rows whose products are alive at a time; whole panels
constexpr int64_t kCoarsePanels = 32;   // centroids of one piece of work
constexpr int64_t kCoarseBytes = 16 << 20;

}  // namespace

class ListSearcher {
 public:
  ListSearcher(const IvfIndex& x, const VectorSet& rows, std::span<const float> queries, int64_t nprobe, const SearchOptions& options, Gang* gang)
      : x_(x), rows_(rows), queries_(queries), nprobe_(nprobe), o_(options), gang_(gang), k_(options.kernels ? *options.kernels : Kernels()),
        q_(static_cast<int64_t>(queries.size()) / x.dim_), scorer_(rows, x.metric_, k_) {}
  Result<std::vector<SearchHit>> Run();

 private:
  // A query as the lists want it.
  struct Prepared {
    double length = 0;
    std::vector<uint8_t> quantized;
    float scale = 0;
    std::vector<float> table;
  };
  struct Probe {
    int32_t list;
    float score;  // q.c, of l2 q.c - |c|^2 / 2
  };
  struct Slice {
    Probe probe;
    int64_t begin, rows;
  };
  struct Worker {
    Region products, scratch;
    Prepared own;
    Best best;
    std::vector<float> values, buffer;
    std::vector<int32_t> numbers;
    std::vector<Slice> slices;
  };

  Status Begin();
  void Coarse(int64_t begin, int64_t end);
  const float* Query(int64_t query) const { return queries_.data() + query * x_.dim_; }
  void Prepare(int64_t query, Prepared* p) const;
  // Slices of the `nprobe` nearest lists.
  void Choose(int64_t query, int64_t nprobe, Worker* w);
  void Scan(int64_t query, const Prepared& p, const Slice& s, Worker* w);
  // Scores `all` again and puts the hits in place. False: more candidates are needed (*candidates), or more lists (*nprobe).
  bool Finish(int64_t query, const Prepared& p, std::vector<Candidate>* all, std::vector<float>* buffer, int64_t* candidates, int64_t* nprobe);
  void Whole(int64_t query, Worker* w);   // one query by one thread
  void Shared(int64_t query);             // one query by all
  int64_t FirstCandidates() const;
  bool cancelled() const { return o_.cancel && o_.cancel->cancelled(); }

  const IvfIndex& x_;
  const VectorSet& rows_;
  std::span<const float> queries_;
  const int64_t nprobe_;
  const SearchOptions& o_;
  Gang* gang_;
  const KernelTable& k_;
  const int64_t q_;
  const ExactScorer scorer_;
  std::vector<float> coarse_;  // [some queries, lists]
  int64_t coarse_first_ = 0;
  std::vector<Worker> workers_;
  std::vector<SearchHit> hits_;
};

Status ListSearcher::Begin() {
  for (int64_t q = 0; q < q_; ++q) {
    const double length = LengthOf(Query(q), x_.dim_);
    if (!std::isfinite(length)) return Status(Code::kNumeric, "a query holds a NaN or infinity").Where(Str("query ", q));
    if (length * std::max(x_.longest_, rows_.longest) > 1e37 || rows_.longest * rows_.longest > 1e37) return Status(Code::kNumeric, "the vectors are too long for products in f32");
  }
  workers_ = std::vector<Worker>(static_cast<size_t>(gang_->threads()));
  for (Worker& w : workers_) {
    TERN_ASSIGN(w.products, Region::Create(kSlice * 4));
    TERN_ASSIGN(w.scratch, Region::Create(GemmScratchBytes(DType::f32, 64, x_.dim_)));
  }
  hits_.resize(static_cast<size_t>(q_ * o_.k));
  return {};
}

void ListSearcher::Coarse(int64_t begin, int64_t end) {
  const int64_t panels = PanelCount(x_.lists_);
  coarse_first_ = begin;
  gang_->For(CeilDiv(panels, kCoarsePanels), [&](int64_t i, int worker) {
    x_.coarse_.Scores(Query(begin), x_.dim_, end - begin, i * kCoarsePanels, std::min(panels, (i + 1) * kCoarsePanels), workers_[static_cast<size_t>(worker)].scratch.data(), coarse_.data());
  });
}

void ListSearcher::Prepare(int64_t query, Prepared* p) const {
  p->length = LengthOf(Query(query), x_.dim_);
  if (x_.type_ == ListType::kQ8) {
    p->quantized.resize(static_cast<size_t>(RoundUp(x_.dim_, 4)));
    k_.quantize_row(Query(query), x_.dim_, p->quantized.data(), &p->scale);
  } else if (x_.type_ == ListType::kPq) {
    p->table.resize(static_cast<size_t>(x_.parts_ * kCodewords));
    PqTable(x_.codebook_, Query(query), x_.dim_, x_.parts_, p->table.data());
  }
}

void ListSearcher::Choose(int64_t query, int64_t nprobe, Worker* w) {
  w->values.resize(static_cast<size_t>(nprobe)), w->numbers.resize(static_cast<size_t>(nprobe));
  k_.top_k(coarse_.data() + (query - coarse_first_) * x_.lists_, x_.lists_, nprobe, w->values.data(), w->numbers.data());
  w->slices.clear();
  for (int64_t i = 0; i < nprobe; ++i) {
    const Probe probe{w->numbers[static_cast<size_t>(i)], w->values[static_cast<size_t>(i)]};
    for (int64_t begin = 0, n = x_.list_rows(probe.list); begin < n; begin += kSlice) w->slices.push_back({probe, begin, std::min(kSlice, n - begin)});
  }
}

void ListSearcher::Scan(int64_t query, const Prepared& p, const Slice& s, Worker* w) {
  const int64_t list = s.probe.list, n = x_.list_rows(list), first = x_.begin_[list] + s.begin;
  const uint8_t* codes = x_.codes_.data() + x_.offset_[static_cast<size_t>(list)];
  float* products = reinterpret_cast<float*>(w->products.data());
  const int64_t panel_begin = s.begin / kPanelColumns, panel_end = CeilDiv(s.begin + s.rows, kPanelColumns);
  if (x_.type_ == ListType::kQ8) {
    GemmQ8Call g;
    g.x = p.quantized.data(), g.x_scales = &p.scale, g.ldx = static_cast<int64_t>(p.quantized.size()), g.m = 1;
    g.w = {codes, DType::i8, n, x_.dim_}, g.panel_begin = panel_begin, g.panel_end = panel_end;
    g.y = products - s.begin, g.ldy = RoundUp(n, kPanelColumns);
    k_.gemm_q8(g);
  } else if (x_.type_ == ListType::kPq) {
    PqScan(p.table.data(), x_.parts_, codes, n, s.begin, s.rows, products);
  } else {
    GemmCall g;
    g.x = Query(query), g.ldx = x_.dim_, g.m = 1, g.scratch = w->scratch.data();
    g.w = {codes, DType::f32, n, x_.dim_}, g.panel_begin = panel_begin, g.panel_end = panel_end;
    g.y = products - s.begin, g.ldy = RoundUp(n, kPanelColumns);
    k_.gemm(g);
  }
  ScannedRows rows{x_.metric_, products, x_.squares_ + first, s.rows, 0, x_.ids_ + first, 0};
  if (x_.type_ != ListType::kF32) {
    // q.x = q.c + q.(x - c); of cosine x is the row of length one.
    const double qc = static_cast<double>(s.probe.score) + static_cast<double>(x_.coarse_.half_square(list));
    rows.offset = x_.metric_ == Metric::kL2 ? 2 * qc : qc;
    if (x_.metric_ == Metric::kCos) rows.metric = Metric::kIp;
  }
  std::function<bool(int64_t)> allowed;
  if (o_.allowed) allowed = [&](int64_t id) { return o_.allowed(query, id); };
  KeepBest(rows, allowed, [&](int64_t id) { return scorer_.Score(Query(query), p.length, id, &w->buffer) * p.length; }, &w->best);
}

int64_t ListSearcher::FirstCandidates() const {
  int64_t n = std::max(o_.candidates, o_.k);
  if (o_.candidates <= 0) n = x_.type_ == ListType::kF32 ? o_.k + std::max<int64_t>(16, o_.k) : x_.type_ == ListType::kQ8 ? std::max<int64_t>(3 * o_.k, 32) : std::max<int64_t>(10 * o_.k, 128);
  return std::min(n, x_.rows_);
}

bool ListSearcher::Finish(int64_t query, const Prepared& p, std::vector<Candidate>* all, std::vector<float>* buffer, int64_t* candidates, int64_t* nprobe) {
  std::sort(all->begin(), all->end(), Better);
  const int64_t found = static_cast<int64_t>(all->size()), kept = std::min(found, *candidates);
  const bool dropped = found >= *candidates && *candidates < x_.rows_;
  all->resize(static_cast<size_t>(kept));
  const double last = all->empty() ? 0 : all->back().score;
  scorer_.Rescore(Query(query), p.length, all, buffer);
  if (kept < std::min(o_.k, x_.rows_) && *nprobe < x_.lists_) {
    *nprobe = std::min(x_.lists_, *nprobe * 2);
    return false;
  }
  if (x_.type_ == ListType::kF32 && dropped && kept >= o_.k && MayHaveDropped(x_.metric_, x_.dim_, p.length, x_.longest_, (*all)[static_cast<size_t>(o_.k - 1)].score, last)) {
    *candidates = std::min(x_.rows_, *candidates * 8);
    return false;
  }
  for (int64_t i = 0; i < std::min(o_.k, kept); ++i) {
    const Candidate& c = (*all)[static_cast<size_t>(i)];
    hits_[static_cast<size_t>(query * o_.k + i)] = {c.id, static_cast<float>(x_.metric_ == Metric::kL2 ? -c.score : c.score)};
  }
  return true;
}

void ListSearcher::Whole(int64_t query, Worker* w) {
  Prepare(query, &w->own);
  int64_t candidates = FirstCandidates(), nprobe = nprobe_;
  do {
    Choose(query, nprobe, w);
    w->best.Reset(candidates);
    for (const Slice& s : w->slices) {
      if (cancelled()) return;
      Scan(query, w->own, s, w);
    }
  } while (!Finish(query, w->own, &w->best.list(), &w->buffer, &candidates, &nprobe));
}

void ListSearcher::Shared(int64_t query) {
  Worker& mine = workers_[0];
  Prepare(query, &mine.own);
  int64_t candidates = FirstCandidates(), nprobe = nprobe_;
  std::vector<Candidate> all;
  do {
    Choose(query, nprobe, &mine);
    for (Worker& w : workers_) w.best.Reset(candidates);
    gang_->For(static_cast<int64_t>(mine.slices.size()), [&](int64_t i, int worker) {
      if (!cancelled()) Scan(query, mine.own, mine.slices[static_cast<size_t>(i)], &workers_[static_cast<size_t>(worker)]);
    });
    if (cancelled()) return;
    all.clear();
    for (Worker& w : workers_) all.insert(all.end(), w.best.list().begin(), w.best.list().end());
  } while (!Finish(query, mine.own, &all, &mine.buffer, &candidates, &nprobe));
}

Result<std::vector<SearchHit>> ListSearcher::Run() {
  TERN_RETURN_IF_ERROR(Begin());
  const int64_t batch = std::clamp<int64_t>(kCoarseBytes / (4 * x_.lists_), 1, 64);
  coarse_.resize(static_cast<size_t>(std::min(batch, q_) * x_.lists_));
  gang_->Run([&] {
    for (int64_t begin = 0; begin < q_ && !cancelled(); begin += batch) {
      const int64_t end = std::min(q_, begin + batch);
      Coarse(begin, end);
      if (end - begin >= gang_->threads()) gang_->For(end - begin, [&](int64_t i, int worker) { Whole(begin + i, &workers_[static_cast<size_t>(worker)]); });
      else
        for (int64_t i = begin; i < end && !cancelled(); ++i) Shared(i);
    }
  });
  if (cancelled()) return Status(Code::kCancelled, "cancelled");
  return std::move(hits_);
}

Result<std::vector<SearchHit>> IvfIndex::Find(const VectorSet& rows, std::span<const float> queries, int64_t nprobe, SearchOptions options, Gang* gang) const {
  if (rows.rows() != rows_ || rows.dim != dim_) return UsageError("the index belongs to other vectors").Got(Str(rows_, " x ", dim_), Str(rows.rows(), " x ", rows.dim));
  if (options.k < 1 || options.k > (1 << 20)) return UsageError("the number of neighbours is out of range").Got(options.k, Str("1 to ", 1 << 20));
  if (queries.size() % static_cast<size_t>(dim_) != 0) return UsageError("the queries have another width than the vectors");
  return ListSearcher(*this, rows, queries, std::clamp<int64_t>(nprobe, 1, lists_), options, gang).Run();
}

}  // namespace tern

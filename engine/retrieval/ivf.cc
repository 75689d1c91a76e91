#include "engine/retrieval/ivf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "engine/base/bytes.h"
#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "engine/base/rng.h"

namespace tern {
// The centroids in panels: scores of rows, the nearest one.
class IvfAssigner {
 public:
  IvfAssigner(int64_t dim, Metric metric, const std::vector<float>& centroids) : dim_(dim), lists_(static_cast<int64_t>(centroids.size()) / dim), metric_(metric), k_(Kernels()) {
    auto packed = Region::Create(*PackedBytes(DType::f32, lists_, dim));
    if (!packed.ok()) {
      status_ = packed.status();
      return;
    }
    packed_ = std::move(*packed);
    PackMatrix(DType::f32, centroids.data(), dim, lists_, dim, packed_.data());
    for (int64_t l = 0; l < lists_; ++l) {
      double sum = 0;
      for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(centroids[static_cast<size_t>(l * dim + i)]) * centroids[static_cast<size_t>(l * dim + i)];
      half_.push_back(static_cast<float>(sum / 2));
    }
  }
  const Status& status() const { return status_; }

  // scores [rows, lists]: larger is nearer. `scratch` of GemmScratchBytes.
  void Scores(const float* rows, int64_t count, float* scores, void* scratch) const {
    GemmCall g;
    g.x = rows, g.ldx = dim_, g.m = count;
    g.w = {packed_.data(), DType::f32, lists_, dim_};
    g.panel_end = PanelCount(lists_);
    g.y = scores, g.ldy = lists_;
    g.scratch = scratch;
    k_.gemm(g);
    if (metric_ != Metric::kL2) return;
    for (int64_t r = 0; r < count; ++r)
      for (int64_t l = 0; l < lists_; ++l) scores[r * lists_ + l] -= half_[static_cast<size_t>(l)];
  }
  int64_t Best(const float* scores) const { return k_.argmax(scores, lists_); }
  int64_t scratch_bytes(int64_t count) const { return GemmScratchBytes(DType::f32, count, dim_); }
  int64_t lists() const { return lists_; }

 private:
  int64_t dim_, lists_;
  Metric metric_;
  const KernelTable& k_;
  Region packed_;
  std::vector<float> half_;
  Status status_;
};

namespace {

constexpr std::string_view kMagic = "TERNIVF1";
constexpr int64_t kRowsAtOnce = 256;
constexpr int64_t kMostLists = 1 << 22;

void Normalize(float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double length = std::sqrt(sum);
  for (int64_t i = 0; i < n && length > 0; ++i) x[i] = static_cast<float>(x[i] / length);
}

Status Assign(const IvfAssigner& assigner, int64_t rows, int64_t dim, const IvfIndex::ReadRow& read, bool normalize, const CancelToken* cancel, Gang* gang, std::vector<int32_t>* list) {
  struct Worker {
    std::vector<float> rows, scores;
    Region scratch;
  };
  std::vector<Worker> workers(static_cast<size_t>(gang->threads()));
  for (Worker& w : workers) {
    w.rows.resize(static_cast<size_t>(kRowsAtOnce * dim)), w.scores.resize(static_cast<size_t>(kRowsAtOnce * assigner.lists()));
    TERN_ASSIGN(w.scratch, Region::Create(assigner.scratch_bytes(kRowsAtOnce)));
  }
  list->resize(static_cast<size_t>(rows));
  gang->Run([&] {
    gang->For(CeilDiv(rows, kRowsAtOnce), [&](int64_t chunk, int worker) {
      if (cancel && cancel->cancelled()) return;
      Worker& w = workers[static_cast<size_t>(worker)];
      const int64_t begin = chunk * kRowsAtOnce, count = std::min(rows - begin, kRowsAtOnce);
      for (int64_t r = 0; r < count; ++r) {
        read(begin + r, w.rows.data() + r * dim);
        if (normalize) Normalize(w.rows.data() + r * dim, dim);
      }
      assigner.Scores(w.rows.data(), count, w.scores.data(), w.scratch.data());
      for (int64_t r = 0; r < count; ++r) (*list)[static_cast<size_t>(begin + r)] = static_cast<int32_t>(assigner.Best(w.scores.data() + r * assigner.lists()));
    });
  });
  return cancel && cancel->cancelled() ? Status(Code::kCancelled, "cancelled") : Status();
}

// Lloyd's iterations over a sample. Inner product and cosine: on the sphere.
Result<std::vector<float>> Train(int64_t rows, int64_t dim, const IvfIndex::ReadRow& read, const IvfOptions& o, int64_t lists, Gang* gang) {
  const int64_t count = std::min(rows, lists * o.rows_per_list);
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), int64_t{0});
  Rng rng(1234);
  for (int64_t i = 0; i < count; ++i) std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + static_cast<int64_t>(rng.Below(static_cast<uint64_t>(rows - i))))]);
  std::vector<float> sample(static_cast<size_t>(count * dim));
  for (int64_t i = 0; i < count; ++i) {
    read(order[static_cast<size_t>(i)], sample.data() + i * dim);
    if (o.metric == Metric::kCos) Normalize(sample.data() + i * dim, dim);
  }
  std::vector<float> centroids(sample.begin(), sample.begin() + lists * dim);
  std::vector<int32_t> list;
  auto from_sample = [&](int64_t id, float* out) { std::copy_n(sample.begin() + id * dim, dim, out); };
  for (int64_t iteration = 0; iteration < o.iterations; ++iteration) {
    if (o.metric != Metric::kL2)
      for (int64_t l = 0; l < lists; ++l) Normalize(centroids.data() + l * dim, dim);
    IvfAssigner assigner(dim, o.metric, centroids);
    TERN_RETURN_IF_ERROR(assigner.status());
    TERN_RETURN_IF_ERROR(Assign(assigner, count, dim, from_sample, false, o.cancel, gang, &list));
    std::vector<double> sum(static_cast<size_t>(lists * dim));
    std::vector<int64_t> size(static_cast<size_t>(lists));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t l = list[static_cast<size_t>(i)];
      ++size[static_cast<size_t>(l)];
      for (int64_t j = 0; j < dim; ++j) sum[static_cast<size_t>(l * dim + j)] += sample[static_cast<size_t>(i * dim + j)];
    }
    for (int64_t l = 0; l < lists; ++l)
      for (int64_t j = 0; j < dim && size[static_cast<size_t>(l)] > 0; ++j)
        centroids[static_cast<size_t>(l * dim + j)] = static_cast<float>(sum[static_cast<size_t>(l * dim + j)] / static_cast<double>(size[static_cast<size_t>(l)]));
    // An empty list takes half of the largest one.
    for (int64_t l = 0; l < lists; ++l) {
      if (size[static_cast<size_t>(l)] > 0) continue;
      const int64_t big = std::max_element(size.begin(), size.end()) - size.begin();
      for (int64_t j = 0; j < dim; ++j) {
        float &from = centroids[static_cast<size_t>(big * dim + j)], &to = centroids[static_cast<size_t>(l * dim + j)];
        to = from * (j % 2 ? 1 + 0x1p-10f : 1 - 0x1p-10f), from *= j % 2 ? 1 - 0x1p-10f : 1 + 0x1p-10f;
      }
      size[static_cast<size_t>(l)] = size[static_cast<size_t>(big)] / 2, size[static_cast<size_t>(big)] -= size[static_cast<size_t>(l)];
    }
  }
  if (o.metric != Metric::kL2)
    for (int64_t l = 0; l < lists; ++l) Normalize(centroids.data() + l * dim, dim);
  return centroids;
}

}  // namespace

IvfIndex::IvfIndex() = default;
IvfIndex::~IvfIndex() = default;

int64_t IvfLists(int64_t rows) {
  const double wanted = std::round(std::log2(4 * std::sqrt(static_cast<double>(std::max<int64_t>(rows, 1)))));
  const int64_t lists = std::clamp<int64_t>(int64_t{1} << static_cast<int>(wanted), 1, kMostLists);
  return std::max<int64_t>(1, std::min(lists, rows / 39));
}

Status IvfIndex::Layout() {
  const DType type = type_ == VectorType::kQ8 ? DType::i8 : DType::f32;
  offset_.assign(1, 0);
  for (int64_t l = 0; l < lists(); ++l) offset_.push_back(offset_.back() + RoundUp(PackedBytes(type, list_rows(l), dim_).value_or(0), 64));
  set_ = VectorSet();
  set_.dim = dim_;
  if (panels_.bytes() == 0 && offset_.back() > 0) {
    TERN_ASSIGN(panels_, Region::Create(offset_.back()));
  }
  for (int64_t l = 0; l < lists(); ++l) {
    VectorBlock b;
    b.rows = list_rows(l);
    b.ids = ids_.data() + begin_[static_cast<size_t>(l)];
    b.packed = {panels_.data() + offset_[static_cast<size_t>(l)], type, b.rows, dim_};
    b.squares = squares_.data() + begin_[static_cast<size_t>(l)];
    set_.blocks.push_back(b);
  }
  for (float s : squares_) set_.longest = std::max(set_.longest, std::sqrt(static_cast<double>(s)) * (1 + 0x1p-20));
  return {};
}

Result<std::shared_ptr<const IvfIndex>> IvfIndex::Build(int64_t rows, int64_t dim, const ReadRow& read, const IvfOptions& o, Gang* gang) {
  const int64_t lists = o.lists > 0 ? o.lists : IvfLists(rows);
  if (rows < 1 || dim < 1 || dim > 65536) return UsageError("there is nothing to index");
  if (lists > rows || lists > kMostLists) return UsageError("there are more lists than rows").Got(lists, Str("at most ", std::min(rows, kMostLists)));
  std::shared_ptr<IvfIndex> x(new IvfIndex());
  x->dim_ = dim, x->metric_ = o.metric, x->type_ = o.type;
  TERN_ASSIGN(x->centroids_, Train(rows, dim, read, o, lists, gang));
  x->coarse_ = std::make_unique<IvfAssigner>(dim, o.metric, x->centroids_);
  TERN_RETURN_IF_ERROR(x->coarse_->status());
  std::vector<int32_t> list;
  TERN_RETURN_IF_ERROR(Assign(*x->coarse_, rows, dim, read, o.metric == Metric::kCos, o.cancel, gang, &list));
  x->begin_.assign(static_cast<size_t>(lists) + 1, 0);
  for (int32_t l : list) ++x->begin_[static_cast<size_t>(l) + 1];
  std::partial_sum(x->begin_.begin(), x->begin_.end(), x->begin_.begin());
  x->ids_.resize(static_cast<size_t>(rows));
  std::vector<int64_t> at(x->begin_.begin(), x->begin_.end() - 1);
  for (int64_t i = 0; i < rows; ++i) x->ids_[static_cast<size_t>(at[static_cast<size_t>(list[static_cast<size_t>(i)])]++)] = i;
  x->squares_.resize(static_cast<size_t>(rows));
  TERN_RETURN_IF_ERROR(x->Layout());
  const DType type = o.type == VectorType::kQ8 ? DType::i8 : DType::f32;
  gang->Run([&] {
    gang->For(lists, [&](int64_t l, int) {
      const int64_t n = x->list_rows(l);
      std::vector<float> block(static_cast<size_t>(n * dim));
      for (int64_t r = 0; r < n; ++r) {
        float* row = block.data() + r * dim;
        read(x->ids_[static_cast<size_t>(x->begin_[static_cast<size_t>(l)] + r)], row);
        double sum = 0;
        for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(row[i]) * row[i];
        x->squares_[static_cast<size_t>(x->begin_[static_cast<size_t>(l)] + r)] = static_cast<float>(sum);
      }
      if (n > 0) PackMatrix(type, block.data(), dim, n, dim, x->panels_.data() + x->offset_[static_cast<size_t>(l)]);
    });
  });
  TERN_RETURN_IF_ERROR(x->Layout());  // with the squares
  return std::shared_ptr<const IvfIndex>(std::move(x));
}

Result<std::vector<SearchHit>> IvfIndex::Find(const VectorSet& rows, std::span<const float> queries, int64_t nprobe, SearchOptions options, Gang* gang) const {
  if (rows.rows() != this->rows() || rows.dim != dim_) return UsageError("the index belongs to other vectors").Got(Str(this->rows(), " x ", dim_), Str(rows.rows(), " x ", rows.dim));
  if (queries.size() % static_cast<size_t>(dim_) != 0) return UsageError("the queries have another width than the vectors");
  nprobe = std::clamp<int64_t>(nprobe, 1, lists());
  options.metric = metric_;
  const int64_t q = static_cast<int64_t>(queries.size()) / dim_;
  // Coarse: the nearest centroids, best first, ties by the lower list.
  const IvfAssigner& assigner = *coarse_;
  TERN_ASSIGN(Region scratch, Region::Create(assigner.scratch_bytes(1)));
  std::vector<float> scores(static_cast<size_t>(lists())), values(static_cast<size_t>(nprobe));
  std::vector<std::vector<int32_t>> probed(static_cast<size_t>(q));
  const KernelTable& k = options.kernels ? *options.kernels : Kernels();
  for (int64_t i = 0; i < q; ++i) {
    assigner.Scores(queries.data() + i * dim_, 1, scores.data(), scratch.data());
    probed[static_cast<size_t>(i)].resize(static_cast<size_t>(nprobe));
    k.top_k(scores.data(), lists(), nprobe, values.data(), probed[static_cast<size_t>(i)].data());
  }
  options.probed = &probed;
  options.exact_rows = &rows;
  return Search(set_, queries, options, gang);
}

// 0 magic   8 u32 metric   12 u32 type   16 u64 dim   24 u64 lists   32 u64 rows   40 XXH3-64 of the rest   48 XXH3-64 of bytes 0..47   56 zeros to 64
// f32 centroids | i64 borders | i64 ids | f32 squares | panels, each at a multiple of 64.
Status IvfIndex::Save(const std::string& path) const {
  std::string body;
  auto put = [&](const void* data, size_t bytes) {
    body.append(static_cast<const char*>(data), bytes);
    body.resize(static_cast<size_t>(RoundUp(static_cast<int64_t>(body.size()), 64)));
  };
  put(centroids_.data(), centroids_.size() * 4);
  put(begin_.data(), begin_.size() * 8);
  put(ids_.data(), ids_.size() * 8);
  put(squares_.data(), squares_.size() * 4);
  Xxh3Stream digest;
  digest.Update({reinterpret_cast<const uint8_t*>(body.data()), body.size()});
  digest.Update({panels_.data(), static_cast<size_t>(offset_.back())});
  uint8_t header[64] = {};
  std::memcpy(header, kMagic.data(), 8);
  const uint32_t small[2] = {static_cast<uint32_t>(metric_), static_cast<uint32_t>(type_)};
  const uint64_t large[4] = {static_cast<uint64_t>(dim_), static_cast<uint64_t>(lists()), static_cast<uint64_t>(rows()), digest.Digest()};
  std::memcpy(header + 8, small, 8), std::memcpy(header + 16, large, 32);
  const uint64_t own = Xxh3({header, 48});
  std::memcpy(header + 48, &own, 8);
  TERN_ASSIGN(FileWriter w, FileWriter::Create(path, 64 + body.size() + static_cast<uint64_t>(offset_.back())));
  TERN_RETURN_IF_ERROR(w.Write(header, 64));
  TERN_RETURN_IF_ERROR(w.Write(body));
  TERN_RETURN_IF_ERROR(w.Write(panels_.data(), static_cast<uint64_t>(offset_.back())));
  return w.Commit();
}

Result<std::shared_ptr<const IvfIndex>> IvfIndex::Open(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto parsed = Parse(file->bytes());
  if (!parsed.ok()) return Status(parsed.status()).File(path);
  return parsed;
}

Result<std::shared_ptr<const IvfIndex>> IvfIndex::Parse(std::span<const uint8_t> bytes) {
  ByteReader r(bytes);
  TERN_ASSIGN(std::string_view magic, r.Text(8));
  if (magic != kMagic) return Malformed("these are no inverted lists");
  TERN_ASSIGN(uint32_t metric, r.Read<uint32_t>());
  TERN_ASSIGN(uint32_t type, r.Read<uint32_t>());
  TERN_ASSIGN(uint64_t dim, r.Read<uint64_t>());
  TERN_ASSIGN(uint64_t lists, r.Read<uint64_t>());
  TERN_ASSIGN(uint64_t rows, r.Read<uint64_t>());
  TERN_ASSIGN(uint64_t digest, r.Read<uint64_t>());
  TERN_ASSIGN(uint64_t own, r.Read<uint64_t>());
  if (Xxh3(bytes.first(48)) != own) return Status(Code::kDigest, "the digest of the header differs").Where("offset 48");
  if (bytes.size() < 64 || Xxh3(bytes.subspan(64)) != digest) return Status(Code::kDigest, "the digest of the lists differs").Where("offset 40");
  if (metric > 2 || type > 1 || dim < 1 || dim > 65536 || lists < 1 || lists > static_cast<uint64_t>(kMostLists) || rows < lists || rows > (uint64_t{1} << 40)) return Malformed("a size is out of range").Where("the header");
  TERN_RETURN_IF_ERROR(r.CheckCount(lists, dim * 4));
  TERN_RETURN_IF_ERROR(r.CheckCount(rows, 12));
  std::shared_ptr<IvfIndex> x(new IvfIndex());
  x->metric_ = static_cast<Metric>(metric), x->type_ = static_cast<VectorType>(type), x->dim_ = static_cast<int64_t>(dim);
  TERN_RETURN_IF_ERROR(r.Seek(64));
  auto take = [&](auto* out, uint64_t count) -> Status {
    using T = typename std::decay_t<decltype(*out)>::value_type;
    TERN_ASSIGN(auto part, r.Bytes(count * sizeof(T)));
    out->resize(count);
    std::memcpy(out->data(), part.data(), part.size());
    return r.Skip(static_cast<uint64_t>(RoundUp(static_cast<int64_t>(r.position()), 64)) - r.position());
  };
  TERN_RETURN_IF_ERROR(take(&x->centroids_, lists * dim));
  TERN_RETURN_IF_ERROR(take(&x->begin_, lists + 1));
  TERN_RETURN_IF_ERROR(take(&x->ids_, rows));
  TERN_RETURN_IF_ERROR(take(&x->squares_, rows));
  for (size_t l = 0; l < x->begin_.size(); ++l)
    if (x->begin_[l] < 0 || x->begin_[l] > static_cast<int64_t>(rows) || (l > 0 && x->begin_[l] < x->begin_[l - 1])) return Malformed("the borders of the lists do not ascend").Where(Str("list ", l));
  if (x->begin_.front() != 0 || x->begin_.back() != static_cast<int64_t>(rows)) return Malformed("the lists do not hold all rows");
  std::vector<bool> seen(rows);
  for (int64_t id : x->ids_) {
    if (id < 0 || id >= static_cast<int64_t>(rows) || seen[static_cast<size_t>(id)]) return Malformed("an id is out of range or stands twice").Got(id, Str("0 to ", rows - 1));
    seen[static_cast<size_t>(id)] = true;
  }
  for (float c : x->centroids_)
    if (!std::isfinite(c)) return Malformed("a centroid is no number");
  for (float s : x->squares_)
    if (!(s >= 0) || !std::isfinite(s)) return Malformed("the length of a vector is no number");
  const DType dtype = x->type_ == VectorType::kQ8 ? DType::i8 : DType::f32;
  uint64_t panels = 0;
  for (int64_t l = 0; l < x->lists(); ++l) {
    auto one = PackedBytes(dtype, x->list_rows(l), x->dim_);
    if (!one || *one > (int64_t{1} << 46)) return Malformed("a list is too large");
    panels += static_cast<uint64_t>(RoundUp(*one, 64));
    if (panels > r.remaining()) return Malformed("the file ends too early").Where(Str("list ", l));
  }
  if (panels != r.remaining()) return Malformed("the file has another size than its header says").Got(r.remaining(), panels);
  x->coarse_ = std::make_unique<IvfAssigner>(x->dim_, x->metric_, x->centroids_);
  TERN_RETURN_IF_ERROR(x->coarse_->status());
  TERN_RETURN_IF_ERROR(x->Layout());
  TERN_ASSIGN(auto data, r.Bytes(panels));
  if (panels > 0) std::memcpy(x->panels_.data(), data.data(), panels);
  return std::shared_ptr<const IvfIndex>(std::move(x));
}

}  // namespace tern

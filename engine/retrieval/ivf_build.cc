// Building inverted lists: a sample, k-means, every row to its list, codes list by list into the file.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "engine/retrieval/ivf.h"
#include "engine/retrieval/ivf_file.h"
#include "engine/retrieval/pq.h"

namespace tern {
namespace {

constexpr int64_t kStep = NearestCentroid::kRowsAtOnce;  // rows of one piece of work; whole panels
constexpr int64_t kWriteBytes = int64_t{32} << 20;       // of lists that are coded together
constexpr int64_t kPqSample = 64 * kCodewords;
static_assert(kStep % kPanelColumns == 0);

template <class T>
std::span<const uint8_t> AsBytes(const std::vector<T>& v) {
  return {reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(T)};
}

}  // namespace

class IvfWriter {
 public:
  IvfWriter(int64_t rows, int64_t dim, const IvfIndex::ReadRow& read, const IvfOptions& o, Gang* gang) : n_(rows), dim_(dim), read_(read), o_(o), gang_(gang) {}
  Status Run(const std::string& path);

 private:
  struct Worker {
    std::vector<float> rows;
    NearestCentroid::Workspace space;
  };
  // A row as lists keep it, before its centroid is taken off.
  void Read(int64_t id, float* out) const {
    read_(id, out);
    if (o_.metric == Metric::kCos && o_.type != ListType::kF32) Normalize(out, dim_);
  }
  // |row|^2; a row of which it is no number, or too large, is kept in bad_. From any thread.
  float SquareOf(int64_t id, const float* row) {
    double sum = 0;
    for (int64_t j = 0; j < dim_; ++j) sum += static_cast<double>(row[j]) * row[j];
    if (sum <= std::numeric_limits<float>::max()) return static_cast<float>(sum);
    for (int64_t bad = bad_; id < bad && !bad_.compare_exchange_weak(bad, id);) {
    }
    return 0;
  }
  Status CheckSquares() const {
    if (bad_ == std::numeric_limits<int64_t>::max()) return {};
    return Status(Code::kNumeric, "the length of a vector is no number, or too large").Where(Str("chunk ", bad_.load()));
  }
  void TakeOff(int64_t list, float* row) const {
    const float* c = centroids_.data() + list * dim_;
    for (int64_t j = 0; j < dim_; ++j) row[j] -= c[j];
  }
  Status Check();
  Status Sample();
  Status Train();
  Status AssignAll();
  Status WriteLists(FileWriter* w, uint64_t* digest);
  void Code(int64_t list, int64_t begin, int64_t count, Worker* worker, uint8_t* out) const;
  Result<std::vector<Worker>> Workers(const NearestCentroid& nearest) const {
    std::vector<Worker> workers;
    for (int i = 0; i < gang_->threads(); ++i) {
      TERN_ASSIGN(auto space, nearest.MakeWorkspace());
      workers.push_back({std::vector<float>(static_cast<size_t>(kStep * dim_)), std::move(space)});
    }
    return workers;
  }
  Result<NearestCentroid> Nearest() const { return NearestCentroid::Create(centroids_.data(), lists_, dim_, o_.metric == Metric::kL2, NearestCentroid::Precision::kQ8); }
  bool cancelled() const { return o_.cancel && o_.cancel->cancelled(); }
  void Tell(const char* stage, int64_t done, int64_t total) const {
    if (o_.progress) o_.progress(stage, done, total);
  }

  const int64_t n_, dim_;
  const IvfIndex::ReadRow& read_;
  const IvfOptions& o_;
  Gang* gang_;
  int64_t lists_ = 0, parts_ = 0, sample_count_ = 0;
  std::vector<float> sample_, centroids_, codebook_, squares_;  // squares_: by id, then in the order of the lists
  std::vector<int32_t> list_;                                   // of every row
  std::vector<int64_t> begin_, ids_;
  std::unique_ptr<PqEncoder> encoder_;
  std::atomic<int64_t> bad_{std::numeric_limits<int64_t>::max()};
};

Status IvfWriter::Check() {
  lists_ = o_.lists > 0 ? o_.lists : IvfLists(n_);
  if (n_ < 1 || dim_ < 1 || dim_ > 65536) return UsageError("there is nothing to index");
  if (lists_ > n_ || lists_ > kMostLists) return UsageError("there are more lists than rows").Got(lists_, Str("at most ", std::min(n_, kMostLists)));
  if (o_.type == ListType::kPq) parts_ = o_.parts > 0 ? o_.parts : DefaultParts(dim_);
  if (parts_ % kPartGroup != 0 || parts_ > kMostParts) return UsageError("the bytes of a code are out of range").Got(parts_, Str("a multiple of 4 up to ", kMostParts));
  sample_count_ = std::min(n_, lists_ * o_.rows_per_list);
  if (o_.max_bytes > 0) {
    // Tables of all rows, centroids as they are, packed and summed; what is left takes the sample.
    const int64_t fixed = n_ * 32 + lists_ * dim_ * 16 + kWriteBytes + gang_->threads() * kStep * (dim_ * 8 + 4096);
    const int64_t left = (o_.max_bytes - fixed) / (dim_ * 4 + 16);
    if (left < std::min(n_, std::max(lists_, std::min(n_, kCodewords))))
      return MemoryError("inverted lists need more memory than is allowed").Got(Str(o_.max_bytes, " bytes"), Str("at least ", fixed + lists_ * (dim_ * 4 + 16), " bytes")).Hint("Raise --max-memory, or make fewer lists");
    sample_count_ = std::min(sample_count_, left);
  }
  return {};
}

Status IvfWriter::Sample() {
  std::vector<int64_t> order(static_cast<size_t>(n_));
  std::iota(order.begin(), order.end(), int64_t{0});
  Rng rng(1234);
  for (int64_t i = 0; i < sample_count_; ++i) std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + static_cast<int64_t>(rng.Below(static_cast<uint64_t>(n_ - i))))]);
  sample_.resize(static_cast<size_t>(sample_count_ * dim_));
  gang_->Run([&] {
    gang_->For(CeilDiv(sample_count_, kStep), [&](int64_t chunk, int) {
      for (int64_t i = chunk * kStep; i < std::min(sample_count_, (chunk + 1) * kStep); ++i) {
        float* row = sample_.data() + i * dim_;
        read_(order[static_cast<size_t>(i)], row);
        SquareOf(order[static_cast<size_t>(i)], row);
        if (o_.metric == Metric::kCos) Normalize(row, dim_);
      }
    });
  });
  return CheckSquares();
}

Status IvfWriter::Train() {
  KMeansOptions k;
  k.spherical = o_.metric != Metric::kL2, k.precision = NearestCentroid::Precision::kQ8, k.iterations = o_.iterations, k.cancel = o_.cancel;
  TERN_ASSIGN(centroids_, KMeans(sample_.data(), dim_, sample_count_, dim_, lists_, k, gang_));
  if (o_.type != ListType::kPq) return {};
  // Codewords for what is left of the sample's rows.
  const int64_t count = std::min(sample_count_, kPqSample);
  TERN_ASSIGN(NearestCentroid nearest, Nearest());
  TERN_ASSIGN(auto workers, Workers(nearest));
  gang_->Run([&] {
    gang_->For(CeilDiv(count, kStep), [&](int64_t chunk, int worker) {
      int32_t list[kStep];
      const int64_t first = chunk * kStep, some = std::min(kStep, count - first);
      float* rows = sample_.data() + first * dim_;
      nearest.Nearest(rows, dim_, some, &workers[static_cast<size_t>(worker)].space, list);
      for (int64_t r = 0; r < some; ++r) TakeOff(list[r], rows + r * dim_);
    });
  });
  TERN_ASSIGN(codebook_, TrainCodebook(sample_.data(), count, dim_, parts_, o_.cancel, gang_));
  TERN_ASSIGN(PqEncoder encoder, PqEncoder::Create(codebook_.data(), dim_, parts_));
  encoder_ = std::make_unique<PqEncoder>(std::move(encoder));
  return {};
}

Status IvfWriter::AssignAll() {
  constexpr int64_t kRound = 512;  // pieces between two reports
  TERN_ASSIGN(NearestCentroid nearest, Nearest());
  TERN_ASSIGN(auto workers, Workers(nearest));
  list_.resize(static_cast<size_t>(n_));
  squares_.resize(static_cast<size_t>(n_));
  const int64_t pieces = CeilDiv(n_, kStep);
  for (int64_t done = 0; done < pieces; done += kRound) {
    Tell("sorting into lists", done * kStep, n_);
    gang_->Run([&] {
      gang_->For(std::min(kRound, pieces - done), [&](int64_t i, int worker) {
        if (cancelled()) return;
        Worker& w = workers[static_cast<size_t>(worker)];
        const int64_t first = (done + i) * kStep, some = std::min(kStep, n_ - first);
        for (int64_t r = 0; r < some; ++r) {
          float* row = w.rows.data() + r * dim_;
          Read(first + r, row);
          squares_[static_cast<size_t>(first + r)] = SquareOf(first + r, row);
        }
        nearest.Nearest(w.rows.data(), dim_, some, &w.space, list_.data() + first);
      });
    });
    if (cancelled()) return {Code::kCancelled, "cancelled"};
    TERN_RETURN_IF_ERROR(CheckSquares());
  }
  begin_.assign(static_cast<size_t>(lists_) + 1, 0);
  for (int32_t l : list_) ++begin_[static_cast<size_t>(l) + 1];
  std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
  ids_.resize(static_cast<size_t>(n_));
  std::vector<int64_t> at(begin_.begin(), begin_.end() - 1);
  for (int64_t i = 0; i < n_; ++i) ids_[static_cast<size_t>(at[static_cast<size_t>(list_[static_cast<size_t>(i)])]++)] = i;
  std::vector<float> sorted;
  for (int64_t id : ids_) sorted.push_back(squares_[static_cast<size_t>(id)]);
  squares_ = std::move(sorted);
  return {};
}

// Rows begin .. begin + count - 1 of a list (begin a multiple of kStep), into the list's bytes at `out`.
void IvfWriter::Code(int64_t list, int64_t begin, int64_t count, Worker* w, uint8_t* out) const {
  const int64_t n = begin_[static_cast<size_t>(list) + 1] - begin_[static_cast<size_t>(list)];
  for (int64_t r = 0; r < count; ++r) {
    float* row = w->rows.data() + r * dim_;
    Read(ids_[static_cast<size_t>(begin_[static_cast<size_t>(list)] + begin + r)], row);
    if (o_.type != ListType::kF32) TakeOff(list, row);
  }
  if (o_.type == ListType::kPq) return encoder_->Encode(w->rows.data(), count, &w->space, out + begin * kPartGroup, n);
  const DType type = o_.type == ListType::kQ8 ? DType::i8 : DType::f32;
  const int64_t panel_bytes = PanelBytes(type, dim_), panels = PanelCount(n);
  float* scales = reinterpret_cast<float*>(out + panels * panel_bytes);
  int32_t* sums = reinterpret_cast<int32_t*>(scales + panels * kPanelColumns);
  for (int64_t r = 0; r < count; r += kPanelColumns) {
    const int64_t panel = (begin + r) / kPanelColumns, some = std::min(kPanelColumns, count - r);
    const float* rows = w->rows.data() + r * dim_;
    if (type == DType::i8) PackPanelQ8(rows, dim_, some, dim_, out + panel * panel_bytes, scales + panel * kPanelColumns, sums + panel * kPanelColumns);
    else PackPanel(type, rows, dim_, some, dim_, out + panel * panel_bytes);
  }
}

Status IvfWriter::WriteLists(FileWriter* w, uint64_t* digest) {
  struct Piece {
    int64_t list, begin, count, offset;
  };
  std::vector<Worker> workers;
  if (encoder_) {
    for (int i = 0; i < gang_->threads(); ++i) {
      TERN_ASSIGN(auto space, encoder_->MakeWorkspace());
      workers.push_back({std::vector<float>(static_cast<size_t>(kStep * dim_)), std::move(space)});
    }
  } else {
    for (int i = 0; i < gang_->threads(); ++i) workers.push_back({std::vector<float>(static_cast<size_t>(kStep * dim_)), {}});
  }
  Xxh3Stream stream;
  std::vector<Piece> pieces;
  for (int64_t list = 0; list < lists_;) {
    Tell("writing lists", begin_[static_cast<size_t>(list)], n_);
    pieces.clear();
    int64_t bytes = 0;
    for (; list < lists_ && (bytes == 0 || bytes < kWriteBytes); ++list) {
      const int64_t n = begin_[static_cast<size_t>(list) + 1] - begin_[static_cast<size_t>(list)];
      for (int64_t begin = 0; begin < n; begin += kStep) pieces.push_back({list, begin, std::min(kStep, n - begin), bytes});
      bytes += IvfIndex::ListBytes(o_.type, n, dim_, parts_);
    }
    TERN_ASSIGN(Region region, Region::Create(bytes));
    gang_->Run([&] {
      gang_->For(static_cast<int64_t>(pieces.size()), [&](int64_t i, int worker) {
        if (cancelled()) return;
        const Piece& p = pieces[static_cast<size_t>(i)];
        Code(p.list, p.begin, p.count, &workers[static_cast<size_t>(worker)], region.data() + p.offset);
      });
    });
    if (cancelled()) return {Code::kCancelled, "cancelled"};
    stream.Update({region.data(), static_cast<size_t>(bytes)});
    TERN_RETURN_IF_ERROR(w->Write(region.data(), static_cast<uint64_t>(bytes)));
  }
  *digest = stream.Digest();
  return {};
}

Status IvfWriter::Run(const std::string& path) {
  TERN_RETURN_IF_ERROR(Check());
  Tell("training lists", 0, n_);
  TERN_RETURN_IF_ERROR(Sample());
  TERN_RETURN_IF_ERROR(Train());
  sample_ = {};
  TERN_RETURN_IF_ERROR(AssignAll());
  int64_t total = IvfIndex::SectionsOf(o_.type, n_, dim_, lists_, parts_).codes;
  for (int64_t l = 0; l < lists_; ++l) total += IvfIndex::ListBytes(o_.type, begin_[static_cast<size_t>(l) + 1] - begin_[static_cast<size_t>(l)], dim_, parts_);
  TERN_ASSIGN(FileWriter w, FileWriter::Create(path, static_cast<uint64_t>(total)));
  const uint8_t zeros[kIvfHeader] = {};
  TERN_RETURN_IF_ERROR(w.Write(zeros, kIvfHeader));
  Xxh3Stream tables;
  auto put = [&](std::span<const uint8_t> bytes) -> Status {
    tables.Update(bytes);
    TERN_RETURN_IF_ERROR(w.Write(bytes.data(), bytes.size()));
    const size_t rest = static_cast<size_t>(RoundUp(static_cast<int64_t>(bytes.size()), 64)) - bytes.size();
    tables.Update({zeros, rest});
    return w.Write(zeros, rest);
  };
  TERN_RETURN_IF_ERROR(put(AsBytes(centroids_)));
  TERN_RETURN_IF_ERROR(put(AsBytes(begin_)));
  TERN_RETURN_IF_ERROR(put(AsBytes(ids_)));
  TERN_RETURN_IF_ERROR(put(AsBytes(squares_)));
  TERN_RETURN_IF_ERROR(put(AsBytes(codebook_)));
  IvfHeader h{};
  TERN_RETURN_IF_ERROR(WriteLists(&w, &h.codes_digest));
  std::memcpy(h.magic, kIvfMagic.data(), 8);
  h.metric = static_cast<uint32_t>(o_.metric), h.type = static_cast<uint32_t>(o_.type), h.parts = static_cast<uint32_t>(parts_);
  h.dim = static_cast<uint64_t>(dim_), h.lists = static_cast<uint64_t>(lists_), h.rows = static_cast<uint64_t>(n_);
  h.tables_digest = tables.Digest();
  h.own_digest = Xxh3({reinterpret_cast<const uint8_t*>(&h), kIvfDigested});
  TERN_RETURN_IF_ERROR(w.WriteAt(0, &h, sizeof h));
  return w.Commit();
}

Status IvfIndex::Build(const std::string& path, int64_t rows, int64_t dim, const ReadRow& read, const IvfOptions& options, Gang* gang) {
  return IvfWriter(rows, dim, read, options, gang).Run(path);
}

}  // namespace tern

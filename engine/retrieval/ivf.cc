#include "engine/retrieval/ivf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "engine/retrieval/ivf_file.h"
#include "engine/retrieval/pq.h"

namespace tern {

std::string_view ListTypeName(ListType type) { return type == ListType::kF32 ? "f32" : type == ListType::kQ8 ? "q8" : "pq"; }

std::optional<ListType> ListTypeOf(std::string_view name) {
  for (ListType t : {ListType::kF32, ListType::kQ8, ListType::kPq})
    if (ListTypeName(t) == name) return t;
  return {};
}

int64_t IvfLists(int64_t rows) {
  const double wanted = std::round(std::log2(4 * std::sqrt(static_cast<double>(std::max<int64_t>(rows, 1)))));
  const int64_t lists = std::clamp<int64_t>(int64_t{1} << static_cast<int>(wanted), 1, kMostLists);
  return std::max<int64_t>(1, std::min(lists, rows / 39));
}

int64_t IvfIndex::ListBytes(ListType type, int64_t n, int64_t dim, int64_t parts) {
  if (type == ListType::kPq) return RoundUp(n * parts, 64);
  return RoundUp(PackedBytes(type == ListType::kQ8 ? DType::i8 : DType::f32, n, dim).value_or(0), 64);
}

IvfIndex::Sections IvfIndex::SectionsOf(ListType type, int64_t rows, int64_t dim, int64_t lists, int64_t parts) {
  int64_t at = kIvfHeader;
  auto take = [&](int64_t bytes) {
    const int64_t begin = at;
    at = RoundUp(at + bytes, 64);
    return begin;
  };
  Sections s{};
  s.centroids = take(lists * dim * 4);
  s.begin = take((lists + 1) * 8);
  s.ids = take(rows * 8);
  s.squares = take(rows * 4);
  s.codebook = take(type == ListType::kPq ? CodebookSize(dim, parts) * 4 : 0);
  s.codes = at;
  return s;
}

Result<std::shared_ptr<const IvfIndex>> IvfIndex::Open(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto parsed = Parse(file->bytes());
  if (!parsed.ok()) return Status(parsed.status()).File(path);
  IvfIndex& x = const_cast<IvfIndex&>(**parsed);  // nobody else has it yet
  x.file_ = std::move(file), x.path_ = path;
  return parsed;
}

Result<std::shared_ptr<const IvfIndex>> IvfIndex::Parse(std::span<const uint8_t> bytes) {
  ByteReader r(bytes);
  TERN_ASSIGN(std::string_view magic, r.Text(8));
  if (magic != kIvfMagic) return Malformed(magic.starts_with("TERNIVF") ? "the inverted lists were written by another release" : "these are no inverted lists").Hint("Build them again with index lists");
  if (bytes.size() < static_cast<size_t>(kIvfHeader)) return Malformed("the file ends within the header").Got(Str(bytes.size(), " bytes"), Str("at least ", kIvfHeader));
  IvfHeader h;
  std::memcpy(&h, bytes.data(), sizeof h);
  if (Xxh3(bytes.first(kIvfDigested)) != h.own_digest) return Status(Code::kDigest, "the digest of the header differs").Where(Str("offset ", kIvfDigested));
  for (size_t at = sizeof h; at < static_cast<size_t>(kIvfHeader); ++at)
    if (bytes[at] != 0) return Malformed("the header holds something where nothing stands").Where(Str("offset ", at));
  if (h.metric > 2 || h.type > 2 || h.dim < 1 || h.dim > 65536 || h.lists < 1 || h.lists > static_cast<uint64_t>(kMostLists) || h.rows < h.lists || h.rows > (uint64_t{1} << 40))
    return Malformed("a size is out of range").Where("the header");
  std::shared_ptr<IvfIndex> x(new IvfIndex());
  x->metric_ = static_cast<Metric>(h.metric), x->type_ = static_cast<ListType>(h.type);
  x->dim_ = static_cast<int64_t>(h.dim), x->rows_ = static_cast<int64_t>(h.rows), x->lists_ = static_cast<int64_t>(h.lists), x->parts_ = h.parts;
  x->bytes_ = static_cast<int64_t>(bytes.size()), x->codes_digest_ = h.codes_digest;
  if (x->type_ == ListType::kPq ? x->parts_ < kPartGroup || x->parts_ > kMostParts || x->parts_ % kPartGroup != 0 : x->parts_ != 0) return Malformed("the bytes of a code are out of range").Where("the header").Got(x->parts_, Str("a multiple of 4 up to ", kMostParts));
  TERN_RETURN_IF_ERROR(r.CheckCount(h.lists, h.dim * 4));
  TERN_RETURN_IF_ERROR(r.CheckCount(h.rows, 12));
  const Sections s = SectionsOf(x->type_, x->rows_, x->dim_, x->lists_, x->parts_);
  if (s.codes > x->bytes_) return Malformed("the file ends within the tables").Got(Str(bytes.size(), " bytes"), Str("at least ", s.codes));
  x->codes_ = bytes.subspan(static_cast<size_t>(s.codes));
  if (Xxh3(bytes.subspan(static_cast<size_t>(kIvfHeader), static_cast<size_t>(s.codes - kIvfHeader))) != h.tables_digest) return Status(Code::kDigest, "the digest of the lists' tables differs").Where("offset 48");
  const float* centroids = reinterpret_cast<const float*>(bytes.data() + s.centroids);
  x->begin_ = reinterpret_cast<const int64_t*>(bytes.data() + s.begin);
  x->ids_ = reinterpret_cast<const int64_t*>(bytes.data() + s.ids);
  x->squares_ = reinterpret_cast<const float*>(bytes.data() + s.squares);
  x->codebook_ = reinterpret_cast<const float*>(bytes.data() + s.codebook);
  if (x->begin_[0] != 0 || x->begin_[x->lists_] != x->rows_) return Malformed("the lists do not hold all rows");
  for (int64_t l = 0; l < x->lists_; ++l)
    if (x->begin_[l] > x->begin_[l + 1] || x->begin_[l + 1] > x->rows_) return Malformed("the borders of the lists do not ascend").Where(Str("list ", l));
  std::vector<bool> seen(h.rows);
  for (int64_t i = 0; i < x->rows_; ++i) {
    const int64_t id = x->ids_[i];
    if (id < 0 || id >= x->rows_ || seen[static_cast<size_t>(id)]) return Malformed("an id is out of range or stands twice").Got(id, Str("0 to ", x->rows_ - 1));
    seen[static_cast<size_t>(id)] = true;
    const float square = x->squares_[i];
    if (!(square >= 0) || !std::isfinite(square)) return Malformed("the length of a vector is no number").Where(Str("row ", id));
    x->longest_ = std::max(x->longest_, static_cast<double>(square));
  }
  x->longest_ = std::sqrt(x->longest_) * (1 + 0x1p-20);  // squares are rounded
  auto finite = [](const float* v, int64_t n) { return std::all_of(v, v + n, [](float f) { return std::isfinite(f); }); };
  if (!finite(centroids, x->lists_ * x->dim_)) return Malformed("a centroid is no number");
  if (x->type_ == ListType::kPq && !finite(x->codebook_, CodebookSize(x->dim_, x->parts_))) return Malformed("a codeword is no number");
  x->offset_.assign(1, 0);
  for (int64_t l = 0; l < x->lists_; ++l) {
    if (x->list_rows(l) > (int64_t{1} << 46) / (4 * x->dim_ + 64)) return Malformed("a list is too large").Where(Str("list ", l));
    x->offset_.push_back(x->offset_.back() + ListBytes(x->type_, x->list_rows(l), x->dim_, x->parts_));
    if (x->offset_.back() > static_cast<int64_t>(x->codes_.size())) return Malformed("the file ends too early").Where(Str("list ", l));
  }
  if (x->offset_.back() != static_cast<int64_t>(x->codes_.size())) return Malformed("the file has another size than its header says").Got(x->codes_.size(), x->offset_.back());
  TERN_ASSIGN(x->coarse_, NearestCentroid::Create(centroids, x->lists_, x->dim_, x->metric_ == Metric::kL2, NearestCentroid::Precision::kF32));
  return std::shared_ptr<const IvfIndex>(std::move(x));
}

Status IvfIndex::Verify() const {
  if (Xxh3(codes_) != codes_digest_) return Status(Code::kDigest, "the digest of the lists differs").File(path_).Hint("Build them again with index lists");
  return {};
}

}  // namespace tern

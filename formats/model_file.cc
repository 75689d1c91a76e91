#include "formats/model_file.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "engine/base/bytes.h"
#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "engine/base/utf8.h"
#include "engine/kernels/packed.h"
#include "formats/file_kind.h"
#include "formats/model_file_layout.h"

namespace tern {

static_assert(std::endian::native == std::endian::little, "the file is mapped as it is");
// The type numbers of the file are those of DType; a change of the list may only append.
static_assert(static_cast<int>(DType::f32) == 0 && static_cast<int>(DType::f16) == 1 &&
              static_cast<int>(DType::bf16) == 2 && static_cast<int>(DType::f64) == 3 &&
              static_cast<int>(DType::i8) == 4 && static_cast<int>(DType::u8) == 5 &&
              static_cast<int>(DType::i16) == 6 && static_cast<int>(DType::i32) == 7 &&
              static_cast<int>(DType::i64) == 8 && static_cast<int>(DType::boolean) == 9);

std::string_view LayoutName(Layout layout) {
  switch (layout) {
    case Layout::kRows:
      return "rows";
    case Layout::kPanel16:
      return "panel16";
    case Layout::kRowsQ8:
      return "rows_q8";
  }
  return "?";
}

Result<uint64_t> StoredBytes(DType type, Layout layout, const Shape& shape, uint32_t splits) {
  // Zero dimensions count as one here: no product of some of the dimensions may overflow later either.
  constexpr int64_t kMaxElements = int64_t{1} << 58;
  int64_t product = 1;
  for (int64_t dim : shape) {
    auto next = dim < 0 ? std::nullopt : CheckedMul(product, std::max<int64_t>(dim, 1));
    if (!next || *next > kMaxElements) return Malformed(Str("the size of shape ", shape, " overflows"));
    product = *next;
  }
  if (splits > 0 && (layout != Layout::kPanel16 || type != DType::i8))
    return Malformed("split columns are for i8 in panel16").Got(Str(splits, " split columns"), 0);
  if (layout == Layout::kRows) return static_cast<uint64_t>(shape.elements() * DTypeBytes(type));
  if (shape.rank() != 2)
    return Malformed(Str("layout ", LayoutName(layout), " is for matrices")).Got(Str("rank ", shape.rank()), 2);
  if (layout == Layout::kRowsQ8) {
    if (type != DType::i8) return Malformed("layout rows_q8 is for i8").Got(DTypeName(type), "i8");
    auto bytes = CheckedMul(shape[0], shape[1] + 4);
    if (!bytes) return Malformed(Str("the size of shape ", shape, " overflows"));
    return static_cast<uint64_t>(*bytes);
  }
  if (!HasPanelLayout(type))
    return Malformed("layout panel16 is for f32, f16, bf16 and i8").Got(DTypeName(type), "one of these");
  // Not more than columns: what a tensor takes stays in proportion to its shape.
  if (splits > shape[1]) return Malformed("more columns are split than there are").Got(splits, Str("at most ", shape[1]));
  auto bytes = PackedBytes(type, shape[0], shape[1] + splits, splits);
  if (!bytes) return Malformed(Str("the size of shape ", shape, " overflows"));
  return static_cast<uint64_t>(*bytes);
}

namespace model_file {

Status CheckName(std::string_view name) {
  if (name.empty()) return Malformed("a name is empty");
  if (name.size() > kMaxNameBytes)
    return Malformed("a name is too long").Got(Str(name.size(), " bytes"), Str("at most ", kMaxNameBytes));
  for (size_t i = 0; i < name.size();) {
    Utf8Char c = DecodeUtf8(name, i);
    if (!c.valid) return Malformed(Str("the name '", Printable(name), "' is not valid UTF-8"));
    if (c.code < 0x20 || (c.code >= 0x7f && c.code < 0xa0))
      return Malformed(Str("the name '", Printable(name), "' holds a control character"));
    i += c.bytes;
  }
  return {};
}

Status CheckMetadata(const Json& metadata) {
  if (!metadata.is_object()) return Malformed("metadata must be an object").Got(metadata.type_name(), "object");
  struct Key {
    const char* name;
    bool object;
    bool required;
  };
  constexpr Key kKeys[] = {{"architecture", false, true}, {"config", true, true},    {"tokenizer", true, false},
                           {"provenance", true, false},   {"settings", true, false}, {"license", false, false}};
  for (const Key& key : kKeys) {
    auto it = metadata.find(key.name);
    if (it == metadata.end()) {
      if (key.required) return Malformed(Str("metadata key '", key.name, "' is missing"));
      continue;
    }
    if (key.object ? !it->is_object() : !it->is_string())
      return Malformed(Str("metadata key '", key.name, "' has the wrong type"))
          .Got(it->type_name(), key.object ? "object" : "string");
  }
  return CheckName(metadata.at("architecture").get_ref<const std::string&>());
}

}  // namespace model_file

using namespace model_file;  // NOLINT: the constants of the specification

// Fills a ModelFile from its bytes; everything is checked before it is used.
class ModelFileParser {
 public:
  static Result<std::shared_ptr<const ModelFile>> Parse(std::shared_ptr<const MappedFile> mapped,
                                                        std::span<const uint8_t> bytes, std::string path) {
    std::shared_ptr<ModelFile> file(new ModelFile());
    file->file_ = std::move(mapped);
    file->bytes_ = bytes;
    file->path_ = std::move(path);
    ModelFileParser parser(file.get());
    if (Status s = parser.Run(); !s.ok()) return std::move(s).File(file->path_);
    return std::shared_ptr<const ModelFile>(std::move(file));
  }

 private:
  struct NameBytes {
    uint32_t name, group;
  };

  explicit ModelFileParser(ModelFile* out) : out_(*out) {}

  Status Run() {
    if (Status s = Header(); !s.ok()) return std::move(s).Where("header");
    if (Status s = Table(); !s.ok()) return std::move(s).Where("table");
    if (Status s = Names(); !s.ok()) return std::move(s).Where("table");
    return Places();
  }

  Status Header() {
    std::span<const uint8_t> bytes = out_.bytes_;
    FileKind kind = SniffFileKind(bytes);
    bool foreign = kind != FileKind::kTern && kind != FileKind::kUnknown && kind != FileKind::kText;
    if (foreign || (bytes.size() >= kHeaderBytes && kind != FileKind::kTern)) return WrongKind(kind, "a .tern model");
    if (bytes.size() < kHeaderBytes)
      return Malformed("the file is too short for a header")
          .Got(Str(bytes.size(), " bytes"), Str("at least ", kHeaderBytes));

    ByteReader in(bytes.first(kHeaderBytes));
    TERN_ASSIGN(std::string_view magic, in.Text(8));
    if (magic != kMagic) return Malformed("the magic number is damaged").Hint("Copy the file again, in binary mode");
    TERN_ASSIGN(out_.version_, in.Read<uint32_t>());
    TERN_ASSIGN(uint32_t order, in.Read<uint32_t>());
    if (order == 0x04030201) return Malformed("a big-endian file").Hint("Only little-endian files are read");
    if (order != kByteOrder) return Malformed("the byte-order mark is damaged").Got(Str(order), kByteOrder);
    if (out_.version_ == 0) return Malformed("version 0 does not exist");
    if (out_.version_ > kModelFileVersion)
      return Malformed("the file was written by a newer release")
          .Got(Str("version ", out_.version_), Str("at most ", kModelFileVersion))
          .Hint("Update tern, or convert the source again");
    return HeaderFields(in);
  }

  Status HeaderFields(ByteReader in) {
    uint64_t size = out_.bytes_.size();
    TERN_ASSIGN(uint64_t file_bytes, in.Read<uint64_t>());
    TERN_ASSIGN(uint64_t table_offset, in.Read<uint64_t>());
    TERN_ASSIGN(table_bytes_, in.Read<uint64_t>());
    TERN_ASSIGN(out_.table_digest_, in.Read<uint64_t>());
    TERN_ASSIGN(uint64_t reserved, in.Read<uint64_t>());
    TERN_ASSIGN(uint64_t digest, in.Read<uint64_t>());
    if (digest != Xxh3(out_.bytes_.first(kHeaderBytes - 8)))
      return Status(Code::kDigest, "the header differs from its digest")
          .Hint("The file is damaged; copy or convert it again");
    if (size < file_bytes)
      return Malformed("the file is truncated").Got(Str(size, " bytes"), file_bytes).Hint("Copy it again");
    if (size > file_bytes)
      return Malformed(Str(size - file_bytes, " bytes after the end of the model"))
          .Got(Str(size, " bytes"), file_bytes);
    if (reserved != 0) return Malformed("reserved bytes are not zero");
    if (table_offset != kHeaderBytes)
      return Malformed("the table is at the wrong place").Got(table_offset, kHeaderBytes);
    if (table_bytes_ > kMaxTableBytes)
      return Malformed("the table is too large").Got(Str(table_bytes_, " bytes"), Str("at most ", kMaxTableBytes));
    if (size < kHeaderBytes + kTrailerBytes || table_bytes_ > size - kHeaderBytes - kTrailerBytes)
      return Malformed(Str("the header says ", table_bytes_, " bytes of table, ", size - kHeaderBytes, " remain"));
    trailer_at_ = size - kTrailerBytes;
    std::span<const uint8_t> trailer = out_.bytes_.subspan(trailer_at_);
    ByteReader end(trailer, trailer_at_);
    TERN_ASSIGN(uint64_t again, end.Read<uint64_t>());
    TERN_ASSIGN(std::string_view mark, end.Text(8));
    if (mark != kTrailerMagic || again != file_bytes)
      return Malformed("the trailer is damaged")
          .Where("trailer")
          .Hint("The file is incomplete; copy or convert it again");
    return {};
  }

  Status Table() {
    if (out_.file_) out_.file_->Advise(MappedFile::Advice::kWillNeed, 0, kHeaderBytes + table_bytes_);
    std::span<const uint8_t> table = out_.bytes_.subspan(kHeaderBytes, table_bytes_);
    if (Xxh3(table) != out_.table_digest_)
      return Status(Code::kDigest, "the table differs from its digest")
          .Hint("The file is damaged; copy or convert it again");
    ByteReader in(table, kHeaderBytes);
    TERN_ASSIGN(uint32_t tensors, in.Read<uint32_t>());
    TERN_ASSIGN(uint32_t blobs, in.Read<uint32_t>());
    TERN_ASSIGN(uint64_t metadata_bytes, in.Read<uint64_t>());
    TERN_ASSIGN(uint64_t strings_bytes, in.Read<uint64_t>());
    TERN_ASSIGN(uint64_t reserved, in.Read<uint64_t>());
    if (reserved != 0) return Malformed("reserved bytes are not zero");
    if (tensors > kMaxTensors) return Malformed("too many tensors").Got(tensors, Str("at most ", kMaxTensors));
    if (blobs > kMaxBlobs) return Malformed("too many blobs").Got(blobs, Str("at most ", kMaxBlobs));
    if (metadata_bytes > kMaxMetadataBytes)
      return Malformed("the metadata are too long")
          .Got(Str(metadata_bytes, " bytes"), Str("at most ", kMaxMetadataBytes));
    TERN_RETURN_IF_ERROR(Metadata(in, metadata_bytes));
    TERN_RETURN_IF_ERROR(in.CheckCount(tensors, kTensorBytes));
    out_.tensors_.resize(tensors);
    for (TensorRecord& t : out_.tensors_) TERN_RETURN_IF_ERROR(Tensor(in, &t));
    TERN_RETURN_IF_ERROR(in.CheckCount(blobs, kBlobBytes));
    out_.blobs_.resize(blobs);
    for (BlobRecord& b : out_.blobs_) TERN_RETURN_IF_ERROR(BlobEntry(in, &b));
    if (in.remaining() != strings_bytes)
      return Malformed("the strings do not fill the rest of the table")
          .Got(Str(strings_bytes, " bytes"), in.remaining());
    return Strings(in);
  }

  Status Metadata(ByteReader& in, uint64_t bytes) {
    TERN_ASSIGN(std::string_view text, in.Text(bytes));
    auto json = ParseJson(text, kMetadataLimits);
    if (!json.ok())
      return Malformed(json.status().what())
          .Where(json.status().where().empty() ? "metadata" : "metadata, " + json.status().where());
    out_.metadata_ = std::move(json).value();
    if (Status s = CheckMetadata(out_.metadata_); !s.ok()) return std::move(s).Where("metadata");
    out_.architecture_ = out_.metadata_.at("architecture").get<std::string>();
    TERN_ASSIGN(auto padding, in.Bytes(RoundUpTo(bytes, 8) - bytes));
    if (!AllZero(padding)) return Malformed("the padding after the metadata is not zero");
    return {};
  }

  Status Tensor(ByteReader& in, TensorRecord* t) {
    TERN_ASSIGN(uint32_t name_bytes, in.Read<uint32_t>());
    TERN_ASSIGN(uint32_t group_bytes, in.Read<uint32_t>());
    TERN_ASSIGN(uint8_t type, in.Read<uint8_t>());
    TERN_ASSIGN(uint8_t layout, in.Read<uint8_t>());
    TERN_ASSIGN(uint8_t rank, in.Read<uint8_t>());
    TERN_ASSIGN(uint8_t zero, in.Read<uint8_t>());
    TERN_ASSIGN(t->splits, in.Read<uint32_t>());
    size_t index = names_.size();
    std::string where = Str("tensor ", index);
    if (type > static_cast<uint8_t>(DType::boolean))
      return Malformed("the element type is not known")
          .Where(where)
          .Got(int{type}, "at most 9")
          .Hint("A newer tern may read it");
    if (layout > static_cast<uint8_t>(Layout::kRowsQ8) || layout == 2)
      return Malformed("the layout is not known")
          .Where(where)
          .Got(int{layout}, "0, 1 or 3")
          .Hint("A newer tern may read it");
    if (rank > Shape::kMaxRank)
      return Malformed("the rank is too high").Where(where).Got(int{rank}, Str("at most ", Shape::kMaxRank));
    t->type = static_cast<DType>(type);
    t->layout = static_cast<Layout>(layout);
    for (int i = 0; i < Shape::kMaxRank; ++i) {
      TERN_ASSIGN(uint64_t dim, in.Read<uint64_t>());
      if (i >= rank && dim != 0) return Malformed("the shape has numbers beyond its rank").Where(where);
      if (i >= rank) continue;
      auto signed_dim = CheckedCast<int64_t>(dim);
      if (!signed_dim) return Malformed("a dimension is too large").Where(where).Got(dim, "less than 2^63");
      t->shape.Push(*signed_dim);
    }
    TERN_ASSIGN(t->offset, in.Read<uint64_t>());
    TERN_ASSIGN(t->bytes, in.Read<uint64_t>());
    TERN_ASSIGN(t->digest, in.Read<uint64_t>());
    TERN_ASSIGN(uint64_t reserved, in.Read<uint64_t>());
    if (zero != 0 || reserved != 0) return Malformed("reserved bytes are not zero").Where(where);
    names_.push_back({name_bytes, group_bytes});
    return {};
  }

  Status BlobEntry(ByteReader& in, BlobRecord* b) {
    TERN_ASSIGN(uint32_t name_bytes, in.Read<uint32_t>());
    TERN_ASSIGN(uint32_t zero, in.Read<uint32_t>());
    TERN_ASSIGN(b->offset, in.Read<uint64_t>());
    TERN_ASSIGN(b->bytes, in.Read<uint64_t>());
    TERN_ASSIGN(b->digest, in.Read<uint64_t>());
    if (zero != 0)
      return Malformed("reserved bytes are not zero").Where(Str("blob ", names_.size() - out_.tensors_.size()));
    names_.push_back({name_bytes, 0});
    return {};
  }

  Status Strings(ByteReader& in) {
    auto read = [&in](uint64_t bytes, std::string* out) -> Status {
      TERN_ASSIGN(std::string_view text, in.Text(bytes));
      TERN_RETURN_IF_ERROR(CheckName(text));
      *out = std::string(text);
      return {};
    };
    const NameBytes* lengths = names_.data();
    for (TensorRecord& t : out_.tensors_) {
      if (Status s = read(lengths->name, &t.name); !s.ok()) return std::move(s).Where("strings");
      if (lengths->group > 0)
        if (Status s = read(lengths->group, &t.group); !s.ok()) return std::move(s).Where("strings");
      ++lengths;
    }
    for (BlobRecord& b : out_.blobs_)
      if (Status s = read((lengths++)->name, &b.name); !s.ok()) return std::move(s).Where("strings");
    if (!in.done()) return Malformed(Str(in.remaining(), " bytes of strings belong to no name")).Where("strings");
    return {};
  }

  // Unique names, by sorting: hash tables have worst cases that a hostile file can choose.
  Status Names() {
    auto& order = out_.by_name_;
    order.resize(out_.tensors_.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return out_.tensors_[a].name < out_.tensors_[b].name; });
    for (size_t i = 1; i < order.size(); ++i)
      if (out_.tensors_[order[i]].name == out_.tensors_[order[i - 1]].name)
        return Malformed(Str("two tensors are named '", Printable(out_.tensors_[order[i]].name), "'"));
    for (size_t i = 0; i < out_.blobs_.size(); ++i)  // at most 64
      for (size_t j = 0; j < i; ++j)
        if (out_.blobs_[i].name == out_.blobs_[j].name)
          return Malformed(Str("two blobs are named '", Printable(out_.blobs_[i].name), "'"));
    return {};
  }

  // Every range begins exactly where the rule puts it, so there are no overlaps, no holes and nothing outside.
  Status Places() {
    Placement place(kHeaderBytes + table_bytes_);
    out_.table_end_ = kHeaderBytes + table_bytes_;
    Range before{"the table", nullptr, 0, 0};
    for (const BlobRecord& b : out_.blobs_) {
      Range range{"blob", &b.name, b.offset, b.bytes};
      TERN_RETURN_IF_ERROR(CheckPlace(range, place.BlobOffset(), place.end(), before));
      place.TakeBlob(b.bytes);
      before = range;
    }
    int last_class = 1;
    for (const TensorRecord& t : out_.tensors_) {
      Range range{"tensor", &t.name, t.offset, t.bytes};
      auto stored = StoredBytes(t.type, t.layout, t.shape, t.splits);
      if (!stored.ok()) return Status(stored.status()).Where(range.Name());
      if (*stored != t.bytes)
        return Malformed("the size does not follow from type and shape")
            .Where(range.Name())
            .Got(Str(t.bytes, " bytes"), *stored);
      if (ClassOf(t) < last_class)
        return Malformed("stands in the wrong order (small, large, grouped)").Where(range.Name());
      last_class = ClassOf(t);
      TERN_RETURN_IF_ERROR(CheckPlace(range, place.TensorOffset(t), place.end(), before));
      place.TakeTensor(t);
      AddToGroup(t);
      before = range;
    }
    if (place.TrailerOffset() != trailer_at_)
      return Malformed(Str("the trailer does not follow ", before.Name()))
          .Where("trailer")
          .Got(Str("offset ", trailer_at_), place.TrailerOffset());
    return Groups();
  }

  struct Range {
    const char* kind;
    const std::string* name;
    uint64_t offset, bytes;
    std::string Name() const { return name ? Str(kind, " '", Printable(*name), "'") : kind; }
  };

  Status CheckPlace(const Range& range, uint64_t expected, uint64_t end_before, const Range& before) {
    if (range.offset > trailer_at_ || range.bytes > trailer_at_ - range.offset)
      return Malformed("lies outside the file")
          .Where(range.Name())
          .Got(Str(range.bytes, " bytes at offset ", range.offset), Str("an end of at most ", trailer_at_));
    if (range.offset == expected) return {};
    std::string what = range.offset < end_before ? Str("overlaps ", before.Name(), ", which ends at ", end_before)
                       : range.offset % kAlignment != 0 ? Str("is not aligned to ", kAlignment, " bytes")
                                                        : Str("does not follow ", before.Name());
    return Malformed(what).Where(range.Name()).Got(Str("offset ", range.offset), expected);
  }

  void AddToGroup(const TensorRecord& t) {
    if (t.group.empty()) return;
    auto& groups = out_.groups_;
    if (groups.empty() || groups.back().first != t.group) groups.push_back({t.group, {t.offset, 0}});
    groups.back().second.bytes = t.offset + t.bytes - groups.back().second.offset;
  }

  Status Groups() {
    auto& groups = out_.groups_;
    std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 1; i < groups.size(); ++i)
      if (groups[i].first == groups[i - 1].first)
        return Malformed(Str("the members of group '", Printable(groups[i].first), "' are not contiguous"))
            .Where("table");
    return {};
  }

  static bool AllZero(std::span<const uint8_t> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
  }

  ModelFile& out_;
  uint64_t table_bytes_ = 0, trailer_at_ = 0;
  std::vector<NameBytes> names_;  // of the tensors, then of the blobs
};

Result<std::shared_ptr<const ModelFile>> ModelFile::Open(const std::string& path, const OpenOptions& options) {
  TERN_ASSIGN(auto mapped, MappedFile::Open(path));
  std::span<const uint8_t> bytes = mapped->bytes();
  // Header and trailer are looked at page by page: a system that reads megabytes around a fault would bring experts that nobody chose.
  mapped->Advise(MappedFile::Advice::kRandom, 0, bytes.size());
  TERN_ASSIGN(auto file, ModelFileParser::Parse(mapped, bytes, path));
  mapped->Advise(MappedFile::Advice::kNormal, 0, bytes.size());
  if (options.verify) TERN_RETURN_IF_ERROR(file->Verify({}, nullptr));
  return file;
}

Result<std::shared_ptr<const ModelFile>> ModelFile::FromBytes(std::span<const uint8_t> bytes, std::string name) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0)
    return UsageError("a model in memory must begin at a multiple of 64").File(name);
  return ModelFileParser::Parse(nullptr, bytes, std::move(name));
}

const TensorRecord* ModelFile::Find(std::string_view name) const {
  auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [this](uint32_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  return it != by_name_.end() && tensors_[*it].name == name ? &tensors_[*it] : nullptr;
}

Result<std::span<const uint8_t>> ModelFile::Blob(std::string_view name) const {
  for (const BlobRecord& b : blobs_) {
    if (b.name != name) continue;
    std::span<const uint8_t> bytes = bytes_.subspan(b.offset, b.bytes);
    if (Xxh3(bytes) != b.digest)
      return Status(Code::kDigest, Str("the digest of blob '", Printable(b.name), "' differs")).File(path_);
    return bytes;
  }
  return Malformed(Str("there is no blob '", Printable(name), "'")).File(path_);
}

ByteRange ModelFile::Group(std::string_view group) const {
  auto it = std::lower_bound(groups_.begin(), groups_.end(), group,
                             [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
  return it != groups_.end() && it->first == group ? it->second : ByteRange{};
}

}  // namespace tern

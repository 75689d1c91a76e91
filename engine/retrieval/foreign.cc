#include "engine/retrieval/foreign.h"

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"

namespace tern {
namespace {

constexpr int32_t kEos = 102;  // [SEP] of bert-base-cased

int64_t TypeBytes(int type) {
  switch (type) {
    case 1: case 2: return 1;
    case 3: case 8: return 2;
    case 4: return 4;
    case 5: return 8;
    default: return 0;
  }
}

template <class T>
T At(const uint8_t* table, int64_t i) {  // unaligned
  T v;
  std::memcpy(&v, table + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return v;
}

}  // namespace

Result<LucidFiles> LucidFiles::Parse(std::span<const uint8_t> chunks, std::span<const uint8_t> doc_ids, int64_t chunk) {
  if (chunk < 1 || chunk > 65536) return UsageError("the length of a chunk is out of range").Got(chunk, "1 to 65536");
  const size_t row_bytes = static_cast<size_t>(chunk + 1) * 4;
  if (chunks.empty() || chunks.size() % row_bytes != 0)
    return Malformed("the chunks do not fill whole rows").Got(Str(chunks.size(), " bytes"), Str("a multiple of ", row_bytes)).Hint("The file has no header: is the length of a chunk right?");
  LucidFiles f;
  f.rows_ = static_cast<int64_t>(chunks.size() / row_bytes), f.chunk_ = chunk;
  if (static_cast<int64_t>(doc_ids.size()) != f.rows_ * 4) return Malformed("there are not as many document numbers as chunks").Got(Str(doc_ids.size(), " bytes"), f.rows_ * 4);
  f.chunks_ = reinterpret_cast<const int32_t*>(chunks.data());
  f.documents_ = reinterpret_cast<const int32_t*>(doc_ids.data());
  for (int64_t i = 0; i < f.rows_; ++i)
    if (f.documents_[i] < 0 || (i > 0 && f.documents_[i] < f.documents_[i - 1])) return Malformed("the document numbers do not ascend").Where(Str("row ", i)).Got(f.documents_[i], i > 0 ? Str("at least ", f.documents_[i - 1]) : "0 or more");
  for (int64_t i = 0; i < f.rows_ * (chunk + 1); ++i)
    if (f.chunks_[i] < 0) return Malformed("a token is negative").Where(Str("row ", i / (chunk + 1))).Got(f.chunks_[i], "0 or more");
  return f;
}

Result<LucidFiles> LucidFiles::Open(const std::string& chunks, const std::string& doc_ids, int64_t chunk) {
  TERN_ASSIGN(auto chunks_file, MappedFile::Open(chunks));
  TERN_ASSIGN(auto documents_file, MappedFile::Open(doc_ids));
  auto parsed = Parse(chunks_file->bytes(), documents_file->bytes(), chunk);
  if (!parsed.ok()) return Status(parsed.status()).File(chunks);
  parsed->chunks_file_ = std::move(chunks_file), parsed->documents_file_ = std::move(documents_file);
  return parsed;
}

void LucidFiles::Retrieved(int64_t id, std::span<int32_t> out) const {
  std::fill(out.begin(), out.end(), 0);
  if (id < 0 || id >= rows_) return;
  const int32_t* row = chunks_ + id * (chunk_ + 1);
  std::copy_n(row, std::min(out.size(), static_cast<size_t>(chunk_)), out.begin());
  if (std::find(row, row + chunk_ + 1, kEos) != row + chunk_ + 1) return;
  const int32_t* next = chunks_ + std::min(id + 1, rows_ - 1) * (chunk_ + 1);
  for (int64_t i = 0; i < chunk_ && chunk_ + i < static_cast<int64_t>(out.size()); ++i) out[static_cast<size_t>(chunk_ + i)] = next[i];
}

Result<MegatronDataset> MegatronDataset::Parse(std::span<const uint8_t> idx, std::span<const uint8_t> bin) {
  ByteReader r(idx);
  TERN_ASSIGN(std::string_view magic, r.Text(9));
  if (magic != std::string_view("MMIDIDX\0\0", 9)) return Malformed("this is no index of a Megatron dataset");
  TERN_ASSIGN(uint64_t version, r.Read<uint64_t>());
  if (version != 1) return Malformed("the version of the index is unknown").Got(version, 1);
  TERN_ASSIGN(uint8_t type, r.Read<uint8_t>());
  MegatronDataset d;
  d.type_ = type;
  const int64_t item = TypeBytes(type);
  if (item == 0) return Malformed("the type of the tokens is not supported").Where("offset 17").Got(int{type}, "1, 2, 3, 4, 5 or 8");
  TERN_ASSIGN(uint64_t sequences, r.Read<uint64_t>());
  TERN_ASSIGN(uint64_t borders, r.Read<uint64_t>());
  TERN_RETURN_IF_ERROR(r.CheckCount(sequences, 12));
  TERN_RETURN_IF_ERROR(r.CheckCount(borders, 8));
  if (borders < 1) return Malformed("there are no borders of documents");
  TERN_ASSIGN(auto lengths, r.Bytes(sequences * 4));
  TERN_ASSIGN(auto offsets, r.Bytes(sequences * 8));
  TERN_ASSIGN(auto documents, r.Bytes(borders * 8));
  d.lengths_ = lengths.data(), d.offsets_ = offsets.data(), d.borders_ = documents.data();
  d.sequences_ = static_cast<int64_t>(sequences), d.documents_ = static_cast<int64_t>(borders) - 1;
  d.bin_ = bin;
  for (int64_t i = 0; i < d.sequences_; ++i) {
    const int64_t length = At<int32_t>(d.lengths_, i), offset = At<int64_t>(d.offsets_, i), size = static_cast<int64_t>(bin.size());
    if (length < 0 || offset < 0 || offset > size || length > (size - offset) / item) return Malformed("a sequence lies outside of the .bin file").Where(Str("sequence ", i)).Got(Str(offset, " + ", length, " x ", item), Str("within ", size));
  }
  for (int64_t i = 0; i <= d.documents_; ++i) {
    const int64_t border = At<int64_t>(d.borders_, i);
    if (border < 0 || border > d.sequences_ || (i > 0 && border < At<int64_t>(d.borders_, i - 1))) return Malformed("the borders of documents do not ascend").Where(Str("document ", i));
  }
  return d;
}

Result<MegatronDataset> MegatronDataset::Open(const std::string& path) {
  const std::string base = path.ends_with(".idx") || path.ends_with(".bin") ? path.substr(0, path.size() - 4) : path;
  TERN_ASSIGN(auto idx, MappedFile::Open(base + ".idx"));
  TERN_ASSIGN(auto bin, MappedFile::Open(base + ".bin"));
  auto parsed = Parse(idx->bytes(), bin->bytes());
  if (!parsed.ok()) return Status(parsed.status()).File(base + ".idx");
  parsed->idx_file_ = std::move(idx), parsed->bin_file_ = std::move(bin);
  return parsed;
}

Result<std::vector<int32_t>> MegatronDataset::Document(int64_t document) const {
  std::vector<int32_t> out;
  // Each sequence lies within the .bin file; several that lie upon each other could still make a document larger than it.
  const int64_t most = static_cast<int64_t>(bin_.size()) / TypeBytes(type_);
  int64_t total = 0;
  for (int64_t s = At<int64_t>(borders_, document); s < At<int64_t>(borders_, document + 1); ++s) {
    total += At<int32_t>(lengths_, s);
    if (total > most) return Malformed("a document is longer than the .bin file").Where(Str("document ", document)).Got(Str("more than ", most, " tokens"), Str("at most ", most));
  }
  out.reserve(static_cast<size_t>(total));
  for (int64_t s = At<int64_t>(borders_, document); s < At<int64_t>(borders_, document + 1); ++s) {
    const uint8_t* data = bin_.data() + At<int64_t>(offsets_, s);
    for (int64_t i = 0; i < At<int32_t>(lengths_, s); ++i) {
      int64_t v = 0;
      switch (type_) {
        case 1: v = data[i]; break;
        case 2: v = static_cast<int8_t>(data[i]); break;
        case 3: v = At<int16_t>(data, i); break;
        case 8: v = At<uint16_t>(data, i); break;
        case 4: v = At<int32_t>(data, i); break;
        default: v = At<int64_t>(data, i);
      }
      if (v < 0 || v > INT32_MAX) return Malformed("a token does not fit 32 bits").Where(Str("sequence ", s, ", token ", i)).Got(v, Str("0 to ", INT32_MAX));
      out.push_back(static_cast<int32_t>(v));
    }
  }
  return out;
}

}  // namespace tern

#include "engine/retrieval/block.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/checked.h"
#include "engine/base/dtype.h"
#include "engine/base/hash.h"
#include "engine/base/memory.h"

namespace tern {
namespace {

constexpr std::string_view kMagic = "TERNBLOK";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 128, kDigestedHeader = 96;
constexpr int64_t kMostChunks = 1 << 24, kMostBytes = int64_t{1} << 40;

// Where the sections lie, from sizes that were bounded before.
struct Sections {
  int64_t chunks, documents, names, payload, squares, vectors, f16, end;
};
Sections SectionsOf(int64_t chunks, int64_t documents, int64_t names, int64_t payload, int64_t dim, VectorType type) {
  Sections s{};
  int64_t at = static_cast<int64_t>(kHeaderBytes);
  auto take = [&](int64_t bytes) {
    const int64_t begin = at;
    at = RoundUp(at + bytes, 64);
    return begin;
  };
  s.chunks = take(chunks * 16);
  s.documents = take(documents * 32);
  s.names = take(names);
  s.payload = take(payload);
  s.squares = take(chunks * 4);
  s.vectors = take(PackedBytes(type == VectorType::kQ8 ? DType::i8 : DType::f32, chunks, dim).value_or(0));
  s.f16 = take(type == VectorType::kQ8 ? chunks * dim * 2 : 0);
  s.end = at;
  return s;
}

template <class T>
void Put(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

}  // namespace

Status WriteBlock(const std::string& path, const BlockContent& c, Gang* gang) {
  const int64_t n = static_cast<int64_t>(c.chunks.size()), docs = static_cast<int64_t>(c.documents.size());
  if (n == 0 || n > kMostChunks || static_cast<int64_t>(c.vectors.size()) != n * c.dim) return InternalError("a block without chunks, or without their vectors");
  std::string names, payload;
  std::vector<Block::ChunkEntry> chunks;
  std::vector<Block::DocumentEntry> documents;
  for (const auto& chunk : c.chunks) {
    if (chunk.payload.size() > UINT32_MAX || static_cast<int64_t>(payload.size() + chunk.payload.size()) > kMostBytes)
      return UsageError("a chunk is too long for a block").File(path).Where(Str("chunk ", chunks.size())).Got(Str(chunk.payload.size(), " bytes"), Str("at most ", UINT32_MAX));
    chunks.push_back({payload.size(), static_cast<uint32_t>(chunk.payload.size()), static_cast<uint32_t>(chunk.document - c.first_document)});
    payload += chunk.payload;
  }
  for (const DocumentRecord& d : c.documents) {
    if (d.source.size() > UINT32_MAX || d.id.size() > UINT32_MAX) return UsageError("the name of a document is too long for a block").File(path);
    documents.push_back({names.size(), static_cast<uint32_t>(d.source.size()), static_cast<uint32_t>(d.id.size()), static_cast<uint64_t>(d.position), static_cast<uint64_t>(d.first_chunk)});
    names += d.source + d.id;
  }
  const Sections s = SectionsOf(n, docs, static_cast<int64_t>(names.size()), static_cast<int64_t>(payload.size()), c.dim, c.type);
  TERN_ASSIGN(Region region, Region::Create(s.end));
  uint8_t* out = region.data();
  std::memcpy(out + s.chunks, chunks.data(), chunks.size() * 16);
  std::memcpy(out + s.documents, documents.data(), documents.size() * 32);
  std::memcpy(out + s.names, names.data(), names.size());
  std::memcpy(out + s.payload, payload.data(), payload.size());
  TERN_RETURN_IF_ERROR(RowSquares(c.vectors.data(), n, c.dim, gang, reinterpret_cast<float*>(out + s.squares)));
  PackMatrix(c.type == VectorType::kQ8 ? DType::i8 : DType::f32, c.vectors.data(), c.dim, n, c.dim, out + s.vectors);
  if (c.type == VectorType::kQ8)
    for (int64_t i = 0; i < n * c.dim; ++i) Put(out + s.f16 + i * 2, F32ToF16(c.vectors[static_cast<size_t>(i)]));

  std::memcpy(out, kMagic.data(), 8);
  const std::array<uint32_t, 4> small{kVersion, static_cast<uint32_t>(c.kind), static_cast<uint32_t>(c.type), static_cast<uint32_t>(c.dim)};
  std::memcpy(out + 8, small.data(), 16);
  const std::array<uint64_t, 6> large{static_cast<uint64_t>(c.first_chunk), static_cast<uint64_t>(n), static_cast<uint64_t>(c.first_document), static_cast<uint64_t>(docs), names.size(), payload.size()};
  std::memcpy(out + 24, large.data(), 48);
  Put(out + 72, Xxh3({out + kHeaderBytes, static_cast<size_t>(s.end) - kHeaderBytes}));
  Put(out + 80, c.maker);
  Put(out + kDigestedHeader, Xxh3({out, kDigestedHeader}));
  TERN_ASSIGN(FileWriter w, FileWriter::Create(path, static_cast<uint64_t>(s.end)));
  TERN_RETURN_IF_ERROR(w.Write(out, static_cast<uint64_t>(s.end)));
  return w.Commit();
}

Result<std::shared_ptr<const Block>> Block::Open(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto parsed = Parse(file->bytes(), path);
  if (!parsed.ok()) return Status(parsed.status()).File(path);
  const_cast<Block&>(**parsed).file_ = std::move(file);  // nobody else has it yet
  return parsed;
}

Result<std::shared_ptr<const Block>> Block::Parse(std::span<const uint8_t> bytes, const std::string& path) {
  auto bad = [](std::string what) { return Malformed(std::move(what)); };
  if (bytes.size() < kHeaderBytes) return bad("the file ends within the header").Got(Str(bytes.size(), " bytes"), Str("at least ", kHeaderBytes));
  if (std::memcmp(bytes.data(), kMagic.data(), 8) != 0) return bad("this is no block of a retrieval database");
  auto u32 = [&](size_t at) { uint32_t v; std::memcpy(&v, bytes.data() + at, 4); return v; };
  auto u64 = [&](size_t at) { uint64_t v; std::memcpy(&v, bytes.data() + at, 8); return v; };
  if (u32(8) != kVersion) return bad("the block was written by another release").Got(u32(8), kVersion);
  if (Xxh3(bytes.first(kDigestedHeader)) != u64(kDigestedHeader)) return Status(Code::kDigest, "the digest of the header differs").Where("offset 96");
  for (size_t at = kDigestedHeader + 8; at < kHeaderBytes; ++at)
    if (bytes[at] != 0) return bad("the header holds something where nothing stands").Where(Str("offset ", at));
  if (u32(12) > 1 || u32(16) > 1) return bad("the kind of payload or of vectors is unknown").Where("offset 12");
  std::shared_ptr<Block> b(new Block());
  b->path_ = path;
  b->kind_ = static_cast<PayloadKind>(u32(12)), b->type_ = static_cast<VectorType>(u32(16));
  b->dim_ = u32(20);
  b->digest_ = u64(72), b->maker_ = u64(80);
  if (b->dim_ < 1 || b->dim_ > 65536) return bad("the width of the vectors is out of range").Where("offset 20").Got(b->dim_, "1 to 65536");
  if (u64(32) < 1 || u64(32) > static_cast<uint64_t>(kMostChunks) || u64(48) < 1 || u64(48) > u64(32)) return bad("the number of chunks or documents is out of range").Where("offset 32");
  for (size_t at : {size_t{24}, size_t{40}, size_t{56}, size_t{64}})
    if (u64(at) > static_cast<uint64_t>(kMostBytes)) return bad("a size is out of range").Where(Str("offset ", at)).Got(u64(at), Str("at most ", kMostBytes));
  b->first_chunk_ = static_cast<int64_t>(u64(24)), b->chunks_ = static_cast<int64_t>(u64(32));
  b->first_document_ = static_cast<int64_t>(u64(40)), b->documents_ = static_cast<int64_t>(u64(48));
  const int64_t names = static_cast<int64_t>(u64(56)), payload = static_cast<int64_t>(u64(64));
  const Sections s = SectionsOf(b->chunks_, b->documents_, names, payload, b->dim_, b->type_);
  if (static_cast<int64_t>(bytes.size()) != s.end) return bad("the file has another size than its header says").Got(Str(bytes.size(), " bytes"), s.end);
  const uint8_t* data = bytes.data();
  b->body_ = bytes.subspan(kHeaderBytes);
  b->chunk_table_ = reinterpret_cast<const ChunkEntry*>(data + s.chunks);
  b->document_table_ = reinterpret_cast<const DocumentEntry*>(data + s.documents);
  b->names_ = {reinterpret_cast<const char*>(data + s.names), static_cast<size_t>(names)};
  b->payload_ = {reinterpret_cast<const char*>(data + s.payload), static_cast<size_t>(payload)};
  b->squares_ = reinterpret_cast<const float*>(data + s.squares);
  b->vectors_ = data + s.vectors;
  if (b->type_ == VectorType::kQ8) b->f16_ = reinterpret_cast<const uint16_t*>(data + s.f16);
  int64_t document = 0;
  for (int64_t i = 0; i < b->chunks_; ++i) {
    const ChunkEntry& c = b->chunk_table_[i];
    auto where = [&] { return Str("chunk ", i); };
    if (c.offset > static_cast<uint64_t>(payload) || c.bytes > static_cast<uint64_t>(payload) - c.offset) return bad("its text lies outside of the payload").Where(where());
    if (b->kind_ == PayloadKind::kTokens && (c.offset % 4 != 0 || c.bytes % 4 != 0)) return bad("its tokens are cut").Where(where());
    if (c.document >= static_cast<uint64_t>(b->documents_) || c.document < document || c.document > document + 1) return bad("its document is not the one before or the next").Where(where());
    document = c.document;
    if (!(b->squares_[i] >= 0) || !std::isfinite(b->squares_[i])) return bad("the length of its vector is no number").Where(where());
    b->longest_ = std::max(b->longest_, std::sqrt(static_cast<double>(b->squares_[i])));
  }
  b->longest_ *= 1 + 0x1p-20;  // squares are rounded
  for (int64_t i = 0; i < b->documents_; ++i) {
    const DocumentEntry& d = b->document_table_[i];
    const uint64_t size = uint64_t{d.source_bytes} + d.id_bytes;
    if (d.offset > static_cast<uint64_t>(names) || size > static_cast<uint64_t>(names) - d.offset || d.first_chunk > static_cast<uint64_t>(b->first_chunk_ + b->chunks_) || d.position > uint64_t{1} << 60)
      return bad("its name or place is out of range").Where(Str("document ", i));
  }
  return std::shared_ptr<const Block>(std::move(b));
}

Status Block::Verify() const {
  if (Xxh3(body_) != digest_) return Status(Code::kDigest, "the digest of the block differs").File(path_);
  return {};
}

std::string_view Block::Payload(int64_t chunk) const { return payload_.substr(chunk_table_[chunk].offset, chunk_table_[chunk].bytes); }
int64_t Block::DocumentOf(int64_t chunk) const { return first_document_ + chunk_table_[chunk].document; }

DocumentRecord Block::Document(int64_t document) const {
  const DocumentEntry& d = document_table_[document];
  const std::string_view both = names_.substr(d.offset, uint64_t{d.source_bytes} + d.id_bytes);
  return {std::string(both.substr(0, d.source_bytes)), std::string(both.substr(d.source_bytes)), static_cast<int64_t>(d.position), static_cast<int64_t>(d.first_chunk)};
}

VectorBlock Block::Vectors() const {
  VectorBlock v;
  v.first = first_chunk_, v.rows = chunks_;
  v.packed = {vectors_, type_ == VectorType::kQ8 ? DType::i8 : DType::f32, chunks_, dim_};
  v.f16 = f16_;
  v.squares = squares_;
  return v;
}

bool Block::SameText(const BlockContent& c) const {
  if (c.maker != maker_ || c.kind != kind_ || c.type != type_ || c.first_chunk != first_chunk_ || c.first_document != first_document_ || static_cast<int64_t>(c.chunks.size()) != chunks_ ||
      static_cast<int64_t>(c.documents.size()) != documents_)
    return false;
  for (int64_t i = 0; i < chunks_; ++i)
    if (Payload(i) != c.chunks[static_cast<size_t>(i)].payload || DocumentOf(i) != c.chunks[static_cast<size_t>(i)].document) return false;
  for (int64_t i = 0; i < documents_; ++i) {
    const DocumentRecord a = Document(i), &b = c.documents[static_cast<size_t>(i)];
    if (a.source != b.source || a.id != b.id || a.position != b.position || a.first_chunk != b.first_chunk) return false;
  }
  return true;
}

}  // namespace tern

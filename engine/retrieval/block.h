// Block: one file of a retrieval database - some thousand chunks with their text (or tokens), documents and vectors. Immutable once written; a database is
// a list of them (database.h). All integers little-endian, sections 64-byte aligned, in this order:
//
//   header 128   0 "TERNBLOK"   8 u32 version 1   12 u32 payload kind   16 u32 vector type (0 f32, 1 q8)   20 u32 dim
//               24 u64 first chunk   32 u64 chunks   40 u64 first document   48 u64 documents   56 u64 bytes of names   64 u64 bytes of payload
//               72 u64 XXH3-64 of everything behind the header   80 u64 maker: digest of the settings and the embedder   88 u64 0
//               96 u64 XXH3-64 of bytes 0..95   zeros
//   chunks       {u64 offset in the payload, u32 bytes, u32 document, counted from the block's first} each
//   documents    {u64 offset in the names, u32 bytes of the source's name, u32 bytes of the id, u64 position, u64 global number of its first chunk} each
//   names        source and id of each document, one behind the other
//   payload      UTF-8 text, or i32 token ids
//   squares      f32 |x|^2 of every vector
//   vectors      panels [chunks, dim] of engine/kernels/packed.h, f32 or i8; for q8 then f16 rows [chunks, dim]
//
// A document may go on in the next block, which then repeats its entry.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/status.h"
#include "engine/retrieval/search.h"

namespace tern {

enum class PayloadKind : uint32_t { kText = 0, kTokens = 1 };
enum class VectorType : uint32_t { kF32 = 0, kQ8 = 1 };

struct DocumentRecord {
  std::string source, id;     // file it came from; its id there, may be empty
  int64_t position = 0;       // where: line of a record, counted from 1
  int64_t first_chunk = 0;    // global number
};

// What one block holds, before it is written or as it was read.
struct BlockContent {
  PayloadKind kind = PayloadKind::kText;
  VectorType type = VectorType::kF32;
  int64_t dim = 0, first_chunk = 0, first_document = 0;
  uint64_t maker = 0;         // equal for blocks that may stand in one database
  struct Chunk {
    std::string payload;
    int64_t document = 0;     // global
  };
  std::vector<Chunk> chunks;
  std::vector<DocumentRecord> documents;  // of global numbers first_document, first_document + 1, ...
  std::vector<float> vectors;             // [chunks, dim]
};

// Writes through a temporary; the same content gives the same bytes. kUsage for a text of 4 GB or more, kNumeric for a vector that is not finite.
Status WriteBlock(const std::string& path, const BlockContent& content, Gang* gang);

// A block as it lies in the file. Immutable; thread-safe.
class Block {
 public:
  // Maps the file; checks the header's digest, all sizes and every offset of the tables. kIo, kMalformed, kDigest.
  static Result<std::shared_ptr<const Block>> Open(const std::string& path);
  static Result<std::shared_ptr<const Block>> Parse(std::span<const uint8_t> bytes, const std::string& path);  // `bytes` outlive it, 64-byte aligned
  // The digest of everything behind the header: kDigest.
  Status Verify() const;

  PayloadKind kind() const { return kind_; }
  VectorType type() const { return type_; }
  int64_t dim() const { return dim_; }
  int64_t first_chunk() const { return first_chunk_; }
  int64_t chunks() const { return chunks_; }
  int64_t first_document() const { return first_document_; }
  int64_t documents() const { return documents_; }
  uint64_t digest() const { return digest_; }
  uint64_t maker() const { return maker_; }
  int64_t payload_bytes() const { return static_cast<int64_t>(payload_.size()); }

  // Counted within the block.
  std::string_view Payload(int64_t chunk) const;
  int64_t DocumentOf(int64_t chunk) const;  // global
  DocumentRecord Document(int64_t document) const;
  VectorBlock Vectors() const;
  double longest() const { return longest_; }
  // Whether the block holds this text and these documents (vectors aside): a build that is resumed compares.
  bool SameText(const BlockContent& content) const;

 private:
  Block() = default;
  struct ChunkEntry {
    uint64_t offset;
    uint32_t bytes, document;
  };
  struct DocumentEntry {
    uint64_t offset;
    uint32_t source_bytes, id_bytes;
    uint64_t position, first_chunk;
  };
  friend Status WriteBlock(const std::string& path, const BlockContent& content, Gang* gang);

  std::shared_ptr<const MappedFile> file_;
  std::string path_;
  std::span<const uint8_t> body_;
  PayloadKind kind_{};
  VectorType type_{};
  int64_t dim_ = 0, first_chunk_ = 0, chunks_ = 0, first_document_ = 0, documents_ = 0;
  uint64_t digest_ = 0, maker_ = 0;
  double longest_ = 0;
  const ChunkEntry* chunk_table_ = nullptr;
  const DocumentEntry* document_table_ = nullptr;
  std::string_view names_, payload_;
  const float* squares_ = nullptr;
  const uint8_t* vectors_ = nullptr;
  const uint16_t* f16_ = nullptr;
};

}  // namespace tern

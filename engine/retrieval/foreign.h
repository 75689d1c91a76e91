// What other programs left on disk: the raw files of lucidrains' RETRO-pytorch (no header: sizes must fit) and Megatron's indexed datasets (.bin, .idx).
// Views of mapped files; every count and offset is checked at Open. Immutable, thread-safe.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/status.h"

namespace tern {

// chunks.dat i32 [n, m + 1] (m tokens, then the first token of the next chunk), doc_ids.dat i32 [n] (ascending), chunks.dat.embedded f32 [n, width], if any.
class LucidFiles {
 public:
  static Result<LucidFiles> Open(const std::string& chunks, const std::string& doc_ids, int64_t chunk);
  // The same over memory; 4-byte aligned.
  static Result<LucidFiles> Parse(std::span<const uint8_t> chunks, std::span<const uint8_t> doc_ids, int64_t chunk);

  int64_t rows() const { return rows_; }
  int64_t chunk() const { return chunk_; }
  std::span<const int32_t> Row(int64_t row) const { return {chunks_ + row * (chunk_ + 1), static_cast<size_t>(chunk_)}; }  // with its pads (0)
  int32_t DocumentOf(int64_t row) const { return documents_[row]; }
  // [neighbour | continuation], 2m ids, exactly as the package looks them up: id -1 (or outside) gives pads; the continuation is the next row of the file,
  // none if the neighbour's row, label column included, holds the end symbol 102.
  void Retrieved(int64_t id, std::span<int32_t> out) const;

 private:
  std::shared_ptr<const MappedFile> chunks_file_, documents_file_;
  const int32_t *chunks_ = nullptr, *documents_ = nullptr;
  int64_t rows_ = 0, chunk_ = 0;
};

// Megatron's MMapIndexedDataset: .idx "MMIDIDX\0\0", u64 version 1, u8 type, u64 sequences, u64 documents, i32 lengths, i64 byte offsets, i64 document
// borders (in sequences). Types: 1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16.
class MegatronDataset {
 public:
  static Result<MegatronDataset> Open(const std::string& path);  // with or without .idx or .bin
  static Result<MegatronDataset> Parse(std::span<const uint8_t> idx, std::span<const uint8_t> bin);

  int64_t documents() const { return documents_; }
  // All sequences of a document joined. kMalformed for an id that does not fit 32 bits, or more tokens than the file holds.
  Result<std::vector<int32_t>> Document(int64_t document) const;

 private:
  std::shared_ptr<const MappedFile> idx_file_, bin_file_;
  std::span<const uint8_t> bin_;
  const uint8_t *lengths_ = nullptr, *offsets_ = nullptr, *borders_ = nullptr;
  int64_t sequences_ = 0, documents_ = 0;
  int type_ = 0;
};

}  // namespace tern

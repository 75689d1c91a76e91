// clang-format off
// The `.tern` file: one model in one file - configuration, weights, tokenizer, provenance, digests. This comment is its
// specification, version 1.
//
// All integers are little-endian. Every byte of the file belongs to exactly one of the parts below or is zero padding;
// a reader refuses anything else.
//
//   HEADER, 64 bytes
//      0  8  magic 8A 'T' 'E' 'R' 'N' 0D 0A 1A (shows a transfer that changed line ends)
//      8  4  version: 1
//     12  4  byte-order mark 0x01020304
//     16  8  file_bytes: size of the whole file, trailer included
//     24  8  table_offset: 64
//     32  8  table_bytes: at most 64 MiB
//     40  8  XXH3-64 of the table
//     48  8  zero
//     56  8  XXH3-64 of bytes 0..55
//   TABLE, at 64
//      0  4  tensor_count: at most 65,536
//      4  4  blob_count: at most 64
//      8  8  metadata_bytes: at most 16 MiB
//     16  8  strings_bytes
//     24  8  zero
//     32     metadata: one JSON object in UTF-8, nested at most 8 deep; zeros up to a multiple of 8
//            tensor_count tensor records of 96 bytes:
//               0  4  name_bytes 1..512       4  4  group_bytes 0..512
//               8  1  type: f32 0, f16 1, bf16 2, f64 3, i8 4, u8 5, i16 6, i32 7, i64 8, boolean 9
//               9  1  layout: rows 0, panel16 1, rows_q8 3 (2 is kept for blocks of 4-bit numbers)
//              10  1  rank 0..6              11  1  zero
//              12  4  i8 in panel16: how many columns of the panels are split ones; else zero
//              16 48  shape: six numbers, those beyond the rank are zero
//              64  8  offset in the file     72  8  bytes
//              80  8  XXH3-64 of the bytes   88  8  zero
//            blob_count blob records of 32 bytes:
//               0  4  name_bytes 1..512       4  4  zero
//               8  8  offset in the file     16  8  bytes        24  8  XXH3-64 of the bytes
//            strings: for each tensor its name and its group, then for each blob its name, one after the other without
//            separators. UTF-8 without control characters. Names of tensors are unique, and names of blobs.
//   DATA: blobs, then tensors in the order of their records, in three classes: (1) less than 64 KiB and no group,
//      (2) 64 KiB or more and no group, (3) with a group, the members of a group adjacent. A range begins at the end of
//      the one before it, rounded up with zeros to its alignment: 64 bytes for blobs, class 1 and the further members
//      of a group; 4,096 for class 2 and the first member of a group. A group is what is paged in together (the
//      matrices of one expert), so its end is rounded up to 4,096 too. Thus every offset follows from the records, and
//      a reader checks that it does.
//   TRAILER, 16 bytes after the last range, rounded up to 64
//      0  8  file_bytes again
//      8  8  "TERN_END": a truncated file has none
//
// Layouts. `rows`: row-major, dense, any rank. `panel16` (rank 2: W [N, K] of y = W x; f32, f16, bf16, i8): panels of 16
// rows of W as engine/kernels/packed.h has them, f32 [N/16][K][16], 16-bit types [N/16][K/2][16][2], i8 [N/16][K/4][16][4]
// with K and its split columns, then f32 scales [N], i32 column sums [N] and the i32 source of each split column in
// ascending order; N rounded up to 16 and K to 2 or 4, with zeros. A weight is scale times number, a number lies in
// -127..127, a scale is finite and not negative (NaN: the source's row held what is no number). `rows_q8` (rank 2, i8):
// each row is its f32 scale and its K numbers, without padding. Layouts are the same on every processor. Files with i8
// in panel16 or with rows_q8 are refused by readers from before these two, which read everything else of version 1.
//
// Metadata, as far as the format knows it: "architecture" (string, required) and "config" (object, required) are what
// models/ understands; "tokenizer" (object: "kind"; the data are the blob "tokenizer"), "provenance" (object),
// "settings" (object: run-time defaults), "license" (string). Other keys are kept. Nothing in a file is ever executed.
//
// Version policy: a change that today's reader would misread gets a new version; a reader reads all versions up to its
// own. A file of every version stays in tests/fixtures.
// clang-format on
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/shape.h"
#include "engine/base/status.h"

namespace tern {

inline constexpr uint32_t kModelFileVersion = 1;

enum class Layout : uint8_t { kRows = 0, kPanel16 = 1, kRowsQ8 = 3 };
std::string_view LayoutName(Layout layout);  // "rows", "panel16", "rows_q8"

// Bytes a tensor takes in the file. kMalformed if the shape overflows, or the type, rank or split columns do not exist
// in this layout.
Result<uint64_t> StoredBytes(DType type, Layout layout, const Shape& shape, uint32_t splits = 0);

// 16 hexadecimal digits.
std::string HexDigest(uint64_t digest);

struct TensorRecord {
  std::string name;
  std::string group;  // empty: none. Members of a group are contiguous
  DType type = DType::f32;
  Layout layout = Layout::kRows;
  Shape shape;  // logical, without padding and split columns
  uint32_t splits = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t digest = 0;
};

struct BlobRecord {
  std::string name;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t digest = 0;
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// done and total in bytes; called from the calling thread, at most once per 4 MiB.
using ProgressFn = std::function<void(uint64_t done, uint64_t total)>;

// An open model file: mapped, read-only, immutable, safe to share between threads. Opening reads header, table and
// trailer and checks all of them (under 1 ms for usual models); the data are not touched.
class ModelFile {
 public:
  struct OpenOptions {
    bool verify = false;  // also check every digest before returning (kDigest)
  };
  // kIo: cannot open. kMalformed: not a `.tern` file (the message names what it is), damaged, truncated, of a newer
  // version. kDigest: header or table differ from their digest.
  static Result<std::shared_ptr<const ModelFile>> Open(const std::string& path, const OpenOptions& options);
  static Result<std::shared_ptr<const ModelFile>> Open(const std::string& path) { return Open(path, OpenOptions()); }
  // The same over bytes in memory, which must outlive the ModelFile and begin at a multiple of 64. `name` stands in
  // messages.
  static Result<std::shared_ptr<const ModelFile>> FromBytes(std::span<const uint8_t> bytes, std::string name);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint64_t file_bytes() const { return bytes_.size(); }
  uint64_t digest() const {
    return table_digest_;
  }  // of the table, which holds all other digests: names the contents of the whole file

  const Json& metadata() const { return metadata_; }
  const std::string& architecture() const { return architecture_; }  // metadata()["architecture"]
  const Json& config() const { return metadata_.at("config"); }      // an object

  std::span<const TensorRecord> tensors() const { return tensors_; }  // in the order of the file
  const TensorRecord* Find(std::string_view name) const;              // nullptr if there is none
  // The stored bytes of a record of this file; 64-byte aligned, valid as long as this object.
  const void* data(const TensorRecord& record) const { return bytes_.data() + record.offset; }

  std::span<const BlobRecord> blobs() const { return blobs_; }
  // The bytes of a blob, their digest checked now. kMalformed if there is none of that name, kDigest.
  Result<std::span<const uint8_t>> Blob(std::string_view name) const;

  // Where the members of a group lie, for advice; {0, 0} if there is none.
  ByteRange Group(std::string_view group) const;
  // The mapping, for Advise and CheckUnchanged; nullptr after FromBytes.
  const MappedFile* mapped() const { return file_.get(); }

  struct NonFinite {
    std::string tensor;
    int64_t nan = 0, infinite = 0;
  };
  struct VerifyOptions {
    const CancelToken* cancel = nullptr;
    ProgressFn progress;
    bool release_pages =
        false;  // gives each piece back to the system after reading: the process does not grow by the file's size
  };
  // Reads everything once: digests of tensors and blobs, zeros in all padding (between ranges and inside panels).
  // kDigest names the first tensor that differs and how many do. `non_finite` (may be null) lists tensors that hold NaN
  // or infinity; those are no error here.
  Status Verify(const VerifyOptions& options, std::vector<NonFinite>* non_finite) const;

  // The non-finite numbers of one tensor.
  NonFinite CountNonFinite(const TensorRecord& record) const;

 private:
  friend class ModelFileParser;
  ModelFile() = default;
  std::string path_;
  std::shared_ptr<const MappedFile> file_;
  std::span<const uint8_t> bytes_;
  uint32_t version_ = 0;
  uint64_t table_digest_ = 0;
  uint64_t table_end_ = 0;
  Json metadata_;
  std::string architecture_;
  std::vector<TensorRecord> tensors_;
  std::vector<BlobRecord> blobs_;
  std::vector<uint32_t> by_name_;                          // indices of tensors_, sorted by name
  std::vector<std::pair<std::string, ByteRange>> groups_;  // sorted by name
};

struct TensorSpec {
  std::string name;
  std::string group;
  DType type = DType::f32;
  Layout layout = Layout::kRows;
  Shape shape;
  std::vector<int32_t> split_sources = {};  // i8 in panel16: ascending (engine/kernels/packed.h)
};

struct BlobSpec {
  std::string name;
  std::string bytes;
};

// Writes a model file front to back: all offsets are known at once, tensors stream through one panel of buffer. The
// output appears under its name only after Finish(): written to a temporary, synced, opened again and verified,
// renamed. The same input gives the same bytes. Not thread-safe.
class ModelFileWriter {
 public:
  // kUsage if a name, shape, type or the metadata breaks the specification above; kIo if the file cannot be created or
  // there is no room for it.
  static Result<ModelFileWriter> Create(const std::string& path, const Json& metadata, std::vector<TensorSpec> tensors,
                                        std::vector<BlobSpec> blobs);
  ModelFileWriter(ModelFileWriter&&) noexcept;
  ModelFileWriter& operator=(ModelFileWriter&&) noexcept;
  ~ModelFileWriter();

  // The tensors in the order in which they must be written (classes and groups of the specification), offsets filled
  // in.
  std::span<const TensorRecord> tensors() const;
  uint64_t file_bytes() const;

  // Appends rows to the tensor `index` of tensors(): f32 [count, row], row = the product of all dimensions but the
  // first; they are converted and packed as the record says, rounding to nearest even. A tensor must be complete before
  // the next begins; a scalar is one row of 1. Only for f32, f16, bf16 and i8 in panel16 or rows_q8. kNumeric if a
  // finite number becomes infinite in f16.
  Status WriteRows(size_t index, const float* rows, int64_t count);
  // Appends bytes in the stored form (a tensor of an integer type, or one taken from a file of the same layout and
  // type).
  Status WriteStored(size_t index, std::span<const uint8_t> bytes);
  // What rounding to i8 did to a tensor that WriteRows has written: |W - W'| / |W| (Frobenius); 0 for other types.
  double RelativeError(size_t index) const;

  // Completes the file; every tensor must have been written (kInternal otherwise). Progress is that of the
  // verification.
  Status Finish(const CancelToken* cancel = nullptr, const ProgressFn& progress = {});
  uint64_t digest() const;  // ModelFile::digest() of the finished file

 private:
  struct State;
  explicit ModelFileWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tern

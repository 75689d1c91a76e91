// Reading every byte of a `.tern` file once: digests, padding, non-finite numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "engine/base/hash.h"
#include "engine/kernels/packed.h"
#include "formats/model_file.h"
#include "formats/model_file_layout.h"

namespace tern {

using namespace model_file;  // NOLINT: the constants of the specification

namespace {

constexpr uint64_t kPiece = 4 << 20;
constexpr uint64_t kFaultAround = 1 << 20;  // with the page that is read the system may map its neighbours, those given back among them

float ScaleOfRow(const int8_t* row) {  // of rows_q8
  float scale;
  std::memcpy(&scale, row, sizeof scale);
  return scale;
}

bool AllZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

// Bits of a number whose exponent is all ones are NaN, or infinite if the fraction is zero.
template <class Bits>
void CountBits(std::span<const uint8_t> bytes, Bits exponent, Bits fraction, ModelFile::NonFinite* out) {
  const uint64_t count = bytes.size() / sizeof(Bits);
  for (uint64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + i * sizeof(Bits), sizeof(Bits));
    if ((bits & exponent) != exponent) continue;
    if ((bits & fraction) != 0)
      ++out->nan;
    else
      ++out->infinite;
  }
}

void CountNonFiniteBytes(DType type, std::span<const uint8_t> bytes, ModelFile::NonFinite* out) {
  if (type == DType::f32) CountBits<uint32_t>(bytes, 0x7f800000, 0x7fffff, out);
  if (type == DType::f16) CountBits<uint16_t>(bytes, 0x7c00, 0x3ff, out);
  if (type == DType::bf16) CountBits<uint16_t>(bytes, 0x7f80, 0x7f, out);
  if (type == DType::f64) CountBits<uint64_t>(bytes, 0x7ff0000000000000, 0xfffffffffffff, out);
}

// Null, or what is wrong with the bytes of a tensor beside their digest.
const char* CheckStored(const TensorRecord& t, const void* data) {
  if (t.layout == Layout::kPanel16) {
    const PackedMatrix m{data, t.type, t.shape[0], t.shape[1] + t.splits, t.splits};
    if (!PaddingIsZero(m)) return "the padding of the panels is not zero";
    return t.type == DType::i8 ? CheckQ8(m) : nullptr;
  }
  if (t.layout != Layout::kRowsQ8) return nullptr;
  const auto* row = static_cast<const int8_t*>(data);
  for (int64_t r = 0; r < t.shape[0]; ++r, row += 4 + t.shape[1]) {
    if (const float scale = ScaleOfRow(row); scale < 0 || std::isinf(scale)) return "a scale is negative or infinite";
    if (std::find(row + 4, row + 4 + t.shape[1], int8_t{-128}) != row + 4 + t.shape[1]) return "a number is -128";
  }
  return nullptr;
}

// Every number of a row counts whose scale is NaN.
void CountScales(const TensorRecord& t, const void* data, ModelFile::NonFinite* out) {
  const auto* row = static_cast<const int8_t*>(data);
  const PackedMatrix m{data, t.type, t.shape[0], t.shape[1] + t.splits, t.splits};
  for (int64_t r = 0; r < t.shape[0]; ++r) {
    const float scale = t.layout == Layout::kPanel16 ? m.scales()[r] : ScaleOfRow(row + r * (4 + t.shape[1]));
    if (std::isnan(scale)) out->nan += t.shape[1];
  }
}

// One pass over the ranges of a file.
class Verifier {
 public:
  Verifier(const MappedFile* mapped, std::span<const uint8_t> bytes, const ModelFile::VerifyOptions& options)
      : mapped_(mapped), bytes_(bytes), options_(options) {}

  // The digest of a range; counts non-finite numbers if `counts` is given.
  Result<uint64_t> Digest(uint64_t offset, uint64_t bytes, DType type, ModelFile::NonFinite* counts) {
    Xxh3Stream digest;
    for (uint64_t done = 0; done < bytes;) {
      if (options_.cancel && options_.cancel->cancelled())
        return Status(Code::kCancelled, "verification was cancelled");
      const uint64_t piece = std::min(kPiece, bytes - done);
      auto span = bytes_.subspan(offset + done, piece);
      digest.Update(span);
      if (counts) CountNonFiniteBytes(type, span, counts);
      if (options_.release_pages && mapped_) mapped_->Advise(MappedFile::Advice::kDontNeed, offset + done, piece);
      done += piece;
      if (options_.progress) options_.progress(offset + done, bytes_.size());
    }
    return digest.Digest();
  }

  // Zeros from the end of the range before to `offset`.
  bool GapIsZero(uint64_t offset) const { return AllZero(bytes_.subspan(at_, offset - at_)); }
  void MoveTo(uint64_t end) { at_ = end; }

 private:
  const MappedFile* mapped_;
  std::span<const uint8_t> bytes_;
  const ModelFile::VerifyOptions& options_;
  uint64_t at_ = 0;
};

}  // namespace

std::string HexDigest(uint64_t digest) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(digest));
  return text;
}

Status ModelFile::Verify(const VerifyOptions& options, std::vector<NonFinite>* non_finite) const {
  Verifier verifier(file_.get(), bytes_, options);
  verifier.MoveTo(table_end_);
  int64_t differing = 0;
  Status first;
  auto differs = [&](const char* kind, const std::string& name, uint64_t got, uint64_t expected) {
    if (differing++ == 0)
      first = Status(Code::kDigest, Str("the digest of ", kind, " '", Printable(name), "' differs"))
                  .Got(HexDigest(got), HexDigest(expected));
  };
  auto gap = [&](uint64_t offset, uint64_t bytes) -> Status {
    if (!verifier.GapIsZero(offset))
      return Status(Code::kDigest, "padding is not zero").Where(Str("before offset ", offset)).File(path_);
    verifier.MoveTo(offset + bytes);
    return {};
  };

  for (const BlobRecord& b : blobs_) {
    TERN_RETURN_IF_ERROR(gap(b.offset, b.bytes));
    TERN_ASSIGN(uint64_t digest, verifier.Digest(b.offset, b.bytes, DType::u8, nullptr));
    if (digest != b.digest) differs("blob", b.name, digest, b.digest);
  }
  for (const TensorRecord& t : tensors_) {
    TERN_RETURN_IF_ERROR(gap(t.offset, t.bytes));
    NonFinite counts{t.name};
    TERN_ASSIGN(uint64_t digest, verifier.Digest(t.offset, t.bytes, t.type, non_finite ? &counts : nullptr));
    if (digest != t.digest)
      differs("tensor", t.name, digest, t.digest);
    else if (const char* wrong = CheckStored(t, data(t)))
      return Malformed(wrong).Where(Str("tensor '", Printable(t.name), "'")).File(path_);
    if (non_finite && t.type == DType::i8 && t.layout != Layout::kRows) CountScales(t, data(t), &counts);
    if (non_finite && counts.nan + counts.infinite > 0) non_finite->push_back(std::move(counts));
    if (options.release_pages && file_) {  // what CheckStored has read again, and what came with it
      const uint64_t before = std::min(t.offset, kFaultAround);
      file_->Advise(MappedFile::Advice::kDontNeed, t.offset - before, before + t.bytes);
    }
  }
  TERN_RETURN_IF_ERROR(gap(bytes_.size() - kTrailerBytes, kTrailerBytes));
  if (first.ok()) return {};
  std::string more = differing > 1 ? Str(differing, " tensors and blobs differ in all. ") : "";
  return std::move(first).File(path_).Hint(more + "The file is damaged; copy or convert it again");
}

ModelFile::NonFinite ModelFile::CountNonFinite(const TensorRecord& record) const {
  NonFinite counts{record.name};
  CountNonFiniteBytes(record.type, bytes_.subspan(record.offset, record.bytes), &counts);
  if (record.type == DType::i8 && record.layout != Layout::kRows) CountScales(record, data(record), &counts);
  return counts;
}

}  // namespace tern

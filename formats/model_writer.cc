// Writing `.tern` files (model_file.h).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "engine/base/checked.h"
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/kernels/packed.h"
#include "formats/model_file.h"
#include "formats/model_file_layout.h"

namespace tern {

using namespace model_file;  // NOLINT: the constants of the specification

namespace {

template <class T>
void Append(std::string* out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

std::span<const uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

int64_t RowElements(const Shape& shape) {
  int64_t n = 1;
  for (int i = 1; i < shape.rank(); ++i) n *= shape[i];
  return n;
}
int64_t RowCount(const Shape& shape) {
  return shape.rank() == 0 ? 1 : shape[0];
}

void Convert(const float* in, int64_t count, DType type, uint8_t* out) {
  if (type == DType::f32) {
    std::memcpy(out, in, static_cast<size_t>(count) * 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = type == DType::bf16 ? F32ToBf16(in[i]) : F32ToF16(in[i]);
    std::memcpy(out + i * 2, &bits, 2);
  }
}

// Whether no finite number becomes infinite: from halfway between the largest finite number and the next power of two.
bool Fits(const float* in, int64_t count, DType type) {
  const float least = type == DType::f16 ? 65520.0f : 0x1.ffp127f;
  bool fits = true;
  for (int64_t i = 0; i < count; ++i)
    fits &= !(std::fabs(in[i]) >= least && std::fabs(in[i]) <= std::numeric_limits<float>::max());
  return fits;
}

Status TooLarge() {
  return Status(Code::kNumeric, "a number is too large for the type");
}

}  // namespace

struct ModelFileWriter::State {
  explicit State(FileWriter f) : file(std::move(f)) {}

  FileWriter file;
  std::string path;
  std::string metadata;
  std::vector<TensorRecord> tensors;
  std::vector<BlobRecord> blobs;
  uint64_t file_bytes = 0;
  uint64_t table_digest = 0;

  size_t current = 0;       // the tensor being written
  int64_t rows_done = 0;    // of it
  uint64_t bytes_done = 0;  // of it
  std::optional<Xxh3Stream> digest{std::in_place};
  std::vector<float> panel;  // 16 rows that are not yet complete
  int64_t panel_rows = 0;
  std::vector<uint8_t> packed;

  // i8: what stands behind the panels, and the error.
  std::vector<std::vector<int32_t>> split_sources;  // per tensor
  std::vector<float> scales;
  std::vector<int32_t> column_sums;
  std::vector<float> split, unpacked;
  double error = 0, norm = 0;  // of the current tensor, squared
  std::vector<double> relative_error;

  std::string Table() const;
  std::string Header(const std::string& table) const;
  Status PadUpTo(uint64_t offset);  // with zeros
  Status Begin(size_t index);
  Status Put(std::span<const uint8_t> bytes);
  Status PutRows(const TensorRecord& t, const float* rows, int64_t count);
  Status PutPanels(const TensorRecord& t, const float* rows, int64_t count);
  Status PutPanel(const TensorRecord& t, const float* rows, int64_t count);
  Status PutPanelQ8(const TensorRecord& t, const float* rows, int64_t count);
  Status PutRowsQ8(const TensorRecord& t, const float* rows, int64_t count);
  void Compare(const float* row, int64_t k);
  Status PutTail();
  Status EndIfComplete();
};

std::string ModelFileWriter::State::Table() const {
  std::string strings, out;
  for (const TensorRecord& t : tensors) strings += t.name + t.group;
  for (const BlobRecord& b : blobs) strings += b.name;
  Append<uint32_t>(&out, static_cast<uint32_t>(tensors.size()));
  Append<uint32_t>(&out, static_cast<uint32_t>(blobs.size()));
  Append<uint64_t>(&out, metadata.size());
  Append<uint64_t>(&out, strings.size());
  Append<uint64_t>(&out, 0);
  out += metadata;
  out.resize(RoundUpTo(out.size(), 8));
  for (const TensorRecord& t : tensors) {
    Append<uint32_t>(&out, static_cast<uint32_t>(t.name.size()));
    Append<uint32_t>(&out, static_cast<uint32_t>(t.group.size()));
    Append<uint8_t>(&out, static_cast<uint8_t>(t.type));
    Append<uint8_t>(&out, static_cast<uint8_t>(t.layout));
    Append<uint8_t>(&out, static_cast<uint8_t>(t.shape.rank()));
    Append<uint8_t>(&out, 0);
    Append<uint32_t>(&out, t.splits);
    for (int i = 0; i < Shape::kMaxRank; ++i) Append<uint64_t>(&out, i < t.shape.rank() ? t.shape[i] : 0);
    Append<uint64_t>(&out, t.offset);
    Append<uint64_t>(&out, t.bytes);
    Append<uint64_t>(&out, t.digest);
    Append<uint64_t>(&out, 0);
  }
  for (const BlobRecord& b : blobs) {
    Append<uint32_t>(&out, static_cast<uint32_t>(b.name.size()));
    Append<uint32_t>(&out, 0);
    Append<uint64_t>(&out, b.offset);
    Append<uint64_t>(&out, b.bytes);
    Append<uint64_t>(&out, b.digest);
  }
  return out + strings;
}

std::string ModelFileWriter::State::Header(const std::string& table) const {
  std::string out(kMagic);
  Append<uint32_t>(&out, kModelFileVersion);
  Append<uint32_t>(&out, kByteOrder);
  Append<uint64_t>(&out, file_bytes);
  Append<uint64_t>(&out, kHeaderBytes);
  Append<uint64_t>(&out, table.size());
  Append<uint64_t>(&out, table_digest);
  Append<uint64_t>(&out, 0);
  Append<uint64_t>(&out, Xxh3(AsBytes(out)));
  return out;
}

namespace {

// Names, sizes and order of the records; the offsets come with Place.
Status MakeRecords(std::vector<TensorSpec> specs, std::vector<TensorRecord>* out,
                   std::map<std::string, std::vector<int32_t>>* sources) {
  if (specs.size() > kMaxTensors) return UsageError("too many tensors").Got(specs.size(), Str("at most ", kMaxTensors));
  std::set<std::string_view> names;
  for (const TensorSpec& s : specs) {
    Status named = CheckName(s.name);
    if (named.ok() && !s.group.empty()) named = CheckName(s.group);
    if (!named.ok()) return UsageError(named.message());
    if (!names.insert(s.name).second) return UsageError(Str("two tensors are named '", Printable(s.name), "'"));
  }
  uint64_t total = 0;
  for (TensorSpec& s : specs) {
    const auto splits = static_cast<uint32_t>(std::min<size_t>(s.split_sources.size(), UINT32_MAX));
    auto bytes = StoredBytes(s.type, s.layout, s.shape, splits);
    constexpr uint64_t kMost = uint64_t{1} << 60;
    if (!bytes.ok() || *bytes > kMost - total)
      return UsageError(
          Str("tensor '", Printable(s.name), "': ", bytes.ok() ? "the model is too large" : bytes.status().message()));
    total += *bytes;
    sources->emplace(s.name, std::move(s.split_sources));
    out->push_back({std::move(s.name), std::move(s.group), s.type, s.layout, s.shape, splits, 0, *bytes, 0});
  }
  // Classes in order; the groups in order of their first member.
  std::vector<std::string> groups;
  std::set<std::string> seen;
  for (const TensorRecord& t : *out)
    if (!t.group.empty() && seen.insert(t.group).second) groups.push_back(t.group);
  std::vector<TensorRecord> ordered;
  ordered.reserve(out->size());
  for (int wanted : {1, 2})
    for (TensorRecord& t : *out)
      if (t.group.empty() && ClassOf(t) == wanted) ordered.push_back(t);
  std::stable_sort(out->begin(), out->end(),
                   [](const TensorRecord& a, const TensorRecord& b) { return a.group < b.group; });
  for (const std::string& group : groups) {
    auto [first, last] =
        std::equal_range(out->begin(), out->end(), TensorRecord{.name = {}, .group = group},
                         [](const TensorRecord& a, const TensorRecord& b) { return a.group < b.group; });
    ordered.insert(ordered.end(), first, last);
  }
  *out = std::move(ordered);
  return {};
}

}  // namespace

Result<ModelFileWriter> ModelFileWriter::Create(const std::string& path, const Json& metadata,
                                                std::vector<TensorSpec> tensors, std::vector<BlobSpec> blobs) {
  std::string text = DumpJson(metadata);
  auto parsed = ParseJson(text, kMetadataLimits);  // within the limits of the reader
  Status valid = parsed.ok() ? CheckMetadata(*parsed) : parsed.status();
  if (!valid.ok()) return UsageError(Str("metadata: ", valid.message())).File(path);
  std::vector<TensorRecord> records;
  std::map<std::string, std::vector<int32_t>> sources;
  if (Status s = MakeRecords(std::move(tensors), &records, &sources); !s.ok()) return std::move(s).File(path);
  if (blobs.size() > kMaxBlobs) return UsageError("too many blobs").File(path);
  std::vector<BlobRecord> blob_records;
  std::set<std::string_view> blob_names;
  for (const BlobSpec& b : blobs) {
    if (Status s = CheckName(b.name); !s.ok() || !blob_names.insert(b.name).second)
      return UsageError(Str("blob '", Printable(b.name), "' has a bad name, or stands twice")).File(path);
    blob_records.push_back({b.name, 0, b.bytes.size(), Xxh3(AsBytes(b.bytes))});
  }

  // A dry state gives the table's size, the table's size the offsets, the offsets the file's size: reserved when the
  // file is created.
  uint64_t table_bytes =
      kTableHeadBytes + RoundUpTo(text.size(), 8) + kTensorBytes * records.size() + kBlobBytes * blob_records.size();
  for (const TensorRecord& t : records) table_bytes += t.name.size() + t.group.size();
  for (const BlobRecord& b : blob_records) table_bytes += b.name.size();
  if (table_bytes > kMaxTableBytes) return UsageError("names and metadata exceed the table of 64 MiB").File(path);
  Placement place(kHeaderBytes + table_bytes);
  for (BlobRecord& b : blob_records) b.offset = place.TakeBlob(b.bytes);
  for (TensorRecord& t : records) t.offset = place.TakeTensor(t);
  const uint64_t file_bytes = place.TrailerOffset() + kTrailerBytes;

  TERN_ASSIGN(FileWriter file, FileWriter::Create(path, file_bytes));
  auto state = std::make_unique<State>(std::move(file));
  state->path = path;
  state->metadata = std::move(text);
  state->tensors = std::move(records);
  for (const TensorRecord& t : state->tensors) state->split_sources.push_back(std::move(sources[t.name]));
  state->relative_error.assign(state->tensors.size(), 0);
  state->blobs = std::move(blob_records);
  state->file_bytes = file_bytes;
  // Zeros for now, so that an unfinished file never looks like a model.
  TERN_RETURN_IF_ERROR(state->file.Write(std::string(kHeaderBytes + table_bytes, '\0')));
  for (size_t i = 0; i < blobs.size(); ++i) {
    TERN_RETURN_IF_ERROR(state->PadUpTo(state->blobs[i].offset));
    TERN_RETURN_IF_ERROR(state->file.Write(blobs[i].bytes));
  }
  TERN_RETURN_IF_ERROR(state->EndIfComplete());
  return ModelFileWriter(std::move(state));
}

ModelFileWriter::ModelFileWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelFileWriter::ModelFileWriter(ModelFileWriter&&) noexcept = default;
ModelFileWriter& ModelFileWriter::operator=(ModelFileWriter&&) noexcept = default;
ModelFileWriter::~ModelFileWriter() = default;

std::span<const TensorRecord> ModelFileWriter::tensors() const {
  return state_->tensors;
}
uint64_t ModelFileWriter::file_bytes() const {
  return state_->file_bytes;
}
double ModelFileWriter::RelativeError(size_t index) const {
  return state_->relative_error[index];
}
uint64_t ModelFileWriter::digest() const {
  return state_->table_digest;
}

Status ModelFileWriter::State::PadUpTo(uint64_t offset) {
  static constexpr char kZeros[kPage] = {};
  while (file.size() < offset)
    TERN_RETURN_IF_ERROR(file.Write(kZeros, std::min<uint64_t>(kPage, offset - file.size())));
  return {};
}

Status ModelFileWriter::State::Begin(size_t index) {
  if (index != current || index >= tensors.size())
    return InternalError(Str("tensor ", index, " was written out of order; ", current, " is next")).File(path);
  if (bytes_done == 0 && rows_done == 0) return PadUpTo(tensors[index].offset);
  return {};
}

Status ModelFileWriter::State::Put(std::span<const uint8_t> bytes) {
  digest->Update(bytes);
  bytes_done += bytes.size();
  return file.Write(bytes.data(), bytes.size());
}

// Closes the current tensor when it has all its bytes, and goes on over tensors that have none.
Status ModelFileWriter::State::EndIfComplete() {
  while (current < tensors.size() && bytes_done == tensors[current].bytes) {
    tensors[current].digest = digest->Digest();
    digest.emplace();
    if (norm > 0) relative_error[current] = std::sqrt(error / norm);
    ++current;
    error = 0, norm = 0;
    rows_done = 0, bytes_done = 0, panel_rows = 0;
  }
  return {};
}

Status ModelFileWriter::State::PutRows(const TensorRecord& t, const float* rows, int64_t count) {
  constexpr int64_t kStep = 1 << 14;  // numbers at a time
  const int64_t numbers = count * RowElements(t.shape);
  packed.resize(static_cast<size_t>(std::min(kStep, numbers) * DTypeBytes(t.type)));
  bool fits = true;
  for (int64_t at = 0; at < numbers; at += kStep) {
    const int64_t n = std::min(kStep, numbers - at);
    Convert(rows + at, n, t.type, packed.data());
    fits &= t.type == DType::f32 || Fits(rows + at, n, t.type);
    TERN_RETURN_IF_ERROR(Put({packed.data(), static_cast<size_t>(n * DTypeBytes(t.type))}));
  }
  return fits ? Status() : TooLarge();
}

Status ModelFileWriter::State::PutPanel(const TensorRecord& t, const float* rows, int64_t count) {
  const int64_t k = t.shape[1];
  if (t.type == DType::i8) return PutPanelQ8(t, rows, count);
  packed.resize(static_cast<size_t>(PanelBytes(t.type, k)));
  PackPanel(t.type, rows, k, count, k, packed.data());
  TERN_RETURN_IF_ERROR(Put(packed));
  return t.type == DType::f32 || Fits(rows, count * k, t.type) ? Status() : TooLarge();
}

// One panel as a whole matrix of up to 16 rows, so that what will be read can be compared with what was given.
Status ModelFileWriter::State::PutPanelQ8(const TensorRecord& t, const float* rows, int64_t count) {
  const std::vector<int32_t>& sources = split_sources[current];
  const int64_t inputs = t.shape[1], splits = t.splits, k = inputs + splits, bytes = PanelBytes(DType::i8, k);
  split.resize(static_cast<size_t>(count * k));
  for (int64_t r = 0; r < count; ++r) SplitWeights(rows + r * inputs, inputs, sources.data(), splits, split.data() + r * k);
  packed.resize(static_cast<size_t>(*PackedBytes(DType::i8, 16, k, splits)));
  auto* scale = reinterpret_cast<float*>(packed.data() + bytes);
  auto* sum = reinterpret_cast<int32_t*>(scale + 16);
  PackPanelQ8(split.data(), k, count, k, packed.data(), scale, sum);
  std::copy(sources.begin(), sources.end(), sum + 16);
  const PackedMatrix panel_matrix{packed.data(), DType::i8, count, k, splits};
  unpacked.resize(static_cast<size_t>(inputs));
  for (int64_t r = 0; r < count; ++r) {
    UnpackRow(panel_matrix, r, unpacked.data());
    Compare(rows + r * inputs, inputs);
  }
  scales.insert(scales.end(), scale, scale + 16);
  column_sums.insert(column_sums.end(), sum, sum + 16);
  return Put({packed.data(), static_cast<size_t>(bytes)});
}

Status ModelFileWriter::State::PutRowsQ8(const TensorRecord& t, const float* rows, int64_t count) {
  const int64_t k = t.shape[1];
  packed.resize(static_cast<size_t>(4 + k));
  unpacked.resize(static_cast<size_t>(k));
  for (int64_t r = 0; r < count; ++r) {
    auto* q = reinterpret_cast<int8_t*>(packed.data() + 4);
    const float scale = QuantizeWeights(rows + r * k, k, q);
    std::memcpy(packed.data(), &scale, 4);
    for (int64_t c = 0; c < k; ++c) unpacked[static_cast<size_t>(c)] = scale * q[c];
    Compare(rows + r * k, k);
    TERN_RETURN_IF_ERROR(Put(packed));
  }
  return {};
}

// Adds the squares of a row and of its difference from `unpacked`.
void ModelFileWriter::State::Compare(const float* row, int64_t k) {
  for (int64_t c = 0; c < k; ++c) {
    const double given = row[c], difference = given - unpacked[static_cast<size_t>(c)];
    if (!std::isfinite(difference)) return;  // such a row is reported by itself
    error += difference * difference, norm += given * given;
  }
}

// What stands behind the panels of i8.
Status ModelFileWriter::State::PutTail() {
  std::string tail;
  for (float scale : scales) Append(&tail, scale);
  for (int32_t sum : column_sums) Append(&tail, sum);
  for (int32_t source : split_sources[current]) Append(&tail, source);
  scales.clear(), column_sums.clear();
  return Put(AsBytes(tail));
}

Status ModelFileWriter::State::PutPanels(const TensorRecord& t, const float* rows, int64_t count) {
  const int64_t n = t.shape[0], k = t.shape[1];
  for (int64_t done = 0; done < count;) {
    if (panel_rows == 0 && count - done >= 16) {
      TERN_RETURN_IF_ERROR(PutPanel(t, rows + done * k, 16));
      done += 16;
      if (t.type == DType::i8 && rows_done + done == n) TERN_RETURN_IF_ERROR(PutTail());
      continue;
    }
    panel.resize(static_cast<size_t>(16 * k));
    std::copy_n(rows + done * k, k, panel.begin() + panel_rows * k);
    ++done, ++panel_rows;
    if (panel_rows == 16 || rows_done + done == n) {
      TERN_RETURN_IF_ERROR(PutPanel(t, panel.data(), panel_rows));
      panel_rows = 0;
      if (t.type == DType::i8 && rows_done + done == n) TERN_RETURN_IF_ERROR(PutTail());
    }
  }
  return {};
}

Status ModelFileWriter::WriteRows(size_t index, const float* rows, int64_t count) {
  State& s = *state_;
  if (count == 0 || (index < s.tensors.size() && s.tensors[index].bytes == 0)) return {};
  TERN_RETURN_IF_ERROR(s.Begin(index));
  const TensorRecord& t = s.tensors[index];
  const bool quantised = t.type == DType::i8 && t.layout != Layout::kRows;
  if (t.type != DType::f32 && t.type != DType::f16 && t.type != DType::bf16 && !quantised)
    return InternalError(Str("rows of numbers were written to ", DTypeName(t.type))).File(s.path);
  if (count < 0 || count > RowCount(t.shape) - s.rows_done)
    return InternalError("too many rows were written").File(s.path);
  Status put = t.layout == Layout::kPanel16  ? s.PutPanels(t, rows, count)
               : t.layout == Layout::kRowsQ8 ? s.PutRowsQ8(t, rows, count)
                                             : s.PutRows(t, rows, count);
  if (!put.ok()) {
    if (put.code() == Code::kNumeric)
      return std::move(put)
          .Where(Str("tensor '", Printable(t.name), "'"))
          .Hint(Str("It exceeds the range of ", DTypeName(t.type), "; choose bf16 or f32"));
    return put;
  }
  s.rows_done += count;
  return s.EndIfComplete();
}

Status ModelFileWriter::WriteStored(size_t index, std::span<const uint8_t> bytes) {
  State& s = *state_;
  if (bytes.empty()) return {};
  TERN_RETURN_IF_ERROR(s.Begin(index));
  if (bytes.size() > s.tensors[index].bytes - s.bytes_done || s.rows_done > 0)
    return InternalError("too many bytes were written").File(s.path);
  TERN_RETURN_IF_ERROR(s.Put(bytes));
  return s.EndIfComplete();
}

Status ModelFileWriter::Finish(const CancelToken* cancel, const ProgressFn& progress) {
  State& s = *state_;
  if (s.current != s.tensors.size())
    return InternalError(Str("tensor '", Printable(s.tensors[s.current].name), "' was not written completely"))
        .File(s.path);
  TERN_RETURN_IF_ERROR(s.PadUpTo(s.file_bytes - kTrailerBytes));
  std::string trailer;
  Append<uint64_t>(&trailer, s.file_bytes);
  trailer += kTrailerMagic;
  TERN_RETURN_IF_ERROR(s.file.Write(trailer));
  const std::string table = s.Table();
  s.table_digest = Xxh3(AsBytes(table));
  const std::string start = s.Header(table) + table;
  TERN_RETURN_IF_ERROR(s.file.WriteAt(0, start.data(), start.size()));
  TERN_RETURN_IF_ERROR(s.file.Flush());

  auto written = ModelFile::Open(s.file.temporary_path());
  Status verified = written.ok() ? (*written)->Verify({cancel, progress, true}, nullptr) : written.status();
  if (verified.code() == Code::kCancelled) return verified;
  if (!verified.ok())
    return IoError(Str("the file does not read back as it was written: ", verified.what())).File(s.path);
  return s.file.Commit();
}

}  // namespace tern

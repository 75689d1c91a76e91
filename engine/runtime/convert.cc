#include "engine/runtime/convert.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "engine/base/checked.h"
#include "engine/runtime/calibrate.h"
#include "engine/runtime/weight_source.h"
#include "formats/sentence_folder.h"
#include "formats/tokenizer.h"
#include "models/encoder.h"
#include "models/registry.h"

namespace tern {
namespace {

constexpr int64_t kPieceNumbers = 2 << 20;       // f32 numbers read at a time: 8 MiB
constexpr int64_t kTransposedNumbers = 8 << 20;  // of ours, for which the whole foreign tensor is read once
constexpr uint64_t kReleaseBytes = 8 << 20;     // of source read before its pages go back

struct Target {
  DType type;  // i8: q8
  bool as_source;
};

std::string TypeName(DType type) {
  return type == DType::i8 ? "q8" : std::string(DTypeName(type));
}

Result<Target> ParseType(const std::string& name) {
  if (name.empty()) return Target{DType::f32, true};
  for (DType type : {DType::f32, DType::bf16, DType::f16, DType::i8})
    if (name == TypeName(type)) return Target{type, false};
  if (name == "q4")
    return UsageError(Str("--type ", name, " is reserved for a later release")).Hint("Choose f32, bf16, f16 or q8");
  return UsageError(Str("--type '", Printable(name, 32), "' is unknown")).Hint("Choose f32, bf16, f16 or q8");
}

bool Chosen(const WeightSpec& w) {
  return w.role != Role::kVector && w.role != Role::kRouter;
}  // follows --type

// The type of a weight in a q8 file. Eight bits for what most bytes and operations are: tables, matrices whose ops
// have an int8 form, and experts. What has few rows (heads, token types) is nothing to the file's size and all to the
// answer, and a router's choice turns on small differences: f32. The rest (tables of an adaptive softmax) keeps 16 bits.
DType TypeInQ8(const WeightSpec& w) {
  constexpr int64_t kFewRows = 32, kFewColumns = 16;
  if (w.role == Role::kRouter || w.shape.rank() < 2 || w.shape[-2] < kFewRows || w.shape[-1] < kFewColumns) return DType::f32;
  const bool matrices = w.shape.rank() == (w.role == Role::kExperts ? 3 : 2);
  return w.no_int8 || !matrices || 2 * w.shape[-1] > kMostQ8Columns ? DType::bf16 : DType::i8;
}

// One conversion, step by step in the order of Run().
class Conversion {
 public:
  Conversion(const ConvertOptions& options, const CancelToken* cancel, const ProgressFn& progress,
             ConvertReport* report)
      : options_(options), cancel_(cancel), progress_(progress), report_(*report) {}

  Status Run() {
    TERN_ASSIGN(target_, ParseType(options_.type));
    if (options_.output.empty()) return UsageError("no output was named").Hint("Say -o MODEL.tern");
    TERN_ASSIGN(source_, WeightSource::Open(options_.source));
    report_.container = source_->container();
    if (Status s = Describe(); !s.ok()) return std::move(s).File(options_.source);
    if (Status s = Plan(); !s.ok()) return std::move(s).File(options_.source);
    if (Status s = ChooseType(); !s.ok()) return std::move(s).File(options_.source);
    TERN_RETURN_IF_ERROR(ReadTokenizer());
    return Write();
  }

 private:
  Status Describe() {
    std::vector<ForeignTensor> foreign;
    for (const SourceTensor& t : source_->tensors()) foreign.push_back({t.name, t.shape, t.attribute});
    const Architecture* architecture = nullptr;
    if (const ModelFile* file = source_->model_file()) {
      architecture = FindArchitecture(file->architecture());
      if (!architecture)
        return Malformed(
            Str("the architecture '", Printable(file->architecture(), 64), "' is not known to this version"));
    } else {
      if (!source_->config().is_object() || source_->config().empty())
        return Malformed("there is no config.json beside the weights, and the weights describe no module")
            .Hint("Name the folder that holds both");
      TERN_ASSIGN(architecture, RecognizeArchitecture(source_->config()));
    }
    Json config = source_->config();
    if (!source_->model_file()) TERN_RETURN_IF_ERROR(AddSentenceSettings(source_->folder(), &config));
    TERN_ASSIGN(network_, architecture->parse(config, foreign));
    TERN_ASSIGN(manifest_, MakeManifest(*network_));
    if (source_->model_file()) {
      import_ = ImportByName(manifest_);
    } else {
      TERN_ASSIGN(import_, network_->ImportFrom(foreign));
    }
    report_.architecture = std::string(network_->architecture());
    return {};
  }

  Status Plan() {
    plan_ = PlanConversion(manifest_, import_, source_->tensors(), options_.allow_extra);
    report_.problems = plan_.problems;
    report_.unused = plan_.unused;
    TERN_RETURN_IF_ERROR(plan_.status());
    for (const std::string& name : plan_.unused)
      Log(options_.log, LogLevel::kDebug, Str("left out: ", Printable(name)));
    return {};
  }

  // The type that the source has for what --type decides, if it is one.
  std::set<DType> SourceTypes() const {
    std::set<DType> types;
    for (const ConvertPlan::Tensor& t : plan_.tensors)
      if (Chosen(manifest_[t.weight]))
        for (const ConvertPlan::Part& part : t.parts) types.insert(source_->tensors()[part.source].type);
    return types;
  }

  Status ChooseType() {
    std::set<DType> types = SourceTypes();
    if (types.contains(DType::i8)) {  // only a .tern file of ours holds such
      if (target_.as_source) target_.type = DType::i8;
      report_.type = TypeName(target_.type);
      if (target_.type == DType::i8) return {};
      return UsageError(Str("the source keeps q8: what rounding took away does not come back as ", report_.type))
          .Hint("Convert the original checkpoint instead");
    }
    const bool one_half = types.size() == 1 && (types.contains(DType::bf16) || types.contains(DType::f16));
    if (target_.as_source && one_half) target_.type = *types.begin();
    report_.type = TypeName(target_.type);
    if (source_->model_file() && one_half && target_.type != *types.begin() && target_.type != DType::i8)
      return UsageError(Str("the source keeps ", DTypeName(*types.begin()),
                            ": what rounding took away does not come back as ", report_.type))
          .Hint("Convert the original checkpoint instead");
    return {};
  }

  Status ReadTokenizer() {
    if (const ModelFile* file = source_->model_file(); file && options_.tokenizer.empty()) return KeepBlobs(*file);
    if (options_.tokenizer == "none") return {};
    const std::string path = options_.tokenizer.empty() ? source_->folder() : options_.tokenizer;
    if (path.empty() || (options_.tokenizer.empty() && !Tokenizer::Recognizes(path))) {
      Log(options_.log, LogLevel::kNote,
          "the source holds no tokenizer: verbs that take text will not work with this model (--tokenizer PATH adds "
          "one)");
      return {};
    }
    TERN_ASSIGN(auto tokenizer, Tokenizer::Open(path));
    // Bytes are what a folder without tokenizer files may mean: a guess, which a small vocabulary refutes.
    if (options_.tokenizer.empty() && tokenizer->kind() == "bytes" && tokenizer->vocab_size() > network_->vocab_size()) return {};
    if (tokenizer->vocab_size() > network_->vocab_size())
      return Malformed("the tokenizer has more pieces than the model has rows")
          .File(path)
          .Got(tokenizer->vocab_size(), Str("at most ", network_->vocab_size()))
          .Hint("Name another with --tokenizer, or none");
    tokenizer_ = {{"kind", tokenizer->kind()}, {"vocab_size", tokenizer->vocab_size()}};
    blobs_.push_back({"tokenizer", tokenizer->Serialize()});
    report_.tokenizer = tokenizer->kind();
    return {};
  }

  Status KeepBlobs(const ModelFile& file) {
    for (const BlobRecord& b : file.blobs()) {
      TERN_ASSIGN(auto bytes, file.Blob(b.name));
      blobs_.push_back({b.name, std::string(bytes.begin(), bytes.end())});
    }
    if (file.metadata().contains("tokenizer")) tokenizer_ = file.metadata()["tokenizer"];
    if (tokenizer_.contains("kind") && tokenizer_["kind"].is_string())
      report_.tokenizer = tokenizer_["kind"].get<std::string>();
    return {};
  }

  // What the file says about itself. Nothing of this machine and no date: the same input gives the same bytes.
  Json Metadata() const {
    Json config = network_->config();
    config.erase("architecture");
    Json out = {{"architecture", network_->architecture()}, {"config", std::move(config)}};
    if (!tokenizer_.empty()) out["tokenizer"] = tokenizer_;
    const ModelFile* file = source_->model_file();
    Json provenance = Json::object();
    if (file) {
      if (file->metadata().contains("provenance")) provenance = file->metadata()["provenance"];
    } else {
      provenance["container"] = source_->container();
      const Json& foreign = source_->config();
      for (const char* key : {"model_type", "architectures", "_name_or_path", "transformers_version"}) {
        auto it = foreign.find(key);
        bool plain = it != foreign.end() && (it->is_string() || it->is_array()) && DumpJson(*it).size() <= 512;
        if (plain && !(it->is_string() && it->get<std::string>().empty())) provenance[key] = *it;
      }
    }
    out["provenance"] = std::move(provenance);
    if (!options_.license.empty()) out["license"] = options_.license;
    if (file)
      for (const auto& [key, value] : file->metadata().items())
        if (!out.contains(key)) out[key] = value;
    return out;
  }

  // Whether the source is a file whose tensors are taken byte for byte.
  bool Copies() const {
    const ModelFile* file = source_->model_file();
    return file && target_.type == DType::i8 && SourceTypes().contains(DType::i8);
  }

  // How a tensor of ours is stored: as the source has it, or by the rule, with the columns split that need it.
  void Store(TensorSpec* spec) const {
    if (Copies()) {
      const ModelFile& file = *source_->model_file();
      const TensorRecord& t = *file.Find(spec->name);
      spec->type = t.type, spec->layout = t.layout;
      const PackedMatrix m{file.data(t), t.type, t.shape[0], t.shape[1] + t.splits, t.splits};
      if (t.splits > 0) spec->split_sources.assign(m.split_sources(), m.split_sources() + t.splits);
      return;
    }
    auto found = columns_.of.find(spec->name);
    if (found != columns_.of.end() && spec->type == DType::i8 && spec->layout == Layout::kPanel16)
      spec->split_sources = ChooseSplits(found->second);
  }

  // Measures the network in f32 before its weights become eight bits. A foreign checkpoint is converted first, into a
  // file beside the output that is gone as soon as it is open.
  Status Calibrate() {
    std::string path = options_.source;
    if (!source_->model_file()) {
      path = HiddenBeside(options_.output, "f32");
      ConvertOptions plain = options_;
      plain.type = "f32", plain.output = path, plain.log = nullptr;
      ConvertReport unused;
      TERN_RETURN_IF_ERROR(Conversion(plain, cancel_, {}, &unused).Run());
    }
    auto model = Model::Open(path);
    if (!source_->model_file()) std::remove(path.c_str());
    if (!model.ok()) return model.status();
    TERN_ASSIGN(columns_, MeasureColumns(*model, cancel_));
    return {};
  }

  Status Write() {
    if (target_.type == DType::i8 && !Copies() && dynamic_cast<const EncoderNetwork*>(network_.get()))
      TERN_RETURN_IF_ERROR(Calibrate());
    std::vector<TensorSpec> specs;
    std::map<std::string, Piece> pieces;
    for (const ConvertPlan::Tensor& t : plan_.tensors) {
      const WeightSpec& weight = manifest_[t.weight];
      std::vector<TensorSpec> stored = StoredAs(weight, target_.type);
      for (size_t e = 0; e < stored.size(); ++e) {
        pieces[stored[e].name] = {&t,
                                  stored.size() > 1 || weight.role == Role::kExperts ? static_cast<int64_t>(e) : -1};
        Store(&stored[e]);
        specs.push_back(std::move(stored[e]));
      }
      report_.parameters += weight.shape.elements();
    }
    TERN_ASSIGN(auto writer, ModelFileWriter::Create(options_.output, Metadata(), std::move(specs), std::move(blobs_)));
    report_.tensors = static_cast<int64_t>(writer.tensors().size());
    report_.file_bytes = writer.file_bytes();
    for (size_t i = 0; i < writer.tensors().size(); ++i)
      TERN_RETURN_IF_ERROR(WriteTensor(writer, i, pieces.at(writer.tensors()[i].name)));
    ReportErrors(writer);
    TERN_RETURN_IF_ERROR(CompareTwins());
    TERN_RETURN_IF_ERROR(source_->CheckUnchanged());
    for (const std::string& name : report_.non_finite)
      Log(options_.log, LogLevel::kWarning, Str("tensor '", Printable(name), "' holds NaN or infinity"));
    ProgressFn verifying;
    if (progress_) verifying = [this](uint64_t done, uint64_t total) { progress_(total + done, 2 * total); };
    TERN_RETURN_IF_ERROR(writer.Finish(cancel_, verifying));
    report_.digest = writer.digest();
    return {};
  }

  void ReportErrors(const ModelFileWriter& writer) {
    for (size_t i = 0; i < writer.tensors().size(); ++i)
      if (writer.RelativeError(i) > 0) report_.errors.push_back({writer.tensors()[i].name, writer.RelativeError(i)});
    std::stable_sort(report_.errors.begin(), report_.errors.end(),
                     [](const auto& a, const auto& b) { return a.relative > b.relative; });
  }

  // A checkpoint that was trained untied, with a config that says tied, would lose half of its table silently.
  Status CompareTwins() {
    std::vector<float> other;
    for (auto [first, second] : plan_.twins) {
      const SourceTensor &a = source_->tensors()[first], &b = source_->tensors()[second];
      const int64_t rows = a.shape.rank() == 0 ? 1 : a.shape[0], width = rows == 0 ? 0 : a.shape.elements() / rows;
      const int64_t step = std::max<int64_t>(1, kPieceNumbers / std::max<int64_t>(width, 1));
      bool equal = IsFloat(b.type);
      for (int64_t row = 0; equal && row < rows && width > 0; row += step) {
        if (cancel_ && cancel_->cancelled()) return Cancelled();
        const int64_t count = std::min(step, rows - row);
        buffer_.resize(static_cast<size_t>(count * width));
        other.resize(buffer_.size());
        TERN_RETURN_IF_ERROR(Read(a, row, count, count * width, buffer_.data()));
        TERN_RETURN_IF_ERROR(Read(b, row, count, count * width, other.data()));
        equal = std::memcmp(buffer_.data(), other.data(), buffer_.size() * sizeof(float)) == 0;
      }
      if (!equal)
        Log(options_.log, LogLevel::kWarning,
            Str("'", Printable(a.name), "' and '", Printable(b.name),
                "' are one tensor in this model, but differ in the source; the first was taken"));
    }
    return {};
  }

  Status Cancelled() const { return Status(Code::kCancelled, "the conversion was cancelled").File(options_.output); }

  struct Piece {
    const ConvertPlan::Tensor* tensor = nullptr;
    int64_t expert = -1;
  };

  Status WriteTensor(ModelFileWriter& writer, size_t index, const Piece& piece) {
    const TensorRecord& record = writer.tensors()[index];
    if (Copies()) {
      const ModelFile& file = *source_->model_file();
      return writer.WriteStored(index, {static_cast<const uint8_t*>(file.data(*file.Find(record.name))), record.bytes});
    }
    const int64_t rows = record.shape.rank() == 0 ? 1 : record.shape[0];
    const int64_t width = rows == 0 ? 0 : record.shape.elements() / rows;
    const bool transposed =
        std::any_of(piece.tensor->parts.begin(), piece.tensor->parts.end(), [](const auto& p) { return p.transposed; });
    const int64_t numbers = transposed ? kTransposedNumbers : kPieceNumbers;
    const int64_t step =
        std::clamp<int64_t>(RoundUp(numbers / std::max<int64_t>(width, 1), 16), 16, std::max<int64_t>(rows, 16));
    bool finite = true;
    for (int64_t row = 0; row < rows && width > 0; row += step) {
      if (cancel_ && cancel_->cancelled()) return Cancelled();
      const int64_t count = std::min(step, rows - row);
      buffer_.resize(static_cast<size_t>(count * width));
      TERN_RETURN_IF_ERROR(ReadRows(piece, row, count, width));
      finite = finite && std::all_of(buffer_.begin(), buffer_.end(), [](float v) { return std::isfinite(v); });
      Status written = writer.WriteRows(index, buffer_.data(), count);
      if (!written.ok()) return written.code() == Code::kNumeric ? std::move(written).File(options_.source) : written;
      Progress(record, row + count, rows);
    }
    if (!finite) report_.non_finite.push_back(record.name);
    return {};
  }

  void Progress(const TensorRecord& record, int64_t rows_done, int64_t rows) {
    const uint64_t done = record.bytes / static_cast<uint64_t>(rows) * static_cast<uint64_t>(rows_done);
    if (progress_) progress_(record.offset + done, 2 * report_.file_bytes);
  }

  // Rows [row, row + count) of one stored tensor into buffer_.
  Status ReadRows(const Piece& piece, int64_t row, int64_t count, int64_t width) {
    if (piece.tensor->parts.empty()) {
      const int64_t base = std::max<int64_t>(piece.expert, 0) * manifest_[piece.tensor->weight].shape[1] * width;
      std::copy_n(piece.tensor->values.begin() + base + row * width, count * width, buffer_.begin());
      return {};
    }
    if (piece.expert >= 0) return ReadExpert(piece, row, count, width);
    int64_t begin = 0;  // of the part, in rows of ours
    for (const ConvertPlan::Part& part : piece.tensor->parts) {
      const int64_t first = std::max(row, begin), last = std::min(row + count, begin + part.rows);
      float* out = buffer_.data() + (first - row) * width;
      if (first < last) TERN_RETURN_IF_ERROR(ReadPart(part, part.first_row + first - begin, last - first, width, out));
      begin += part.rows;
    }
    return {};
  }

  // A part holds one expert [out, in], or several [E, out, in], of which one is read whole and the rows asked for are
  // cut out.
  Status ReadExpert(const Piece& piece, int64_t row, int64_t count, int64_t width) {
    int64_t expert = piece.expert;
    for (const ConvertPlan::Part& part : piece.tensor->parts) {
      if (expert >= part.rows) {
        expert -= part.rows;
        continue;
      }
      const SourceTensor& t = source_->tensors()[part.source];
      if (t.shape.rank() == 2) return ReadPart(part, row, count, width, buffer_.data());
      const int64_t numbers = manifest_[piece.tensor->weight].shape[1] * width;
      scratch_.resize(static_cast<size_t>(numbers));
      TERN_RETURN_IF_ERROR(Read(t, part.first_row + expert, 1, numbers, scratch_.data()));
      std::copy_n(scratch_.begin() + row * width, count * width, buffer_.begin());
      return {};
    }
    return InternalError("an expert has no part");
  }

  Status ReadPart(const ConvertPlan::Part& part, int64_t first, int64_t count, int64_t width, float* out) {
    const SourceTensor& t = source_->tensors()[part.source];
    if (part.flat) return Read(t, 0, t.shape.rank() == 0 ? 1 : t.shape[0], count * width, out);
    if (!part.transposed) return Read(t, first, count, count * width, out);
    // Foreign [in, out]: our rows are its columns.
    const int64_t in = t.shape[0], columns = t.shape[1];
    const int64_t step = std::max<int64_t>(1, kPieceNumbers / std::max<int64_t>(columns, 1));
    for (int64_t i = 0; i < in; i += step) {
      const int64_t n = std::min(step, in - i);
      scratch_.resize(static_cast<size_t>(n * columns));
      TERN_RETURN_IF_ERROR(Read(t, i, n, n * columns, scratch_.data()));
      for (int64_t r = 0; r < count; ++r)
        for (int64_t j = 0; j < n; ++j) out[r * width + i + j] = scratch_[static_cast<size_t>(j * columns + first + r)];
    }
    return {};
  }

  Status Read(const SourceTensor& t, int64_t first, int64_t rows, int64_t numbers, float* out) {
    TERN_RETURN_IF_ERROR(source_->ReadF32(t, first, rows, out));
    read_bytes_ += static_cast<uint64_t>(numbers * DTypeBytes(t.type));
    if (read_bytes_ >= kReleaseBytes) {
      source_->ReleasePages();
      read_bytes_ = 0;
    }
    return {};
  }

  const ConvertOptions& options_;
  const CancelToken* cancel_;
  const ProgressFn& progress_;
  ConvertReport& report_;
  Target target_{DType::f32, true};
  std::unique_ptr<WeightSource> source_;
  std::shared_ptr<const Network> network_;
  std::vector<WeightSpec> manifest_;
  Import import_;
  ConvertPlan plan_;
  ColumnMaxima columns_;
  Json tokenizer_ = Json::object();
  std::vector<BlobSpec> blobs_;
  std::vector<float> buffer_, scratch_;
  uint64_t read_bytes_ = 0;
};

}  // namespace

std::vector<TensorSpec> StoredAs(const WeightSpec& weight, DType type) {
  if (weight.role == Role::kVector) return {{weight.name, "", DType::f32, Layout::kRows, weight.shape}};
  if (type == DType::i8) type = TypeInQ8(weight);
  if (weight.role == Role::kExperts && weight.shape.rank() == 3) {
    std::vector<TensorSpec> out;
    const size_t dot = weight.name.rfind('.');
    const std::string scope = dot == std::string::npos ? "experts" : weight.name.substr(0, dot);
    for (int64_t e = 0; e < weight.shape[0]; ++e)
      out.push_back(
          {Str(weight.name, ".", e), Str(scope, ".", e), type, Layout::kPanel16, {weight.shape[1], weight.shape[2]}});
    return out;
  }
  if (weight.role == Role::kRouter) type = DType::f32;
  const bool panels = weight.multiplied && weight.shape.rank() == 2;
  const Layout rows = type == DType::i8 ? Layout::kRowsQ8 : Layout::kRows;
  return {{weight.name, "", type, panels ? Layout::kPanel16 : rows, weight.shape}};
}

Status Convert(const ConvertOptions& options, const CancelToken* cancel, const ProgressFn& progress,
               ConvertReport* report) {
  ConvertReport own;
  return Conversion(options, cancel, progress, report ? report : &own).Run();
}

}  // namespace tern

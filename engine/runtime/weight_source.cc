#include "engine/runtime/weight_source.h"

#include <cstring>

#include "engine/base/checked.h"
#include "engine/kernels/packed.h"
#include "formats/checkpoint.h"
#include "formats/file_kind.h"
#include "formats/model_file.h"

namespace tern {
namespace {

class ForeignSource : public WeightSource {
 public:
  explicit ForeignSource(std::unique_ptr<Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {
    for (const std::string& name : checkpoint_->names()) {
      const CheckpointTensor* t = checkpoint_->Find(name);
      tensors_.push_back({name, t->type, t->shape});
    }
    for (const std::string& name : checkpoint_->attribute_names()) {
      const CheckpointTensor* t = checkpoint_->Find(name);
      tensors_.push_back({name, t->type, t->shape, false, true});
    }
  }
  const Json& config() const override {
    return checkpoint_->config().is_object() ? checkpoint_->config() : checkpoint_->attributes();
  }
  std::string container() const override { return std::string(checkpoint_->container()); }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  std::string folder() const override { return checkpoint_->folder(); }
  Status ReadF32(const SourceTensor& t, int64_t first, int64_t rows, float* out) const override {
    return checkpoint_->ReadF32(t.name, first, rows, out);
  }
  void ReleasePages() const override { checkpoint_->ReleasePages(); }
  Status CheckUnchanged() const override { return checkpoint_->CheckUnchanged(); }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<SourceTensor> tensors_;
};

class OwnSource : public WeightSource {
 public:
  explicit OwnSource(std::shared_ptr<const ModelFile> file) : file_(std::move(file)), config_(file_->config()) {
    config_["architecture"] = file_->architecture();
    for (const TensorRecord& t : file_->tensors()) tensors_.push_back({t.name, t.type, t.shape, t.type == DType::i8 && t.layout != Layout::kRows});
  }
  const Json& config() const override { return config_; }
  std::string container() const override { return "tern"; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  const ModelFile* model_file() const override { return file_.get(); }
  std::string folder() const override { return ""; }

  Status ReadF32(const SourceTensor& source, int64_t first, int64_t rows, float* out) const override {
    const TensorRecord* t = file_->Find(source.name);
    if (t->layout == Layout::kPanel16) {
      PackedMatrix matrix{file_->data(*t), t->type, t->shape[0], t->shape[1] + t->splits, t->splits};
      for (int64_t r = 0; r < rows; ++r) UnpackRow(matrix, first + r, out + r * t->shape[1]);
      return {};
    }
    const int64_t width = t->shape.rank() < 2 ? 1 : t->shape.elements() / std::max<int64_t>(t->shape[0], 1);
    const auto* bytes = static_cast<const uint8_t*>(file_->data(*t)) + first * width * DTypeBytes(t->type);
    for (int64_t i = 0; i < rows * width; ++i) {
      uint16_t half;
      std::memcpy(&half, bytes + i * 2, 2);
      if (t->type == DType::f32)
        std::memcpy(out + i, bytes + i * 4, 4);
      else if (t->type == DType::bf16)
        out[i] = Bf16ToF32(half);
      else if (t->type == DType::f16)
        out[i] = F16ToF32(half);
      else
        return InternalError(Str("rows of ", DTypeName(t->type), " were asked for as numbers"));
    }
    return {};
  }
  void ReleasePages() const override {
    if (const MappedFile* mapped = file_->mapped())
      mapped->Advise(MappedFile::Advice::kDontNeed, 0, mapped->bytes().size());
  }
  Status CheckUnchanged() const override { return file_->mapped() ? file_->mapped()->CheckUnchanged() : Status(); }

 private:
  std::shared_ptr<const ModelFile> file_;
  Json config_;
  std::vector<SourceTensor> tensors_;
};

Result<bool> IsOurs(const std::string& path) {
  if (IsFolder(path)) return false;
  TERN_ASSIGN(auto mapped, MappedFile::Open(path));
  return SniffFileKind(mapped->bytes()) == FileKind::kTern;
}

}  // namespace

Result<std::unique_ptr<WeightSource>> WeightSource::Open(const std::string& path) {
  TERN_ASSIGN(bool ours, IsOurs(path));
  if (ours) {
    TERN_ASSIGN(auto file, ModelFile::Open(path));
    ModelFile::VerifyOptions options;
    options.release_pages = true;
    TERN_RETURN_IF_ERROR(file->Verify(options, nullptr));  // damage must not be copied under fresh digests
    return std::unique_ptr<WeightSource>(std::make_unique<OwnSource>(std::move(file)));
  }
  TERN_ASSIGN(auto checkpoint, Checkpoint::Open(path));
  return std::unique_ptr<WeightSource>(std::make_unique<ForeignSource>(std::move(checkpoint)));
}

}  // namespace tern

#include "engine/runtime/model.h"

#include <unordered_set>

namespace tern {

Result<std::shared_ptr<const Model>> Model::Open(const std::string& path, const ModelOptions& options) {
  std::shared_ptr<Model> m(new Model());
  TERN_ASSIGN(m->kernels_, ChooseKernels(options.target));
  m->attention_ = AttentionFor(m->kernels_->target);
  if (!m->attention_) return InternalError(Str("no attention kernels for ", m->kernels_->target));
  ModelFile::OpenOptions open;
  open.verify = options.verify;
  TERN_ASSIGN(m->file_, ModelFile::Open(path, open));

  const Architecture* architecture = FindArchitecture(m->file_->architecture());
  if (!architecture)
    return Malformed(Str("the architecture '", Printable(m->file_->architecture(), 64), "' is not known to this version")).File(path).Hint("A newer tern may read it");
  Json config = m->file_->config();
  config["architecture"] = architecture->name;
  auto network = architecture->parse(config, {});
  if (!network.ok()) return Status(network.status()).File(path);
  m->network_ = std::move(network).value();
  for (const auto& [key, value] : options.settings) {
    TERN_ASSIGN(m->network_, m->network_->WithSetting(key, value));
  }

  if (Status s = m->Bind(); !s.ok()) return std::move(s).File(path);

  for (const BlobRecord& blob : m->file_->blobs()) {
    if (blob.name != "tokenizer") continue;
    TERN_ASSIGN(auto bytes, m->file_->Blob("tokenizer"));
    auto tokenizer = Tokenizer::Deserialize(bytes);
    if (!tokenizer.ok()) return Status(tokenizer.status()).Where("tokenizer").File(path);
    m->tokenizer_ = std::move(tokenizer).value();
    if (m->tokenizer_->vocab_size() > m->network_->vocab_size())
      Log(options.log, LogLevel::kWarning, Str("the tokenizer has ", m->tokenizer_->vocab_size(), " ids, the model ", m->network_->vocab_size()));
  }
  return std::shared_ptr<const Model>(std::move(m));
}

// Every tensor the architecture asks for must be there in the right shape and layout, and no other.
Status Model::Bind() {
  TERN_ASSIGN(std::vector<WeightSpec> manifest, MakeManifest(*network_));
  std::unordered_set<std::string_view> wanted;
  for (const WeightSpec& w : manifest) {
    wanted.insert(w.name);
    const TensorRecord* r = file_->Find(w.name);
    if (!r) return Malformed("a tensor of this architecture is missing").Where(Str("tensor '", w.name, "'")).Hint("Convert the model again");
    if (!(r->shape == w.shape)) return Malformed("a tensor has the wrong shape").Where(Str("tensor '", w.name, "'")).Got(r->shape, w.shape);
    bool panel = r->layout == Layout::kPanel16;
    if (w.multiplied != panel) return Malformed("a tensor has the wrong layout").Where(Str("tensor '", w.name, "'")).Got(LayoutName(r->layout), w.multiplied ? "panel16" : "rows");
    bool good_type = r->type == DType::f32 || (w.role != Role::kVector && (r->type == DType::f16 || r->type == DType::bf16));
    if (!good_type) return Malformed("a tensor has a type it cannot have").Where(Str("tensor '", w.name, "'")).Got(DTypeName(r->type), w.role == Role::kVector ? "f32" : "f32, f16 or bf16");
    weight_bytes_ += static_cast<int64_t>(r->bytes);
  }
  for (const TensorRecord& r : file_->tensors())
    if (!wanted.contains(r.name)) return Malformed("a tensor that this architecture does not have").Where(Str("tensor '", Printable(r.name), "'"));
  return {};
}

Result<const Tokenizer*> Model::NeedTokenizer() const {
  if (!tokenizer_)
    return Malformed("the model has no tokenizer, so it cannot take text").File(file_->path()).Hint("Convert it again from a folder that holds its tokenizer files");
  return tokenizer_.get();
}

BoundWeight Model::Find(const std::string& name) const {
  const TensorRecord* r = file_->Find(name);
  return r ? BoundWeight{r, file_->data(*r)} : BoundWeight{};
}

}  // namespace tern

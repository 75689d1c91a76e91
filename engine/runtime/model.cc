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
    if (!tokenizer.ok()) return Status(tokenizer.status().code(), Str("the tokenizer in the file cannot be read: ", tokenizer.status().message())).File(path);
    m->tokenizer_ = std::move(tokenizer).value();
    if (m->tokenizer_->vocab_size() > m->network_->vocab_size())
      Log(options.log, LogLevel::kWarning, Str("the tokenizer has ", m->tokenizer_->vocab_size(), " ids, the model ", m->network_->vocab_size()));
  }
  return std::shared_ptr<const Model>(std::move(m));
}

Result<std::shared_ptr<const Model>> Model::With(std::string_view key, std::string_view value) const {
  std::shared_ptr<Model> m(new Model());
  TERN_ASSIGN(m->network_, network_->WithSetting(key, value));
  m->file_ = file_, m->tokenizer_ = tokenizer_, m->kernels_ = kernels_, m->attention_ = attention_, m->weight_bytes_ = weight_bytes_;
  return std::shared_ptr<const Model>(std::move(m));
}

namespace {

// Whether the ops that read a weight can read it as it is stored.
Status CheckStorage(const WeightSpec& w, const TensorRecord& r, const void* data) {
  const bool q8 = r.type == DType::i8;
  const Layout expected = w.multiplied ? Layout::kPanel16 : q8 && w.role != Role::kVector ? Layout::kRowsQ8 : Layout::kRows;
  if (r.layout != expected) return Malformed("a tensor has the wrong layout").Got(LayoutName(r.layout), LayoutName(expected));
  const bool half = r.type == DType::f16 || r.type == DType::bf16, vector = w.role == Role::kVector;
  if (r.type != DType::f32 && (vector || !(half || (q8 && !w.no_int8))))
    return Malformed("a tensor has a type it cannot have").Got(DTypeName(r.type), vector ? "f32" : w.no_int8 ? "f32, f16 or bf16" : "f32, f16, bf16 or i8");
  if (!q8 || !w.multiplied) return {};
  if (r.shape[1] + r.splits > kMostQ8Columns)
    return Malformed("a tensor has more columns than eight bits can sum").Got(r.shape[1] + r.splits, Str("at most ", kMostQ8Columns));
  // Indices: the only data of a tensor that must be right before use.
  if (const char* wrong = CheckSplitSources({data, r.type, r.shape[0], r.shape[1] + r.splits, r.splits})) return Malformed(wrong);
  return {};
}

}  // namespace

// Every tensor the architecture asks for must be there in the right shape and layout, and no other.
Status Model::Bind() {
  TERN_ASSIGN(std::vector<WeightSpec> manifest, MakeManifest(*network_));
  std::unordered_set<std::string_view> wanted;
  for (const WeightSpec& w : manifest) {
    wanted.insert(w.name);
    const TensorRecord* r = file_->Find(w.name);
    if (!r) return Malformed("a tensor of this architecture is missing").Where(Str("tensor '", w.name, "'")).Hint("Convert the model again");
    if (!(r->shape == w.shape)) return Malformed("a tensor has the wrong shape").Where(Str("tensor '", w.name, "'")).Got(r->shape, w.shape);
    if (Status fits = CheckStorage(w, *r, file_->data(*r)); !fits.ok()) return std::move(fits).Where(Str("tensor '", w.name, "'"));
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

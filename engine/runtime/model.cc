#include "engine/runtime/model.h"

#include <algorithm>
#include <unordered_set>

#include "engine/runtime/convert.h"

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
  TERN_RETURN_IF_ERROR(m->AddExperts(options));

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
  const bool half = r.type == DType::f16 || r.type == DType::bf16, vector = w.role == Role::kVector || w.role == Role::kRouter;
  if (r.type != DType::f32 && (vector || !(half || (q8 && !w.no_int8))))
    return Malformed("a tensor has a type it cannot have").Got(DTypeName(r.type), vector ? "f32" : w.no_int8 ? "f32, f16 or bf16" : "f32, f16, bf16 or i8");
  if (!q8 || !w.multiplied) return {};
  if (w.role == Role::kExperts && r.splits > 0) return Malformed("the columns of an expert are split").Got(r.splits, 0).Hint("Convert the model again");
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
    for (const TensorSpec& piece : StoredAs(w, DType::f32)) {
      const TensorRecord* r = file_->Find(piece.name);
      if (!r) return Malformed("a tensor of this architecture is missing").Where(Str("tensor '", piece.name, "'")).Hint("Convert the model again");
      wanted.insert(r->name);
      if (!(r->shape == piece.shape)) return Malformed("a tensor has the wrong shape").Where(Str("tensor '", r->name, "'")).Got(r->shape, piece.shape);
      if (Status fits = CheckStorage(w, *r, file_->data(*r)); !fits.ok()) return std::move(fits).Where(Str("tensor '", r->name, "'"));
      if (w.role == Role::kExperts) {
        std::vector<BoundWeight>& experts = experts_[w.name];
        experts.push_back({r, file_->data(*r)});
        if (r->type != experts[0].record->type) return Malformed("the experts of a layer have different types").Where(Str("tensor '", r->name, "'")).Got(DTypeName(r->type), DTypeName(experts[0].record->type));
        if (r->group != piece.group) return Malformed("an expert lies apart from its group").Where(Str("tensor '", r->name, "'")).Got(Str("'", Printable(r->group), "'"), Str("'", piece.group, "'"));
        expert_bytes_ += static_cast<int64_t>(r->bytes);
      }
      weight_bytes_ += static_cast<int64_t>(r->bytes);
    }
  }
  for (const TensorRecord& r : file_->tensors())
    if (!wanted.contains(r.name)) return Malformed("a tensor that this architecture does not have").Where(Str("tensor '", Printable(r.name), "'"));
  return {};
}

uint64_t Model::DenseBytes() const {
  uint64_t end = file_->file_bytes();
  for (const TensorRecord& r : file_->tensors())
    if (!r.group.empty()) end = std::min(end, r.offset);
  return end;
}

// The matrices of one scope ("decoder.layers.1.experts": wi and wo) are one layer of experts, in the order of the manifest.
Status Model::AddExperts(const ModelOptions& options) {
  if (experts_.empty()) {
    if (options.expert_memory > 0 || options.prefetch) return UsageError("the model has no experts: --expert-memory and --prefetch are for mixtures of experts").File(file_->path());
    return {};
  }
  pager_ = std::make_unique<ExpertPager>(file_, ExpertPager::Options{options.expert_memory, options.prefetch});
  TERN_ASSIGN(std::vector<WeightSpec> manifest, MakeManifest(*network_));
  std::unordered_map<std::string, int32_t> layers;
  for (const WeightSpec& w : manifest) {
    if (w.role != Role::kExperts) continue;
    const std::string scope = w.name.substr(0, w.name.rfind('.'));
    std::vector<BoundWeight>& experts = experts_[w.name];
    if (!layers.contains(scope)) {
      std::vector<std::string> groups;
      for (const BoundWeight& e : experts) groups.push_back(e.record->group);
      TERN_ASSIGN(layers[scope], pager_->AddLayer(w.name.substr(0, w.name.find('.')), groups));
    }
    for (BoundWeight& e : experts) e.layer = layers[scope];
  }
  // All else is needed soon, and is asked for exactly: a page fault there would read around itself, into the first experts.
  if (const MappedFile* mapped = file_->mapped()) {
    mapped->Advise(MappedFile::Advice::kRandom, 0, mapped->bytes().size());
    mapped->Advise(MappedFile::Advice::kWillNeed, 0, DenseBytes());
  }
  return {};
}

Result<const Tokenizer*> Model::NeedTokenizer() const {
  if (!tokenizer_)
    return Malformed("the model has no tokenizer, so it cannot take text").File(file_->path()).Hint("Convert it again from a folder that holds its tokenizer files");
  return tokenizer_.get();
}

std::span<const BoundWeight> Model::Experts(const std::string& name) const {
  auto it = experts_.find(name);
  return it == experts_.end() ? std::span<const BoundWeight>{} : std::span<const BoundWeight>(it->second);
}

BoundWeight Model::Find(const std::string& name) const {
  const TensorRecord* r = file_->Find(name);
  return r ? BoundWeight{r, file_->data(*r)} : BoundWeight{};
}

}  // namespace tern

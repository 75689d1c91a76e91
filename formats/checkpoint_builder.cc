#include "formats/checkpoint_builder.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "formats/file_kind.h"
#include "formats/foreign_kind.h"
#include "formats/safetensors.h"
#include "formats/tensor_name.h"
#include "formats/torch_legacy.h"
#include "formats/torch_zip.h"
#include "formats/zip.h"

namespace tern {
namespace {

constexpr std::string_view kIndexSuffix = ".index.json";

// "'a', 'b' and 3 more"
std::string List(const std::vector<std::string>& names) {
  constexpr size_t kShown = 40;
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) out += Str(i ? ", '" : "'", Printable(names[i], 80), "'");
  if (names.size() > kShown) out += Str(" and ", names.size() - kShown, " more");
  return out;
}

bool LooksLikeJson(std::span<const uint8_t> bytes) {
  for (uint8_t b : bytes) {
    if (b == '{') return true;
    if (b != ' ' && b != '\n' && b != '\r' && b != '\t') return false;
  }
  return false;
}

std::string FolderOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// The one weight file of a folder that has none of the usual names. Optimizer states, vocabularies and the like are no
// weights.
Result<std::string> OnlyWeightFile(const std::string& folder) {
  static const std::set<std::string> kOther{"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt",
                                            "scheduler.bin",     "scaler.pt",    "rng_state.pth", "vocab.bin",
                                            "corpus.bin",        "cache.pt"};
  static const std::set<std::string> kForeign{".h5", ".msgpack", ".gguf", ".ggml", ".onnx", ".index"};
  std::vector<std::string> found, foreign;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string(), extension = it->path().extension().string();
    if (kForeign.count(extension)) foreign.push_back(name);
    if (kOther.count(name) || name.starts_with('.')) continue;
    if (extension == ".safetensors" || extension == ".bin" || extension == ".pt" || extension == ".pth" ||
        name.ends_with(kIndexSuffix))
      found.push_back(name);
  }
  if (error) return IoError(Str("cannot list the folder: ", error.message())).File(folder);
  std::sort(found.begin(), found.end());
  std::sort(foreign.begin(), foreign.end());
  std::vector<std::string> indexes;
  for (const std::string& name : found)
    if (name.ends_with(kIndexSuffix)) indexes.push_back(name);
  if (indexes.size() == 1) return folder + "/" + indexes[0];
  if (found.size() == 1) return folder + "/" + found[0];
  if (found.size() > 1)
    return Malformed(Str("the folder holds several weight files: ", List(found)))
        .File(folder)
        .Hint("Name the one that is meant");
  if (!foreign.empty())
    return Malformed(Str("the folder holds only weights of other kinds: ", List(foreign)))
        .File(folder)
        .Hint("safetensors and PyTorch weights are read");
  return Malformed("the folder holds no weights")
      .File(folder)
      .Hint(Str("Looked for ", List(Checkpoint::WeightNames()), " and any single .safetensors, .bin, .pt or .pth"));
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> CheckpointBuilder::Open(const std::string& path) {
  CheckpointBuilder builder;
  builder.out_->path_ = path;
  const bool folder = IsFolder(path);
  builder.out_->folder_ = folder ? path : FolderOf(path);
  Status s = folder ? builder.OpenFolder(path) : builder.OpenFile(path);
  if (!s.ok()) return std::move(s).File(path);
  if (builder.out_->names_.empty()) return Malformed("the checkpoint holds no tensors").File(path);
  TERN_RETURN_IF_ERROR(builder.OpenConfig());
  return std::move(builder.out_);
}

Result<std::unique_ptr<Checkpoint>> CheckpointBuilder::OpenBytes(std::span<const uint8_t> bytes) {
  CheckpointBuilder builder;
  TERN_RETURN_IF_ERROR(builder.AddContainer(bytes, nullptr));
  return std::move(builder.out_);
}

Status CheckpointBuilder::OpenFolder(const std::string& folder) {
  for (const std::string& name : Checkpoint::WeightNames())
    if (FileExists(folder + "/" + name)) return OpenFile(folder + "/" + name);
  TERN_ASSIGN(std::string path, OnlyWeightFile(folder));
  return OpenFile(path);
}

Status CheckpointBuilder::OpenFile(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto bytes = file->bytes();
  uint64_t header_bytes = 0;
  if (bytes.size() >= 8) std::memcpy(&header_bytes, bytes.data(), 8);
  // An index, unless the first eight bytes can be the header length of a safetensors file (no eight characters of text can).
  const bool can_be_length = bytes.size() >= 8 && header_bytes <= bytes.size() - 8;
  if (!can_be_length && LooksLikeJson(bytes)) return OpenIndex(path, file->text());
  out_->files_.push_back(file);
  return std::move(AddContainer(bytes, nullptr)).File(path);
}

Status CheckpointBuilder::OpenIndex(const std::string& path, std::string_view text) {
  JsonLimits limits;
  limits.max_depth = 8;
  auto json = ParseJson(text, limits);
  if (!json.ok()) return Status(json.status()).File(path);
  if (!json->is_object() || !json->contains("weight_map") || !(*json)["weight_map"].is_object())
    return Malformed("not an index of shards: it has no object 'weight_map'").File(path);
  const Json& map = (*json)["weight_map"];
  if (map.size() > kMaxCheckpointTensors)
    return Malformed("too many tensors").File(path).Got(map.size(), Str("at most ", kMaxCheckpointTensors));

  std::vector<std::string> shards;
  std::set<std::string> seen;
  for (const auto& [name, shard] : map.items()) {
    if (Status s = CheckTensorName(name); !s.ok()) return std::move(s).File(path);
    if (!shard.is_string())
      return Malformed(Str("the shard of '", Printable(name), "' must be a string but is ", shard.type_name()))
          .File(path);
    if (seen.insert(shard.get<std::string>()).second) shards.push_back(shard.get<std::string>());
  }
  // All that is missing is told at once; a name that leads elsewhere is not even looked for.
  const std::string folder = FolderOf(path);
  std::vector<std::string> missing;
  for (const std::string& shard : shards) {
    auto plain = PlainNameIn(folder, shard);
    if (plain.ok()) continue;
    if (plain.status().code() == Code::kMalformed)
      return Malformed(Str("the shard name '", Printable(shard), "' must be a plain file in this folder"))
          .File(path)
          .Hint(plain.status().what());
    missing.push_back(shard);
  }
  if (!missing.empty())
    return Status(Code::kIncomplete, Str(missing.size(), " of ", shards.size(), " shards are missing: ", List(missing)))
        .File(path)
        .Hint("Download the complete model");

  std::vector<std::string> repeated;
  for (const std::string& shard : shards) {
    TERN_ASSIGN(std::string plain, PlainNameIn(folder, shard));
    TERN_ASSIGN(auto file, MappedFile::Open(plain));
    out_->files_.push_back(file);
    TERN_RETURN_IF_ERROR(std::move(AddContainer(file->bytes(), &repeated)).File(plain));
  }
  if (!repeated.empty())
    return Status(Code::kIncomplete, Str("tensors that stand in two shards: ", List(repeated))).File(path);
  for (const auto& [name, shard] : map.items())
    if (!out_->Has(name)) missing.push_back(name);
  if (!missing.empty())
    return Status(Code::kIncomplete, Str(missing.size(), " tensors of the index stand in no shard: ", List(missing)))
        .File(path);
  return {};
}

Status CheckpointBuilder::OpenConfig() {
  const std::string path = out_->folder_ + "/config.json";
  if (!FileExists(path)) return {};
  TERN_ASSIGN(std::string text, ReadFile(path, 16 << 20));
  auto config = ParseJson(text);
  if (!config.ok()) return Status(config.status()).File(path);
  if (!config->is_object())
    return Malformed(Str("the configuration must be an object but is ", config->type_name())).File(path);
  out_->config_ = std::move(*config);
  return {};
}

Status CheckpointBuilder::AddContainer(std::span<const uint8_t> bytes, std::vector<std::string>* repeated) {
  if (LooksLikeZip(bytes) || LooksLikeTorchLegacy(bytes)) {
    const bool zip = LooksLikeZip(bytes);
    out_->container_ = zip ? "torch zip" : "torch legacy";
    TERN_ASSIGN(TorchContent content, zip ? ParseTorchZip(bytes) : ParseTorchLegacy(bytes));
    for (TorchTensor& t : content.tensors) AddTensor(std::move(t.name), t.view, t.attribute, repeated);
    if (out_->attributes_.empty()) out_->attributes_ = std::move(content.attributes);
    return {};
  }
  uint64_t header_bytes = 0;
  if (bytes.size() >= 8) std::memcpy(&header_bytes, bytes.data(), 8);
  // Not '{' at the ninth byte, yet a length that fits: a safetensors file with a damaged header, and its parser says
  // what is wrong.
  const bool plausible =
      bytes.size() > 8 && SniffFileKind(bytes) == FileKind::kUnknown && header_bytes <= bytes.size() - 8;
  if (!LooksLikeSafetensors(bytes) && !plausible) return RefuseAsCheckpoint(bytes);
  out_->container_ = "safetensors";
  TERN_ASSIGN(Safetensors file, Safetensors::Parse(bytes));
  for (const auto& item : file.items()) {
    const ConstTensor& t = item.tensor;
    AddTensor(item.name, StridedView::Dense(t.type, t.shape, {t.as<uint8_t>(), static_cast<size_t>(t.bytes())}), false,
              repeated);
  }
  return {};
}

void CheckpointBuilder::AddTensor(std::string name, const StridedView& view, bool attribute,
                                  std::vector<std::string>* repeated) {
  auto [it, fresh] = out_->entries_.try_emplace(name, Checkpoint::Entry{{view.type, view.shape}, view});
  if (!fresh) {
    if (repeated) repeated->push_back(std::move(name));
    return;
  }
  if (view.shape.elements() > 0) out_->by_address_.emplace(view.first_element(), name);
  (attribute ? out_->attribute_names_ : out_->names_).push_back(std::move(name));
}

}  // namespace tern

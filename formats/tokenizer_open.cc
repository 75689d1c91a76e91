// Tokenizer::Open: which files of a folder make a tokenizer, and of what kind.
#include <algorithm>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "formats/file_kind.h"
#include "formats/model_file.h"
#include "formats/tokenizer.h"

namespace tern {
namespace {

bool Has(const std::string& folder, const char* name) { return IsRegularFile(folder + "/" + name); }

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }
std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// A string of a small JSON file of the folder, "" if there is none.
std::string ConfigText(const std::string& folder, const char* file, const char* key) {
  if (!Has(folder, file)) return "";
  auto bytes = ReadFile(folder + "/" + file, 16 << 20);
  if (!bytes.ok()) return "";
  auto json = ParseJson(*bytes);
  if (!json.ok() || !json->is_object()) return "";
  auto it = json->find(key);
  return it != json->end() && it->is_string() ? it->get<std::string>() : "";
}

// The family that a folder's configuration names: "albert", "t5", ... or "".
std::string FamilyOf(const std::string& folder) {
  std::string name = ConfigText(folder, "tokenizer_config.json", "tokenizer_class") + " " + ConfigText(folder, "config.json", "model_type");
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const auto& [word, family] : {std::pair<const char*, const char*>{"albert", "albert"}, {"reformer", "reformer"}, {"roberta", "roberta"}, {"t5", "t5"},
                                     {"switch", "t5"}, {"gpt2", "gpt2"}, {"transfoxl", "transfo-xl"}, {"transfo-xl", "transfo-xl"}, {"bert", "bert"}, {"electra", "bert"}, {"mpnet", "bert"}})
    if (name.find(word) != std::string::npos) return family;
  return "";
}

struct KindFiles {
  const char* kind;
  // Each group: the first name that exists is read under the group's first name. Groups marked optional may be missing.
  struct Group {
    std::vector<const char*> names;
    bool optional = false;
  };
  std::vector<Group> groups;
};

const std::vector<KindFiles>& Kinds() {
  static const auto* kinds = new std::vector<KindFiles>{
      {"spm", {{{"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model"}}}},
      {"bytes", {}},
  };
  return *kinds;
}

const KindFiles* FindKind(std::string_view kind) {
  for (const KindFiles& k : Kinds())
    if (k.kind == kind) return &k;
  return nullptr;
}

// What a folder without --kind holds; "" if nothing.
std::string KindOfFolder(const std::string& folder) {
  const std::string family = FamilyOf(folder);
  if (Has(folder, "tokenizer.model") || Has(folder, "spiece.model")) return "spm";
  if (family == "reformer") return "bytes";  // google/reformer-enwik8 has no tokenizer files
  return "";
}

std::string KindOfFile(const std::string& path) {
  const std::string name = BaseName(path);
  if (name.ends_with(".model")) return "spm";
  return "";
}

Result<std::unique_ptr<Tokenizer>> MakeFrom(const std::string& path, TokenizerFiles files) {
  auto made = MakeTokenizer(std::move(files));
  if (!made.ok()) return Status(made.status()).File(path);
  return made;
}

Result<std::unique_ptr<Tokenizer>> OpenFromModel(const std::string& path, std::string_view kind) {
  if (!kind.empty()) return UsageError("a .tern file says itself what kind its tokenizer is").File(path).Hint("Leave out --kind.");
  TERN_ASSIGN(auto model, ModelFile::Open(path));
  const bool has = std::any_of(model->blobs().begin(), model->blobs().end(), [](const BlobRecord& blob) { return blob.name == "tokenizer"; });
  if (!has) return Malformed("the model has no tokenizer").File(path).Hint("Convert it again from a folder that holds its tokenizer files.");
  auto bytes = model->Blob("tokenizer");
  if (!bytes.ok()) return bytes.status();
  auto tokenizer = Tokenizer::Deserialize(*bytes);
  if (!tokenizer.ok()) return Status(tokenizer.status()).Where("tokenizer").File(path);
  return tokenizer;
}

}  // namespace

bool Tokenizer::Recognizes(const std::string& path) {
  if (IsFolder(path)) return !KindOfFolder(path).empty();
  return IsRegularFile(path) && !KindOfFile(path).empty();
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Open(const std::string& path, std::string_view kind) {
  const bool folder = IsFolder(path);
  if (!folder && !FileExists(path) && kind != "bytes") return IoError("no such file or folder").File(path);
  if (!folder && FileExists(path)) {
    TERN_ASSIGN(auto mapped, MappedFile::Open(path));
    const FileKind content = SniffFileKind(mapped->bytes());
    if (content == FileKind::kTern) return OpenFromModel(path, kind);
    if (content == FileKind::kEmpty || content == FileKind::kGitLfsPointer || content == FileKind::kHtml)
      return WrongKind(content, "a tokenizer").File(path);
  }
  TokenizerFiles files;
  files.kind = !kind.empty() ? std::string(kind) : folder ? KindOfFolder(path) : KindOfFile(path);
  if (files.kind.empty())
    return Malformed(folder ? "no tokenizer files in this folder" : "this file is of no known kind of tokenizer").File(path).Hint(
        "Known: tokenizer.json, spiece.model, tokenizer.model, vocab.txt, vocab.json with merges.txt, vocab.pkl, vocab.bin, cache.pt; --kind says which.");
  const KindFiles* wanted = FindKind(files.kind);
  if (!wanted) return MakeTokenizer(std::move(files));  // says which kinds there are
  bool file_used = folder;
  for (const auto& group : wanted->groups) {
    std::string found;
    if (!folder && !file_used && !group.optional) {
      found = path;
      file_used = true;
    } else {
      for (const char* name : group.names)
        if (found.empty() && Has(folder ? path : FolderOf(path), name)) found = (folder ? path : FolderOf(path)) + "/" + name;
    }
    if (found.empty()) {
      if (group.optional) continue;
      return IoError(Str("a tokenizer of kind ", files.kind, " needs ", group.names[0])).File(path);
    }
    auto bytes = ReadFile(found, TokenizerFiles::kMaxFileBytes);
    if (!bytes.ok()) return bytes.status();
    files.files.emplace_back(group.names[0], std::move(bytes).value());
  }
  return MakeFrom(path, std::move(files));
}

}  // namespace tern

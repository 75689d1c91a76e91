// Tokenizer::Open: which files of a folder make a tokenizer, and of what kind.
#include <algorithm>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "formats/file_kind.h"
#include "formats/model_file.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_xl_vocabulary.h"

namespace tern {
namespace {

bool Has(const std::string& folder, const char* name) {
  return IsRegularFile(folder + "/" + name);
}

std::string BaseName(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}
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

bool ConfigFlag(const std::string& folder, const char* key) {
  auto bytes = ReadFile(folder + "/tokenizer_config.json", 16 << 20);
  if (!bytes.ok()) return false;
  auto json = ParseJson(*bytes);
  if (!json.ok() || !json->is_object()) return false;
  auto it = json->find(key);
  return it != json->end() && it->is_boolean() && it->get<bool>();
}

// The family that a folder's configuration names: "albert", "t5", ... or "".
std::string FamilyOf(const std::string& folder) {
  std::string name = ConfigText(folder, "tokenizer_config.json", "tokenizer_class") + " " +
                     ConfigText(folder, "config.json", "model_type");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const auto& [word, family] : {std::pair<const char*, const char*>{"albert", "albert"},
                                     {"reformer", "reformer"},
                                     {"roberta", "roberta"},
                                     {"t5", "t5"},
                                     {"switch", "t5"},
                                     {"gpt2", "gpt2"},
                                     {"transfoxl", "transfo-xl"},
                                     {"transfo-xl", "transfo-xl"},
                                     {"bert", "bert"},
                                     {"electra", "bert"},
                                     {"mpnet", "bert"}})
    if (name.find(word) != std::string::npos) return family;
  return "";
}

// The files of a kind. Each group: the first name that exists is read, and kept under the group's first name.
struct Group {
  std::vector<const char*> names;
  bool optional = false;
};
const std::vector<Group>* GroupsOf(std::string_view kind) {
  static const auto* kinds = new std::vector<std::pair<std::string_view, std::vector<Group>>>{
      {"spm", {{{"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model"}}}},
      {"albert",
       {{{"spiece.model", "tokenizer.model"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"t5",
       {{{"spiece.model", "tokenizer.model"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"reformer",
       {{{"spiece.model", "tokenizer.model"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"bert", {{{"vocab.txt"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"gpt2",
       {{{"vocab.json"}}, {{"merges.txt"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"roberta",
       {{{"vocab.json"}}, {{"merges.txt"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"json", {{{"tokenizer.json"}}, {{"tokenizer_config.json"}, true}, {{"special_tokens_map.json"}, true}}},
      {"bytes", {}},
  };
  for (const auto& [name, groups] : *kinds)
    if (name == kind) return &groups;
  return nullptr;
}

constexpr const char* kXlFiles[] = {"vocab.pkl", "vocab.bin",         "cache.pt",
                                    "cache.pkl", "1b_word_vocab.txt", "vocab.txt"};
bool IsXlKind(std::string_view kind) {
  return kind == "transfo-xl" || kind == "xl-pretok" || kind == "xl-lm1b" || kind == "xl-text8" ||
         kind == "xl-bytes-decimal";
}

// What a folder without --kind holds; "" if nothing.
std::string KindOfFolder(const std::string& folder) {
  const std::string family = FamilyOf(folder);
  if (Has(folder, "tokenizer.json")) return "json";
  if (Has(folder, "spiece.model") && (family == "albert" || family == "t5" || family == "reformer")) return family;
  if (Has(folder, "vocab.json") && Has(folder, "merges.txt")) return family == "roberta" ? "roberta" : "gpt2";
  if (Has(folder, "vocab.txt") && family != "transfo-xl") return "bert";
  if (Has(folder, "tokenizer.model") || Has(folder, "spiece.model")) return "spm";
  for (const char* name : {"vocab.pkl", "vocab.bin", "cache.pt", "cache.pkl"})
    if (Has(folder, name)) return "xl";  // which one the file itself says
  if (Has(folder, "1b_word_vocab.txt")) return "xl-lm1b";
  if (family == "reformer") return "bytes";  // google/reformer-enwik8 has no tokenizer files
  return "";
}

std::string KindOfFile(const std::string& path, FileKind content) {
  const std::string name = BaseName(path);
  if (name.ends_with(".model")) return "spm";
  if (name == "1b_word_vocab.txt") return "xl-lm1b";
  if (name == "vocab.json" || name == "merges.txt") return FamilyOf(FolderOf(path)) == "roberta" ? "roberta" : "gpt2";
  if (content == FileKind::kJson && !name.ends_with(".txt"))
    return "json";  // a vocabulary that begins with [PAD] is none
  if (name == "vocab.txt" || (content == FileKind::kJson && name.ends_with(".txt")) ||
      (content == FileKind::kText && name.ends_with(".txt")))
    return "bert";
  if (content == FileKind::kPickle || content == FileKind::kZip) return "xl";
  return "";
}

FileKind ContentOf(const std::string& path) {
  auto mapped = MappedFile::Open(path);
  return mapped.ok() ? SniffFileKind((*mapped)->bytes()) : FileKind::kUnknown;
}

Result<std::unique_ptr<Tokenizer>> MakeFrom(const std::string& path, TokenizerFiles files) {
  auto made = MakeTokenizer(std::move(files));
  if (!made.ok()) return Status(made.status()).File(path);
  return made;
}

Result<std::unique_ptr<Tokenizer>> OpenFromModel(const std::string& path, std::string_view kind) {
  if (!kind.empty())
    return UsageError("a .tern file says itself what kind its tokenizer is").File(path).Hint("Leave out --kind.");
  TERN_ASSIGN(auto model, ModelFile::Open(path));
  const bool has = std::any_of(model->blobs().begin(), model->blobs().end(),
                               [](const BlobRecord& blob) { return blob.name == "tokenizer"; });
  if (!has)
    return Malformed("the model has no tokenizer")
        .File(path)
        .Hint("Convert it again from a folder that holds its tokenizer files.");
  auto bytes = model->Blob("tokenizer");
  if (!bytes.ok()) return bytes.status();
  auto tokenizer = Tokenizer::Deserialize(*bytes);
  if (!tokenizer.ok()) return Status(tokenizer.status()).Where("tokenizer").File(path);
  return tokenizer;
}

// A Transformer-XL vocabulary becomes a plain table. Kind "xl": what the file says (a Corpus names its dataset).
Result<std::unique_ptr<Tokenizer>> OpenXl(const std::string& path, bool folder, std::string kind) {
  std::string file = folder ? "" : path;
  for (const char* name : kXlFiles)
    if (file.empty() && Has(path, name)) file = path + "/" + name;
  if (file.empty())
    return IoError(Str("a tokenizer of kind ", kind,
                       " needs one of vocab.pkl, vocab.bin, cache.pt, 1b_word_vocab.txt, vocab.txt"))
        .File(path);
  TERN_ASSIGN(auto mapped, MappedFile::Open(file));
  const FileKind content = SniffFileKind(mapped->bytes());
  const bool pickled = content == FileKind::kPickle || content == FileKind::kZip;
  if (!pickled && content != FileKind::kText) return WrongKind(content, "a vocabulary").File(file);
  auto read = pickled ? XlVocabulary::FromPickle(mapped->bytes()) : XlVocabulary::FromText(mapped->text());
  if (!read.ok()) return Status(read.status()).File(file);
  XlVocabulary vocabulary = std::move(read).value();
  if (kind == "xl") {
    const std::string& dataset = vocabulary.dataset;
    kind = dataset.empty()       ? "transfo-xl"
           : dataset == "enwik8" ? "xl-bytes-decimal"
           : dataset == "text8"  ? "xl-text8"
           : dataset == "lm1b"   ? "xl-lm1b"
                                 : "xl-pretok";
  }
  if (kind == "transfo-xl") {
    vocabulary.lower_case = ConfigFlag(folder ? path : FolderOf(path), "lower_case");
    for (const char* unknown : {"<unk>", "<UNK>"})
      if (auto it = std::find(vocabulary.symbols.begin(), vocabulary.symbols.end(), unknown);
          vocabulary.unk_id < 0 && it != vocabulary.symbols.end())
        vocabulary.unk_id = static_cast<int32_t>(it - vocabulary.symbols.begin());
  }
  TokenizerFiles files;
  files.kind = kind;
  files.files.emplace_back("symbols", vocabulary.Serialize());
  return MakeFrom(file, std::move(files));
}

}  // namespace

bool Tokenizer::Recognizes(const std::string& path) {
  if (IsFolder(path)) return !KindOfFolder(path).empty();
  return IsRegularFile(path) && !KindOfFile(path, ContentOf(path)).empty();
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Open(const std::string& path, std::string_view kind) {
  const bool folder = IsFolder(path);
  TokenizerFiles files;
  files.kind = std::string(kind);
  if (!folder) {
    TERN_ASSIGN(auto mapped, MappedFile::Open(path));
    const FileKind content = SniffFileKind(mapped->bytes());
    if (content == FileKind::kTern) return OpenFromModel(path, kind);
    if (content == FileKind::kEmpty || content == FileKind::kGitLfsPointer || content == FileKind::kHtml)
      return WrongKind(content, "a tokenizer").File(path);
    if (kind.empty()) files.kind = KindOfFile(path, content);
  } else if (kind.empty()) {
    files.kind = KindOfFolder(path);
  }
  if (files.kind.empty())
    return Malformed(folder ? "no tokenizer files in this folder" : "this file is of no known kind of tokenizer")
        .File(path)
        .Hint(
            "Known: tokenizer.json, spiece.model, tokenizer.model, vocab.txt, vocab.json with merges.txt, vocab.pkl, "
            "vocab.bin, cache.pt; --kind says which.");
  if (files.kind == "xl" || IsXlKind(files.kind)) return OpenXl(path, folder, files.kind);
  const std::vector<Group>* groups = GroupsOf(files.kind);
  if (!groups) return MakeTokenizer(std::move(files));  // says which kinds there are
  bool file_used = folder;
  const std::string around = folder ? path : FolderOf(path);
  for (const Group& group : *groups) {
    std::string found;
    if (!file_used && !group.optional) {
      found = path;
      file_used = true;
    }
    for (const char* name : group.names)
      if (found.empty() && Has(around, name)) found = around + "/" + name;
    if (found.empty() && group.optional) continue;
    if (found.empty()) return IoError(Str("a tokenizer of kind ", files.kind, " needs ", group.names[0])).File(path);
    auto bytes = ReadFile(found, TokenizerFiles::kMaxFileBytes);
    if (!bytes.ok()) return bytes.status();
    const FileKind content = SniffFileKind({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()});
    if (content == FileKind::kGitLfsPointer || content == FileKind::kHtml)
      return WrongKind(content, "a tokenizer").File(found);
    files.files.emplace_back(group.names[0], std::move(bytes).value());
  }
  return MakeFrom(path, std::move(files));
}

}  // namespace tern

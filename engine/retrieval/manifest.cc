#include "engine/retrieval/manifest.h"

#include <cstdio>
#include <filesystem>

#include "engine/base/hash.h"

namespace tern {
namespace {

constexpr std::string_view kFormat = "tern-index";
constexpr int64_t kVersion = 1, kMostBlocks = 1 << 20;
constexpr uint64_t kMostManifestBytes = 256 << 20;

uint64_t DigestOf(const Json& manifest) {
  Json copy = manifest;
  copy.erase("digest");
  const std::string text = DumpJson(copy);
  return Xxh3({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Status CheckListType(const Json& type, const char* field) {
  if (type.is_string() && ListTypeOf(type.get<std::string>())) return {};
  return Malformed("the lists are of an unknown kind").Where(Str("field '", field, "'")).Got(Printable(DumpJson(type), 40), "f32, q8 or pq");
}

}  // namespace

std::string Hex(uint64_t v) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(v));
  return text;
}

std::string BlockName(int64_t number) {
  char text[40];
  std::snprintf(text, sizeof text, "block-%06lld.tblk", static_cast<long long>(number));
  return text;
}

Json SettingsJson(const DatabaseSettings& s) {
  return {{"payload", s.payload == PayloadKind::kText ? "text" : "tokens"},
          {"type", s.type == VectorType::kQ8 ? "q8" : "f32"},
          {"metric", MetricName(s.metric)},
          {"dim", s.dim},
          {"chunk", s.chunk},
          {"block_chunks", s.block_chunks},
          {"embedder", s.embedder},
          {"embedder_digest", s.embedder_digest}};
}

Json IdentityJson(const DatabaseSettings& s) {
  Json j = SettingsJson(s);
  j.erase("embedder");
  return j;
}

uint64_t MakerOf(const DatabaseSettings& s) {
  const std::string text = DumpJson(IdentityJson(s));
  return Xxh3({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Result<DatabaseSettings> ParseDatabaseSettings(const Json& j) {
  auto bad = [](const char* field) { return Malformed("is missing or out of range").Where(Str("manifest field '", field, "'")); };
  auto text = [&](const char* key) -> const std::string* { return j.contains(key) && j[key].is_string() ? j[key].get_ptr<const std::string*>() : nullptr; };
  auto number = [&](const char* key, int64_t least, int64_t most) -> int64_t {
    return j.contains(key) && j[key].is_number_integer() && j[key] >= least && j[key] <= most ? j[key].get<int64_t>() : -1;
  };
  DatabaseSettings s;
  const std::string *payload = text("payload"), *type = text("type"), *metric = text("metric"), *embedder = text("embedder"), *digest = text("embedder_digest");
  if (!payload || (*payload != "text" && *payload != "tokens")) return bad("payload");
  if (!type || (*type != "f32" && *type != "q8")) return bad("type");
  if (!metric || !MetricOf(*metric)) return bad("metric");
  if (!embedder || !digest) return bad("embedder");
  s.payload = *payload == "text" ? PayloadKind::kText : PayloadKind::kTokens;
  s.type = *type == "q8" ? VectorType::kQ8 : VectorType::kF32;
  s.metric = *MetricOf(*metric);
  s.embedder = *embedder, s.embedder_digest = *digest;
  if ((s.dim = number("dim", 1, 65536)) < 0) return bad("dim");
  if ((s.chunk = number("chunk", 1, 65536)) < 0) return bad("chunk");
  if ((s.block_chunks = number("block_chunks", 1, 1 << 24)) < 0) return bad("block_chunks");
  return s;
}

Result<Json> ReadManifest(const std::string& folder) {
  const std::string path = folder + "/manifest.json";
  if (!IsFolder(folder)) return IoError("no such folder").File(folder);
  if (!FileExists(path)) return Malformed("there is no manifest.json: this is no retrieval database, or its build was not finished").File(folder).Hint("Run the same index build again: it goes on where it was stopped");
  TERN_ASSIGN(std::string text, ReadFile(path, kMostManifestBytes));
  auto json = ParseJson(text);
  if (!json.ok()) return Status(json.status()).File(path);
  const Json& j = *json;
  if (!j.is_object() || !j.contains("format") || j["format"] != kFormat) return Malformed("this is no manifest of a retrieval database").File(path);
  if (!j.contains("version") || j["version"] != kVersion) return Malformed("the database was written by another release").File(path);
  if (!j.contains("digest") || j["digest"] != Hex(DigestOf(j))) return Status(Code::kDigest, "the digest of the manifest differs").File(path);
  if (!j.contains("blocks") || !j["blocks"].is_array() || static_cast<int64_t>(j["blocks"].size()) > kMostBlocks || !j.contains("settings") || !j["settings"].is_object() || !j.contains("sources") || !j["sources"].is_array())
    return Malformed("blocks, sources or settings are missing").File(path);
  if (j["blocks"].empty()) return Malformed("the database names no block").File(path);
  Status lists;
  if (j.contains("unfinished")) lists = CheckListType(j["unfinished"], "unfinished");
  if (lists.ok() && j.contains("lists") && j["lists"].contains("type")) lists = CheckListType(j["lists"]["type"], "lists.type");
  if (!lists.ok()) return std::move(lists).File(path);
  return json;
}

Status CheckNoOtherFiles(const std::string& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("block-") && !name.starts_with("manifest.json") && !name.starts_with("lists.tivf") && !name.starts_with("share-") && !name.starts_with("."))
      return UsageError("the folder holds other files").File(folder).Where(Str("'", Printable(name, 80), "'")).Hint("Name a new folder");
  }
  if (error) return IoError(Str("cannot list the folder: ", error.message())).File(folder);
  return {};
}

Result<FileWriter> LockDatabase(const std::string& folder, const std::string& name) {
  auto lock = FileWriter::Create(folder + "/" + name);
  if (!lock.ok()) return Status(lock.status()).File(folder).Hint("Another process may be writing to this database: wait for it to end");
  return lock;
}

Status WriteManifest(const std::string& folder, Json manifest) {
  manifest["digest"] = Hex(DigestOf(manifest));
  TERN_ASSIGN(FileWriter w, FileWriter::Create(folder + "/manifest.json"));
  TERN_RETURN_IF_ERROR(w.Write(DumpJson(manifest) + "\n"));
  return w.Commit();
}

Status AmendLockedManifest(const std::string& folder, const Json& members) {
  TERN_ASSIGN(Json manifest, ReadManifest(folder));
  if (members.contains("lists")) manifest.erase("unfinished"), manifest.erase("check");  // what was measured were the old ones
  manifest.update(members);
  return WriteManifest(folder, std::move(manifest));
}

Status AmendManifest(const std::string& folder, const Json& members) {
  TERN_ASSIGN(FileWriter lock, LockDatabase(folder));
  return AmendLockedManifest(folder, members);
}

std::string UnfinishedLists(const std::string& folder) {
  auto manifest = ReadManifest(folder);
  if (!manifest.ok() || !manifest->contains("unfinished") || !(*manifest)["unfinished"].is_string()) return {};
  return (*manifest)["unfinished"].get<std::string>();
}

Json NewManifest(const DatabaseSettings& settings, int64_t chunks, int64_t documents, const Json& blocks, const Json& sources) {
  return {{"format", kFormat}, {"version", kVersion}, {"settings", SettingsJson(settings)}, {"chunks", chunks}, {"documents", documents}, {"blocks", blocks}, {"sources", sources}};
}

}  // namespace tern

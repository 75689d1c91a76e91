#include "engine/retrieval/database.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "engine/base/dtype.h"
#include "engine/base/hash.h"
#include "engine/base/rng.h"

namespace tern {
namespace {

constexpr std::string_view kFormat = "tern-index";
constexpr int64_t kVersion = 1, kMostBlocks = 1 << 20;
constexpr uint64_t kMostManifestBytes = 256 << 20;

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

uint64_t DigestOf(const Json& manifest) {
  Json copy = manifest;
  copy.erase("digest");
  const std::string text = DumpJson(copy);
  return Xxh3({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
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

// What blocks of one database have in common.
Json IdentityJson(const DatabaseSettings& s) {
  Json j = SettingsJson(s);
  j.erase("embedder");
  return j;
}

uint64_t MakerOf(const DatabaseSettings& s) {
  const std::string text = DumpJson(IdentityJson(s));
  return Xxh3({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Result<DatabaseSettings> ParseSettings(const Json& j) {
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
  return json;
}

constexpr const char* kListsName = "/lists.tivf";

// Held as long as it lives. It is the lock of an output that is never written: it goes with the process.
Result<FileWriter> Lock(const std::string& folder, const std::string& name = "lock") {
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

Status AmendLocked(const std::string& folder, const Json& members) {
  TERN_ASSIGN(Json manifest, ReadManifest(folder));
  manifest.update(members);
  return WriteManifest(folder, std::move(manifest));
}

double Recall(const std::vector<SearchHit>& truth, const std::vector<SearchHit>& got, int64_t k) {
  int64_t hit = 0;
  for (size_t i = 0; i < truth.size(); ++i)
    for (size_t j = 0; j < static_cast<size_t>(k); ++j) hit += got[i - i % static_cast<size_t>(k) + j].id == truth[i].id;
  return truth.empty() ? 1 : static_cast<double>(hit) / static_cast<double>(truth.size());
}

}  // namespace

Status AmendManifest(const std::string& folder, const Json& members) {
  TERN_ASSIGN(FileWriter lock, Lock(folder));
  return AmendLocked(folder, members);
}

Result<ListsReport> BuildLists(const std::string& folder, const IvfOptions& wanted, double recall, Gang* gang) {
  TERN_RETURN_IF_ERROR(ReadManifest(folder).status());
  TERN_ASSIGN(FileWriter lock, Lock(folder));
  TERN_ASSIGN(auto d, Database::Open(folder, Database::Lists::kIgnore));
  IvfOptions options = wanted;
  options.metric = d->settings().metric;
  const int64_t dim = d->settings().dim, n = d->chunks();
  auto read = [&](int64_t id, float* out) {
    const std::vector<float> v = d->Vector(id);
    std::copy(v.begin(), v.end(), out);
  };
  TERN_ASSIGN(auto index, IvfIndex::Build(n, dim, read, options, gang));
  std::vector<float> queries;
  Rng rng(77);
  for (int64_t i = 0; i < std::min<int64_t>(200, n); ++i) {
    const std::vector<float> v = d->Vector(static_cast<int64_t>(rng.Below(static_cast<uint64_t>(n))));
    queries.insert(queries.end(), v.begin(), v.end());
  }
  SearchOptions search;
  search.metric = options.metric, search.k = std::min<int64_t>(10, n), search.cancel = options.cancel;
  TERN_ASSIGN(auto truth, Search(d->vectors(), queries, search, gang));
  ListsReport report{index->lists(), 1, 0};
  for (;; report.nprobe = std::min(report.nprobe * 2, report.lists)) {
    TERN_ASSIGN(auto got, index->Find(d->vectors(), queries, report.nprobe, search, gang));
    report.recall = Recall(truth, got, search.k);
    if (report.recall >= recall || report.nprobe == report.lists) break;
  }
  TERN_RETURN_IF_ERROR(index->Save(folder + kListsName));
  TERN_RETURN_IF_ERROR(AmendLocked(folder, {{"lists", {{"count", report.lists}, {"nprobe", report.nprobe}, {"recall_at_10", report.recall}}}}));
  return report;
}

Result<std::vector<SearchHit>> Database::Find(std::span<const float> queries, SearchOptions options, int64_t nprobe, bool exhaustive, Gang* gang) const {
  options.metric = settings_.metric;
  if (!lists_ || exhaustive) return Search(vectors_, queries, options, gang);
  return lists_->Find(vectors_, queries, nprobe > 0 ? nprobe : nprobe_, options, gang);
}

Result<std::shared_ptr<const Database>> Database::Open(const std::string& folder, Lists use) {
  std::shared_ptr<Database> d(new Database());
  d->folder_ = folder;
  TERN_ASSIGN(d->manifest_, ReadManifest(folder));
  auto settings = ParseSettings(d->manifest_["settings"]);
  if (!settings.ok()) return Status(settings.status()).File(folder + "/manifest.json");
  d->settings_ = *settings;
  d->vectors_.dim = settings->dim;
  int64_t number = 0, next_document = 0;
  for (const Json& entry : d->manifest_["blocks"]) {
    const std::string path = folder + "/" + BlockName(number++);
    TERN_ASSIGN(auto block, Block::Open(path));
    auto bad = [&](std::string what) { return Malformed(std::move(what)).File(path); };
    if (!entry.is_string() || entry != Hex(block->digest())) return Status(Code::kDigest, "this is not the block that the manifest names").File(path);
    if (block->dim() != settings->dim || block->kind() != settings->payload || block->type() != settings->type || block->maker() != MakerOf(*settings)) return bad("the block was made with other settings");
    if (block->first_chunk() != d->vectors_.rows()) return bad("its chunks do not follow the block before").Got(block->first_chunk(), d->vectors_.rows());
    if (block->first_document() != next_document && block->first_document() != next_document - 1) return bad("its documents do not follow the block before");
    next_document = block->first_document() + block->documents();
    d->vectors_.blocks.push_back(block->Vectors());
    d->vectors_.longest = std::max(d->vectors_.longest, block->longest());
    struct stat s;
    if (::stat(path.c_str(), &s) == 0) d->file_bytes_ += s.st_size;
    d->blocks_.push_back(std::move(block));
  }
  if (use == Lists::kUse && d->manifest_.contains("lists")) {
    const Json& lists = d->manifest_["lists"];
    TERN_ASSIGN(d->lists_, IvfIndex::Open(folder + kListsName));
    const bool good = lists.is_object() && lists.contains("nprobe") && lists["nprobe"].is_number_integer() && lists["nprobe"] >= 1 && lists["nprobe"] <= d->lists_->lists();
    if (!good || d->lists_->rows() != d->chunks() || d->lists_->dim() != settings->dim || d->lists_->metric() != settings->metric)
      return Malformed("the lists do not belong to this database").File(folder + kListsName).Hint("Build them again with index lists");
    d->nprobe_ = lists["nprobe"].get<int64_t>();
  }
  return std::shared_ptr<const Database>(std::move(d));
}

Status Database::Verify(const std::function<void(int64_t, int64_t)>& progress) const {
  int64_t done = 0;
  for (const auto& block : blocks_) {
    TERN_RETURN_IF_ERROR(block->Verify());
    if (progress) progress(++done, block_count());
  }
  return {};
}

const Block& Database::BlockOf(int64_t chunk) const {
  auto it = std::upper_bound(blocks_.begin(), blocks_.end(), chunk, [](int64_t v, const auto& b) { return v < b->first_chunk(); });
  return **(it - 1);
}

std::string_view Database::Payload(int64_t chunk) const {
  const Block& b = BlockOf(chunk);
  return b.Payload(chunk - b.first_chunk());
}

int64_t Database::DocumentOf(int64_t chunk) const {
  const Block& b = BlockOf(chunk);
  return b.DocumentOf(chunk - b.first_chunk());
}

DocumentRecord Database::Document(int64_t document) const {
  auto it = std::upper_bound(blocks_.begin(), blocks_.end(), document, [](int64_t v, const auto& b) { return v < b->first_document(); });
  const Block& b = **(it - 1);
  return b.Document(document - b.first_document());
}

int64_t Database::Next(int64_t chunk) const { return chunk + 1 < chunks() && DocumentOf(chunk + 1) == DocumentOf(chunk) ? chunk + 1 : -1; }

std::vector<float> Database::Vector(int64_t chunk) const {
  const Block& b = BlockOf(chunk);
  std::vector<float> out(static_cast<size_t>(settings_.dim));
  const VectorBlock v = b.Vectors();
  const int64_t row = chunk - b.first_chunk();
  if (!v.f16) UnpackRow(v.packed, row, out.data());
  for (size_t i = 0; v.f16 && i < out.size(); ++i) out[i] = F16ToF32(v.f16[static_cast<size_t>(row) * out.size() + i]);
  return out;
}

Result<DatabaseWriter> DatabaseWriter::Create(const std::string& folder, const DatabaseSettings& settings, Mode mode, Embed embed, Gang* gang, Share share) {
  if (share.parts < 1 || share.part < 0 || share.part >= share.parts) return UsageError("the share of a build is out of range").Got(Str(share.part, "/", share.parts), "0/N to N-1/N");
  DatabaseWriter w;
  w.share_ = share;
  w.folder_ = folder, w.settings_ = settings, w.embed_ = std::move(embed), w.gang_ = gang;
  if (settings.block_chunks < 1 || settings.block_chunks > (1 << 20)) return UsageError("the chunks of a block are out of range").Got(settings.block_chunks, Str("1 to ", 1 << 20));
  if (mode == Mode::kAppend) {
    TERN_RETURN_IF_ERROR(ReadManifest(folder).status());
    TERN_ASSIGN(w.lock_, Lock(folder));
    TERN_ASSIGN(auto old, Database::Open(folder, Database::Lists::kIgnore));
    TERN_RETURN_IF_ERROR(old->Verify());
    if (IdentityJson(old->settings()) != IdentityJson(settings)) return UsageError("the database was made with other settings, or another embedder").File(folder).Got(DumpJson(SettingsJson(settings)), DumpJson(SettingsJson(old->settings())));
    w.blocks_ = old->manifest()["blocks"], w.sources_ = old->manifest()["sources"];
    w.block_ = old->block_count(), w.next_chunk_ = old->chunks(), w.document_ = old->documents() - 1;
  } else {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return IoError(Str("cannot make the folder: ", error.message())).File(folder);
    // Blocks of a killed run may be here; anything else is somebody's own.
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (!name.starts_with("block-") && !name.starts_with("manifest.json") && !name.starts_with("lists.tivf") && !name.starts_with("."))
        return UsageError("the folder holds other files").File(folder).Where(Str("'", Printable(name, 80), "'")).Hint("Name a new folder");
    }
    if (error) return IoError(Str("cannot list the folder: ", error.message())).File(folder);
    TERN_ASSIGN(w.lock_, Lock(folder, share.parts > 1 ? Str("lock-", share.part, "-of-", share.parts) : "lock"));
    if (mode == Mode::kNew && FileExists(folder + "/manifest.json")) return UsageError("there is a database already").File(folder).Hint("index add appends to it; --overwrite replaces it");
    w.replacing_ = mode == Mode::kReplace;
  }
  w.content_.first_chunk = w.next_chunk_;
  return w;
}

std::string DatabaseWriter::PathOf(int64_t block) const { return folder_ + "/" + BlockName(block); }

Status DatabaseWriter::BeginDocument(const std::string& source, const std::string& id, int64_t position) {
  current_ = {source.substr(0, 65536), id.substr(0, 65536), position, -1};
  return {};
}

Status DatabaseWriter::AddChunk(std::string payload) {
  if (current_.first_chunk < 0) {  // its first: documents without chunks are not counted
    current_.first_chunk = next_chunk_;
    ++document_;
    document_listed_ = false;
  }
  if (content_.chunks.empty()) content_.first_chunk = next_chunk_, content_.first_document = document_;
  if (!document_listed_) content_.documents.push_back(current_), document_listed_ = true;
  content_.chunks.push_back({std::move(payload), document_});
  ++next_chunk_;
  if (static_cast<int64_t>(content_.chunks.size()) == settings_.block_chunks) return FlushBlock();
  return {};
}

Status DatabaseWriter::FlushBlock() {
  if (content_.chunks.empty()) return {};
  content_.kind = settings_.payload, content_.type = settings_.type, content_.dim = settings_.dim;
  content_.maker = MakerOf(settings_);
  const std::string path = PathOf(block_);
  std::shared_ptr<const Block> there;
  if (FileExists(path)) {
    auto opened = Block::Open(path);
    if (opened.ok() && (*opened)->dim() == settings_.dim && (*opened)->Verify().ok() && (*opened)->SameText(content_)) there = *opened;
  }
  if (!there && block_ % share_.parts != share_.part) {  // another's
    ++block_;
    content_ = BlockContent();
    document_listed_ = false;
    return {};
  }
  if (!there) {
    std::vector<std::string> texts;
    for (const auto& c : content_.chunks) texts.push_back(c.payload);
    content_.vectors.clear();
    TERN_RETURN_IF_ERROR(embed_(texts, &content_.vectors));
    if (static_cast<int64_t>(content_.vectors.size()) != static_cast<int64_t>(texts.size()) * settings_.dim) return InternalError("the embedder gave another number of vectors");
    if (replacing_) std::remove((folder_ + "/manifest.json").c_str());  // from now on its blocks are replaced
    replacing_ = false;
    TERN_RETURN_IF_ERROR(WriteBlock(path, content_, gang_));
    embedded_ += static_cast<int64_t>(texts.size());
    TERN_ASSIGN(there, Block::Open(path));
  }
  blocks_.push_back(Hex(there->digest()));
  ++block_;
  content_ = BlockContent();
  document_listed_ = false;
  return {};
}

Status DatabaseWriter::Finish(const Json& sources) {
  TERN_RETURN_IF_ERROR(FlushBlock());
  if (share_.parts > 1) {
    lock_.reset();
    return {};
  }
  if (blocks_.empty()) return UsageError("there is no text: the database would be empty").File(folder_);
  for (const Json& s : sources) sources_.push_back(s);
  Json manifest = {{"format", kFormat}, {"version", kVersion}, {"settings", SettingsJson(settings_)}, {"chunks", next_chunk_}, {"documents", document_ + 1}, {"blocks", blocks_}, {"sources", sources_}};
  TERN_RETURN_IF_ERROR(WriteManifest(folder_, std::move(manifest)));
  std::remove((folder_ + kListsName).c_str());  // of the chunks there were before
  for (int64_t extra = block_; FileExists(PathOf(extra)); ++extra) std::remove(PathOf(extra).c_str());
  lock_.reset();
  return {};
}

}  // namespace tern
